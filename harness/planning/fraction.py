"""Regular fractions of two-level designs: which combinations are run, and what is then confounded.

A factor's column is a product of the base factors' columns, so the alias structure is exact. Levels
are coded -1 (the first) and +1. A column is written as the set of base factors in its product, as
bits, with a sign; the product of two columns is the xor of their bits and the product of the signs.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

MOST_NODES = 5_000
"""Steps of the search for the best generators of one size; then the best of those seen is taken."""


class NoFractionError(ValueError):
    """No fraction of that many factors has the resolution asked for."""


@dataclass(frozen=True)
class Fraction:
    """A fraction of the 2^k combinations of k factors: 2^p runs of p base factors.

    Attributes:
        columns: for each factor the base factors it is the product of, as bits.
        signs: for each factor the sign of that product.
        base: how many base factors there are; they are the first ones.
    """

    columns: tuple[int, ...]
    signs: tuple[int, ...]
    base: int

    @property
    def runs(self) -> int:
        """Number of combinations."""
        return 1 << self.base

    @property
    def resolution(self) -> int:
        """Length of the shortest word of the defining relation."""
        for length in range(3, len(self.columns) + 1):
            if any(_xor(chosen) == 0 for chosen in itertools.combinations(self.columns, length)):
                return length
        raise AssertionError("more factors than base factors always depend on each other")

    def levels(self) -> Iterator[tuple[int, ...]]:
        """Codes (-1 or +1) of every factor, run by run; the first factor changes slowest."""
        for base in itertools.product((-1, 1), repeat=self.base):
            yield tuple(
                sign * _product(base[i] for i in range(self.base) if column >> i & 1)
                for column, sign in zip(self.columns, self.signs, strict=True)
            )

    def through(self, codes: Sequence[int]) -> Fraction:
        """The fraction of the same family that holds this combination of codes."""
        signs = tuple(
            code * _product(codes[i] for i in range(self.base) if column >> i & 1)
            for code, column in zip(codes, self.columns, strict=True)
        )
        return Fraction(self.columns, signs, self.base)

    def generators(self, names: Sequence[str]) -> dict[str, str]:
        """Factor -> the product of base factors it is set by, e.g. `{"d": "a*b*c"}`."""
        found = {}
        for name, column, sign in zip(names, self.columns, self.signs, strict=True):
            if column.bit_count() == 1:
                continue
            product = "*".join(names[i] for i in range(self.base) if column >> i & 1)
            found[name] = _signed(sign, product)
        return found

    def aliases(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Effect -> what it cannot be told from, up to two-factor interactions.

        Every main effect is a key. Interactions confounded with no main effect follow, the first of
        each confounded set as key. `-b*c` means that the effect is estimated minus that one.
        """
        groups: dict[int, list[tuple[str, int]]] = {}
        for name, column, sign in zip(names, self.columns, self.signs, strict=True):
            groups.setdefault(column, []).append((name, sign))
        for i, j in itertools.combinations(range(len(names)), 2):
            column = self.columns[i] ^ self.columns[j]
            pair = (f"{names[i]}*{names[j]}", self.signs[i] * self.signs[j])
            groups.setdefault(column, []).append(pair)
        return {
            own[0][0]: [_signed(own[0][1] * sign, name) for name, sign in own[1:]]
            for own in groups.values()
        }


def smallest_fraction(factors: int, resolution: int) -> Fraction:
    """The smallest fraction of at least that resolution; of equal size, that of least aberration.

    Least aberration (Fries and Hunter, 1980): the fewest words of length three in the defining
    relation, then of length four; longer ones are not compared. The search is bounded
    (`MOST_NODES`), so with many factors the fraction found may not be the best there is.

    Raises:
        NoFractionError: if only all combinations have that resolution.
    """
    for base in range(2, factors):
        if factors > (1 << base) - 1:
            continue
        columns = _Search(base, factors - base, resolution).best()
        if columns is not None:
            return Fraction(columns, (1,) * factors, base)
    raise NoFractionError(
        f"no fraction of {factors} factors has resolution {resolution}: all combinations are needed"
    )


class _Search:
    """Depth-first over sets of generators, in a fixed order.

    A column may join if no product of up to `resolution - 2` columns equals it: that product with
    it would be a word shorter than the resolution.
    """

    def __init__(self, base: int, wanted: int, resolution: int) -> None:
        self.base = base
        self.wanted = wanted
        self.resolution = resolution
        fit = [c for c in range(1, 1 << base) if c.bit_count() >= max(2, resolution - 1)]
        first = {c: [-(c >> i & 1) for i in range(base)] for c in fit}
        self.candidates = sorted(fit, key=lambda c: (c.bit_count(), first[c]))
        self.found: tuple[tuple[int, int], tuple[int, ...]] | None = None
        self.nodes = 0

    def best(self) -> tuple[int, ...] | None:
        if len(self.candidates) >= self.wanted:
            products = [{0}] + [set[int]() for _ in range(self.resolution - 2)]
            columns = [1 << i for i in range(self.base)]
            for column in columns:
                products = _with(products, column)
            self._extend(0, columns, products)
        return None if self.found is None else self.found[1]

    def _extend(self, start: int, columns: list[int], products: list[set[int]]) -> None:
        """Add generators from `start` on; `products[n]` holds the products of n columns."""
        chosen = len(columns) - self.base
        if chosen == self.wanted:
            aberration = _short_words(columns)
            if self.found is None or aberration < self.found[0]:
                self.found = (aberration, tuple(columns))
            return
        for number in range(start, len(self.candidates) - (self.wanted - chosen) + 1):
            if self.nodes >= MOST_NODES:
                return
            self.nodes += 1
            new = self.candidates[number]
            if not any(new in reached for reached in products):
                self._extend(number + 1, [*columns, new], _with(products, new))


def _with(products: list[set[int]], column: int) -> list[set[int]]:
    """Products of 0, 1, ... columns once another column has joined."""
    joined = [{p ^ column for p in reached} for reached in products[:-1]]
    return [products[0], *(a | b for a, b in zip(products[1:], joined, strict=True))]


def _short_words(columns: Sequence[int]) -> tuple[int, int]:
    """Words of length three and of length four in the defining relation."""
    pairs = Counter(a ^ b for a, b in itertools.combinations(columns, 2))
    threes = sum(pairs[column] for column in columns)
    return threes // 3, sum(n * (n - 1) // 2 for n in pairs.values()) // 3


def _xor(columns: Iterable[int]) -> int:
    found = 0
    for column in columns:
        found ^= column
    return found


def _product(values: Iterable[int]) -> int:
    found = 1
    for value in values:
        found *= value
    return found


def _signed(sign: int, name: str) -> str:
    return name if sign > 0 else f"-{name}"
