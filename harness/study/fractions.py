"""Regular fractions of two-level designs: what is run, what is confounded, and effects.

A factor's column is a product of the base factors' columns, so the alias structure is exact. Levels
are coded -1 (the first) and +1. A column is written as the set of base factors in its product, as
bits, with a sign; the product of two columns is the xor of their bits and the product of the signs.

Effects are estimated by least squares. Fitted is y = mean + sum of main effects. Its estimate of a
contrast is a weighted sum of the values of the arms; applied to the product of two columns, the
same weights say how much of that interaction is in it. Solved in whole fractions: what can be
estimated is no matter of rounding.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from harness.journal.trial import Arm

MOST_NODES = 5_000
"""Steps of the search for the best generators of one size; then the best of those seen is taken."""


class NoFractionError(ValueError):
    """No fraction of that many factors has the resolution asked for."""


@dataclass(frozen=True)
class FractionalDesign:
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

    def through(self, codes: Sequence[int]) -> FractionalDesign:
        """The fraction of the same family that holds this combination of codes."""
        signs = tuple(
            code * _product(codes[i] for i in range(self.base) if column >> i & 1)
            for code, column in zip(codes, self.columns, strict=True)
        )
        return FractionalDesign(self.columns, signs, self.base)

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


def smallest_fraction(factors: int, resolution: int) -> FractionalDesign:
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
            return FractionalDesign(columns, (1,) * factors, base)
    raise NoFractionError(
        f"no fraction of {factors} factors has resolution {resolution}: all combinations are needed"
    )


# Our own search rather than pyDOE3's, which imports scipy.stats (0.9 s, as long as a whole plan may
# take), refuses four factors at resolution 4, and does not minimise aberration. The tests check
# against it.
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
        # Short products of early factors first, as books list them; the same fraction on every
        # machine.
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


Factors = Mapping[str, Sequence[str]]
"""Factor -> its two level labels, the first coded -1."""


Effect = tuple[str, ...]
"""The factors whose product an effect is: none the mean, one a main effect, two an interaction."""


@dataclass(frozen=True)
class LeastSquares:
    """A contrast estimated by least squares."""

    weights: dict[str, float]
    """Arm -> weight; the estimate is the weighted sum of the arms' values."""
    aliases: list[str]
    """What else is in it: two-factor interactions, e.g. `b*c`, `-d*e`, `0.5 b*e`; in an
    interaction main effects, too."""


def estimate(
    arms: Sequence[Arm],
    factors: Factors,
    a: Mapping[str, str],
    b: Mapping[str, str],
    at: Mapping[str, str] | None = None,
) -> LeastSquares | None:
    """The main effects' part of `a - b`; None where the arms do not determine it.

    Args:
        arms: the arms there are; those not at the pinned levels are left out.
        factors: every factor with its two levels.
        a: factor -> label of one side; both sides name the same factors.
        b: factor -> label of the other side.
        at: factor -> label that pins other factors.
    """
    rows, free = _rows(arms, factors, at or {})
    one, other = (_codes(factors, side) for side in (a, b))
    wanted: dict[Effect, int] = {(f,): one.get(f, 0) - other.get(f, 0) for f in free}
    # Of interactions between the factors of both sides, that part is asked for.
    asked: dict[Effect, int] = {
        pair: one[pair[0]] * one[pair[1]] - other[pair[0]] * other[pair[1]]
        for pair in itertools.combinations(free, 2)
        if pair[0] in one and pair[1] in one
    }
    # Main effects only: an interaction that is confounded with one is told as its alias, never
    # modelled away.
    weights = _weights(rows, [(), *((f,) for f in free)], wanted)
    return None if weights is None else _estimated(rows, free, weights, asked, unit=2, main=False)


def estimate_side(
    arms: Sequence[Arm],
    factors: Factors,
    side: Mapping[str, str],
    at: Mapping[str, str] | None = None,
) -> LeastSquares | None:
    """The mean at some levels by main effects, over both levels of all other factors alike.

    Differences of two are `estimate`'s; None where the arms do not determine it.
    """
    rows, free = _rows(arms, factors, at or {})
    codes = _codes(factors, side)
    wanted: dict[Effect, int] = {(f,): codes.get(f, 0) for f in free}
    wanted[()] = 1
    asked: dict[Effect, int] = {
        (f, g): codes[f] * codes[g]
        for f, g in itertools.combinations(free, 2)
        if f in codes and g in codes
    }
    weights = _weights(rows, [(), *((f,) for f in free)], wanted)
    return None if weights is None else _estimated(rows, free, weights, asked, unit=1, main=False)


def estimate_interaction(
    arms: Sequence[Arm],
    factors: Factors,
    pair: tuple[str, str],
    at: Mapping[str, str] | None = None,
) -> LeastSquares | None:
    """The difference of differences of two factors, second levels against first: weights 4 / N.

    Where a main effect is the same product of columns, it is not fitted but told as an alias. None
    where the arms do not determine it even so.
    """
    rows, free = _rows(arms, factors, at or {})
    both = (*(f for f in free if f in pair),)
    for mains in (free, both):  # as many main effects out of it as the arms allow
        model: list[Effect] = [(), *((f,) for f in mains), both]
        weights = _weights(rows, model, {both: 4})
        if weights is not None:
            return _estimated(rows, free, weights, {both: 4}, unit=4, main=True)
    return None


def _rows(
    arms: Sequence[Arm], factors: Factors, pins: Mapping[str, str]
) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Arm -> factor -> code, of the arms at the pinned levels; the factors that are not pinned."""
    free = [f for f in factors if f not in pins]
    rows = {
        arm.name: {f: _code(factors[f], arm.levels[f]) for f in free}
        for arm in arms
        if all(arm.levels[f] == label for f, label in pins.items())
    }
    return rows, free


def _weights(
    rows: Mapping[str, Mapping[str, int]], model: Sequence[Effect], wanted: Mapping[Effect, int]
) -> dict[str, Fraction] | None:
    """Arm -> weight of the wanted combination of a model's coefficients."""
    table = [[_product_of(row, effect) for effect in model] for row in rows.values()]
    solution = _solved(table, [wanted.get(effect, 0) for effect in model])
    if solution is None:
        return None
    return {
        arm: sum((v * x for v, x in zip(solution, row, strict=True)), Fraction(0))
        for arm, row in zip(rows, table, strict=True)
    }


def _estimated(
    rows: Mapping[str, Mapping[str, int]],
    free: Sequence[str],
    weights: Mapping[str, Fraction],
    asked: Mapping[Effect, int],
    *,
    unit: int,
    main: bool,
) -> LeastSquares:
    """Weights with what else they hold: `unit` of an effect's coefficient is told as it whole."""
    effects: list[Effect] = [(f,) for f in free] if main else []
    aliases = []
    for effect in [*effects, *itertools.combinations(free, 2)]:
        held = sum((w * _product_of(rows[arm], effect) for arm, w in weights.items()), Fraction(0))
        held -= asked.get(effect, 0)
        if held:
            aliases.append(_share(held / unit) + "*".join(effect))
    return LeastSquares({arm: float(w) for arm, w in weights.items() if w}, aliases)


def _product_of(row: Mapping[str, int], effect: Effect) -> int:
    return math.prod(row[f] for f in effect)


def _codes(factors: Factors, side: Mapping[str, str]) -> dict[str, int]:
    return {f: _code(factors[f], label) for f, label in side.items()}


def _code(labels: Sequence[str], label: str) -> int:
    return -1 if label == labels[0] else 1


def _share(part: Fraction) -> str:
    if abs(part) == 1:
        return "-" if part < 0 else ""
    return f"{float(part):.3g} "


def _solved(table: list[list[int]], wanted: list[int]) -> list[Fraction] | None:
    """A solution of (X'X) v = c; None where there is none, so that c v is not determined by X."""
    size = len(wanted)
    system = [
        [Fraction(sum(row[i] * row[j] for row in table)) for j in range(size)]
        + [Fraction(wanted[i])]
        for i in range(size)
    ]
    pivots: list[int] = []
    for column in range(size):
        place = len(pivots)
        pivot = next((i for i in range(place, size) if system[i][column]), None)
        if pivot is None:
            continue
        system[place], system[pivot] = system[pivot], system[place]
        scale = system[place][column]
        system[place] = [value / scale if value else value for value in system[place]]
        for i in range(size):
            factor = system[i][column]
            if i != place and factor:
                system[i] = [x - factor * y for x, y in zip(system[i], system[place], strict=True)]
        pivots.append(column)
    if any(system[i][size] for i in range(len(pivots), size)):
        return None
    # Where columns of X depend on each other v is one of many, but the weights X v are the same.
    solution = [Fraction(0)] * size
    for place, column in enumerate(pivots):
        solution[column] = system[place][size]
    return solution
