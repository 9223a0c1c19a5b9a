"""Effects of two-level factors by least squares, as weights over arms, with what they confound.

Fitted is y = mean + sum of main effects. Its estimate of a contrast is a weighted sum of the values
of the arms; applied to the product of two columns, the same weights say how much of that
interaction is in it. Solved in whole fractions: what can be estimated is no matter of rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from harness.trial import Arm

Factors = Mapping[str, Sequence[str]]
"""Factor -> its two level labels, the first coded -1."""


@dataclass(frozen=True)
class Estimated:
    """A contrast estimated by least squares."""

    weights: dict[str, float]
    """Arm -> weight; the estimate is the weighted sum of the arms' values."""
    aliases: list[str]
    """Two-factor interactions that are in it, e.g. `b*c`, `-d*e`, `0.5 b*e`."""


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
    pins = at or {}
    free = [f for f in factors if f not in pins]
    rows = {
        arm.name: {f: _code(factors[f], arm.levels[f]) for f in free}
        for arm in arms
        if all(arm.levels[f] == label for f, label in pins.items())
    }
    side_a, side_b = ({f: _code(factors[f], side[f]) for f in side} for side in (a, b))
    wanted = [0, *(side_a.get(f, 0) - side_b.get(f, 0) for f in free)]
    table = [[1, *(row[f] for f in free)] for row in rows.values()]
    solution = _solved(table, wanted)
    if solution is None:
        return None
    weights = {
        arm: sum((v * x for v, x in zip(solution, row, strict=True)), Fraction(0))
        for arm, row in zip(rows, table, strict=True)
    }
    aliases = []
    for f, g in itertools.combinations(free, 2):
        held = sum((w * rows[arm][f] * rows[arm][g] for arm, w in weights.items()), Fraction(0))
        if f in side_a and g in side_a:
            held -= side_a[f] * side_a[g] - side_b[f] * side_b[g]  # part of what is asked for
        if held:
            aliases.append(_share(held / 2) + f"{f}*{g}")
    return Estimated({arm: float(w) for arm, w in weights.items() if w}, aliases)


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
