"""The spread of a contrast's difference between replicates, as the history has it.

Its own cells say it where two replicates have them; else the other arms of the study lend theirs.
Without numpy, for `plan` reads this; the same numbers as `harness.analysis.inference` gives.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Cells = Sequence[Mapping[str, float]]
"""Cells of an effect, each arm -> weight; the effect is their mean."""
Groups = Sequence[tuple[float, Cells]]
"""Effects with signs, whose sum is what is tested: mostly one, with sign 1."""
Values = Mapping[str, Mapping[int, float]]
"""Arm -> replicate -> value of one metric."""

FEWEST = 2
"""Replicates from which there is a spread; how little so few say is in its degrees of freedom."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Pilot:
    """Standard deviation of one replicate's difference, as some replicates show it."""

    sd: float
    df: float
    replicates: int
    borrowed: bool = False
    """Of other arms: this contrast's own have not run."""


def arms_of(groups: Groups) -> list[str]:
    """Every arm that is compared, once."""
    return list(dict.fromkeys(arm for _, cells in groups for cell in cells for arm in cell))


def in_pairs(groups: Groups) -> float:
    """SD of what is tested over that of a pair a - b, if arms err alike and cells move together.

    1 for a mean over matched pairs: a mean of several spreads at most as much as one of them.
    """
    total = 0.0
    for sign, cells in groups:
        sizes = [math.sqrt(sum(w * w for w in cell.values()) / 2) for cell in cells]
        total += abs(sign) * (statistics.fmean(sizes) if sizes else 1.0)
    return total


def own_spread(values: Values, groups: Groups) -> Pilot | None:
    """From the contrast's own cells, those that at least two replicates have.

    With every cell in every replicate the standard deviation of the replicates' differences; where
    pairs are missing that of CR2, clustered on the replicate, with the mean number of replicates
    that a cell has, less one, for degrees of freedom.
    """
    seen: list[tuple[float, dict[int, float]]] = []
    for sign, cells in groups:
        found = [d for cell in cells if len(d := _differences(values, cell)) >= FEWEST]
        if not found:
            return None
        seen += [(sign / len(found), d) for d in found]
    replicates = sorted({r for _, d in seen for r in d})
    sums = dict.fromkeys(replicates, 0.0)
    size = 0.0
    for share, d in seen:
        count, mean = len(d), math.fsum(d.values()) / len(d)
        # CR2 with the replicate as cluster: a residual from the mean of `count` values has (1 - 1 /
        # count) of the variance that the values have.
        weight = share / count / math.sqrt(1 - 1 / count)
        for r, value in d.items():
            sums[r] += weight * (value - mean)
        size = max(size, *(abs(value) for value in d.values()))
    n = len(replicates)
    # The squared sums add up to the variance of the mean; n times that is one replicate's.
    sd = math.sqrt(n * math.fsum(s * s for s in sums.values()))
    if sd <= _ROUNDING * size:
        return None  # no variation says nothing about how much there is
    return Pilot(sd, statistics.fmean(len(d) for _, d in seen) - 1, n)


def borrowed_spread(values: Values, groups: Groups) -> Pilot | None:
    """From whatever arms have replicates in common, as if all varied alike.

    A guess to plan with, never to judge by: the residual spread of arms x replicates, with the
    degrees of freedom of the replicates alone, for arms of one replicate may err together.
    """
    held: dict[int, int] = {}
    for row in values.values():
        for r in row:
            held[r] = held.get(r, 0) + 1
    order = sorted(held, key=lambda r: (-held[r], r))
    best: tuple[int, list[int], list[str]] = (0, [], [])
    # The complete block of arms and replicates with the most degrees of freedom.
    for count in range(FEWEST, len(order) + 1):
        chosen = order[:count]
        arms = [arm for arm, row in values.items() if all(r in row for r in chosen)]
        best = max(best, ((len(arms) - 1) * (count - 1), chosen, arms), key=lambda one: one[0])
    freedom, chosen, arms = best
    if freedom < 1:
        return None
    by_arm = {arm: statistics.fmean(values[arm][r] for r in chosen) for arm in arms}
    by_replicate = {r: statistics.fmean(values[arm][r] for arm in arms) for r in chosen}
    middle = statistics.fmean(by_arm.values())
    left = [values[arm][r] - by_arm[arm] - by_replicate[r] + middle for arm in arms for r in chosen]
    # Twice the residual variance: that of a difference of two arms.
    sd = math.sqrt(2 * math.fsum(e * e for e in left) / freedom) * in_pairs(groups)
    if sd <= _ROUNDING * max(abs(values[arm][r]) for arm in arms for r in chosen):
        return None
    return Pilot(sd, len(chosen) - 1, len(chosen), borrowed=True)


def _differences(values: Values, cell: Mapping[str, float]) -> dict[int, float]:
    rows = [values.get(arm, {}) for arm in cell]
    shared = set.intersection(*(set(row) for row in rows)) if rows else set()
    return {
        r: math.fsum(w * row[r] for w, row in zip(cell.values(), rows, strict=True))
        for r in sorted(shared)
    }
