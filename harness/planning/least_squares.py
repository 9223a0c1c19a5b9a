"""Effects of two-level factors by least squares, as weights over arms, with what they confound.

Fitted is y = mean + sum of main effects. Its estimate of a contrast is a weighted sum of the values
of the arms; applied to the product of two columns, the same weights say how much of that
interaction is in it. Solved in whole fractions: what can be estimated is no matter of rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from harness.trial import Arm

Factors = Mapping[str, Sequence[str]]
"""Factor -> its two level labels, the first coded -1."""


Effect = tuple[str, ...]
"""The factors whose product an effect is: none the mean, one a main effect, two an interaction."""


@dataclass(frozen=True)
class Estimated:
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
) -> Estimated | None:
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
    weights = _weights(rows, [(), *((f,) for f in free)], wanted)
    return None if weights is None else _estimated(rows, free, weights, asked, unit=2, main=False)


def estimate_side(
    arms: Sequence[Arm],
    factors: Factors,
    side: Mapping[str, str],
    at: Mapping[str, str] | None = None,
) -> Estimated | None:
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
) -> Estimated | None:
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
    table = [[_product(row, effect) for effect in model] for row in rows.values()]
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
) -> Estimated:
    """Weights with what else they hold: `unit` of an effect's coefficient is told as it whole."""
    effects: list[Effect] = [(f,) for f in free] if main else []
    aliases = []
    for effect in [*effects, *itertools.combinations(free, 2)]:
        held = sum((w * _product(rows[arm], effect) for arm, w in weights.items()), Fraction(0))
        held -= asked.get(effect, 0)
        if held:
            aliases.append(_share(held / unit) + "*".join(effect))
    return Estimated({arm: float(w) for arm, w in weights.items() if w}, aliases)


def _product(row: Mapping[str, int], effect: Effect) -> int:
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
    solution = [Fraction(0)] * size
    for place, column in enumerate(pivots):
        solution[column] = system[place][size]
    return solution
