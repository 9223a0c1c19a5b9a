"""Checks of what a design needs: `off`, `resolution`, two levels a factor, equal lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.planning.enumeration import everything_on, most_combinations, rows_of
from harness.planning.fraction import NoFractionError, smallest_fraction
from harness.study import DESIGNS, Study
from harness.study_file.document import Document
from harness.study_file.levels import Level, find
from harness.study_file.nearest import nearest

Levels = Mapping[str, Mapping[str, Level]]

MOST_COMBINATIONS = 100_000
"""A study of more cannot be meant: at 6 s an arm that is a week."""
MOST_TRIALS = 300_000
"""Arms times replicates; every one is an object of the plan."""
NEED_BASELINE = ("one_factor", "pairs")


class DesignChecks:
    """Checks one study against its design; problems go to the document."""

    def __init__(self, document: Document, study: Study, levels: Levels, lost: set[str]) -> None:
        self.fail = document.fail
        self.study = study
        self.levels = levels
        self.lost = lost

    def run(self) -> bool:
        """Check all; true if the combinations can be enumerated."""
        study = self.study
        if "design" in self.lost:
            return False
        good = self._belongs()
        if study.design in NEED_BASELINE and not study.baseline and "baseline" not in self.lost:
            self.fail(f"design {study.design} needs a `baseline`: factor -> level", "design")
            good = False
        if study.design == "leave_one_out":
            good = all([self._off(name) for name in self.levels]) and good
        elif study.design == "fractional":
            good = self._fraction() and good
        elif study.design == "zip":
            good = self._lengths() and good
        return good

    def size(self) -> bool:
        """Whether there are few enough combinations to go through; for a study without mistakes."""
        count, replicates = most_combinations(self.study), self.study.replicates
        if count > MOST_COMBINATIONS:
            others = ", ".join(name for name in DESIGNS if name != self.study.design)
            self.fail(
                f"design {self.study.design} has {count} combinations; at most {MOST_COMBINATIONS} "
                f"are enumerated, before `where`. Take fewer levels or another design: {others}",
                "factors",
                key=True,
            )
        elif count * replicates > MOST_TRIALS:
            self.fail(
                f"{count} combinations x {replicates} replicates are {count * replicates} trials; "
                f"at most {MOST_TRIALS} are planned",
                "replicates" if replicates > 1 else "factors",
            )
        return count <= MOST_COMBINATIONS and count * replicates <= MOST_TRIALS

    def _belongs(self) -> bool:
        """Settings that another design reads are a mistake, not a remark."""
        good = True
        design = self.study.design
        if self.study.resolution is not None and design != "fractional":
            said = f"`resolution` belongs to design fractional; this is design {design}"
            self.fail(said, "resolution", key=True)
            good = False
        for name, factor in self.study.factors.items():
            if factor.has_off and design != "leave_one_out":
                said = f"`off` belongs to design leave_one_out; this is design {design}"
                self.fail(said, "factors", name, "off", key=True)
                good = False
        return good

    def _off(self, name: str) -> bool:
        factor, own = self.study.factors[name], self.levels[name]
        place: tuple[Any, ...] = ("factors", name)
        if not factor.has_off:
            said = (
                "design leave_one_out needs an `off` level for every factor: "
                "{levels: [...], off: LEVEL}"
            )
            self.fail(said, *place, key=True)
            return False
        off = find(own, factor.off)
        if off is None:
            said = f"{factor.off!r} is not a level of {name!r}{nearest(factor.off, own)}"
            self.fail(said, *place, "off")
            return False
        start = self.study.baseline.get(name)
        if name in self.study.baseline and find(own, start) == off:
            said = "the baseline of design leave_one_out has everything on; this is the `off` level"
            self.fail(said, "baseline", name)
            return False
        if len(own) < 2:
            self.fail("its only level is its `off` level; give one that is on", *place, key=True)
            return False
        if name not in self.study.baseline and name not in everything_on(
            {name: factor}, {name: own}
        ):
            said = f"{len(own) - 1} levels are on; the `baseline` must say which one is meant"
            self.fail(said, *place, key=True)
            return False
        return True

    def _fraction(self) -> bool:
        good = True
        for name, own in self.levels.items():
            if len(own) != 2:
                said = f"design fractional needs two levels a factor; this one has {len(own)}"
                self.fail(said, "factors", name, key=True)
                good = False
        if self.study.resolution is None:
            if "resolution" not in self.lost:
                said = "design fractional needs a `resolution`: 3, 4 or 5 (see `stillhouse schema`)"
                self.fail(said, "design")
            return False
        try:
            smallest_fraction(len(self.study.factors), self.study.resolution)
        except NoFractionError as error:
            self.fail(f"{error}; ask for a lower resolution, or design full", "resolution")
            return False
        return good

    def _lengths(self) -> bool:
        lengths = {name: len(rows_of(self.study.factors[name])) for name in self.levels}
        first = next(iter(lengths.values()), 0)
        for name, length in lengths.items():
            if length != first:
                told = f"{next(iter(lengths))!r} has {first} levels, this one {length}"
                self.fail(
                    f"factors of design zip advance together and need equal lengths; {told}",
                    *("factors", name),
                    key=True,
                )
        return all(length == first for length in lengths.values())
