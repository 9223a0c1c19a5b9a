"""What a contrast of each kind tests, and how what it detects is told."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.planning import pilot, power
from harness.planning.pilot import Cells, Groups
from harness.study.kinds import ContrastKind
from harness.study.planned_contrast import PlannedContrast, differences_of


@dataclass(frozen=True)
class Comparison:
    """One test of a contrast; where it has several, all of them have to find something."""

    groups: Groups
    share: float = 1.0
    """Of the contrast's alpha, two-sided: a one-sided test at alpha has the share 2."""
    step: int | None = None
    """Of a collapse: the earlier cycle, from which the values at the end are taken off."""
    threshold: float | None = None
    """Of who is sooner: the value that is reached, or lost."""
    falls: bool = False

    def in_sds(self) -> power.PlannedSpread:
        """In SDs of a pair's difference; a value at two cycles is a pair, too."""
        size = pilot.in_pairs(self.groups)
        return power.PlannedSpread(size * math.sqrt(2) if self.step is not None else size)

    @property
    def over_training(self) -> bool:
        """Whether curves are compared, not values at the end."""
        return self.step is not None or self.threshold is not None


def comparisons(planned: PlannedContrast, cycles: Sequence[int] = ()) -> list[Comparison]:
    """What a contrast tests, by its kind; nothing where no cell of the design has its arms.

    Args:
        planned: with its cells.
        cycles: measured ones, of a collapse.
    """
    return KINDS[planned.kind].tests(planned, cycles)


def _linear(planned: PlannedContrast, cycles: Sequence[int]) -> list[Comparison]:
    cells: Cells = planned.cells()
    return [Comparison([(1.0, cells)])] if cells else []


def _more(planned: PlannedContrast, cycles: Sequence[int]) -> list[Comparison]:
    if len(planned.parts) < 2:
        return []
    first, second = planned.parts[0].cells, planned.parts[1].cells
    both = [[(1.0, first), (sign, second)] for sign in (-1.0, 1.0)]
    return [Comparison(groups) for groups in both] if first and second else []


def _best(planned: PlannedContrast, cycles: Sequence[int]) -> list[Comparison]:
    """An arm leaves the set if another beats it one-sided at alpha / (k - 1)."""
    share = 2 / max(1, len(planned.parts) - 1)
    sides = itertools.combinations((part.cells for part in planned.parts), 2)
    pairs = [differences_of(one, two) for one, two in sides]
    return [Comparison([(1.0, cells)], share) for cells in pairs if cells]


def _collapse(planned: PlannedContrast, cycles: Sequence[int]) -> list[Comparison]:
    """One-sided at alpha over the number of earlier cycles."""
    cells: Cells = planned.cells()
    earlier = sorted(set(cycles))[:-1] if cells else []
    share = 2 / max(1, len(earlier))
    return [Comparison([(1.0, cells)], share, step) for step in earlier]


def _sooner(planned: PlannedContrast, cycles: Sequence[int]) -> list[Comparison]:
    if len(planned.parts) < 2:
        return _linear(planned, cycles)
    cells: Cells = differences_of(planned.cells(), planned.parts[1].cells)
    groups = [(1.0, cells)]
    return [Comparison(groups, 1.0, None, planned.threshold, planned.falls)] if cells else []


@dataclass(frozen=True)
class PlannedKind:
    """What planning knows of a kind."""

    tests: Callable[[PlannedContrast, Sequence[int]], list[Comparison]] = _linear
    """What it tests, given the measured cycles; where there is more, all have to find something."""
    beyond_margin: bool = False
    """What it finds has to exceed its margin: what is detected is told from there on."""
    what: str = ""
    """What is detected, where it is no plain difference."""


KINDS: dict[ContrastKind, PlannedKind] = {
    "difference": PlannedKind(),
    "trend": PlannedKind(),
    "interaction": PlannedKind(),
    "more": PlannedKind(_more),
    "best": PlannedKind(_best),
    "collapse": PlannedKind(_collapse, beyond_margin=True, what="a loss"),
    "sooner": PlannedKind(_sooner),
}
