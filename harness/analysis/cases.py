"""The declared contrasts as members of their family: what trials say about each, by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from harness.analysis import kinds, sentences
from harness.analysis.divergence import winner_filled
from harness.analysis.inference import ByPrompt, Estimated, Group, Values, estimate, one_group
from harness.analysis.model import Part
from harness.analysis.observed import Observed
from harness.analysis.step_down import Member
from harness.contract import MetricSpec
from harness.planning.crossing import crossing
from harness.planning.plan import Plan
from harness.study import contrasts
from harness.study.arms import named_levels
from harness.study.planned_contrast import PlannedContrast, difference_of, differences_of

if TYPE_CHECKING:
    from harness.study.model import Contrast, Study


@dataclass(frozen=True)
class Case:
    """One declared contrast, estimated, before its family is decided."""

    id: str
    contrast: PlannedContrast
    a: str
    b: str
    spec: MetricSpec
    wide: Member
    """Over seeds and prompts, as far as prompts are known."""
    narrow: Member
    """Over seeds, on exactly these prompts."""
    found: Estimated | None
    """Its first estimate; None for a kind that has none of its own."""
    replicates: int
    """How many the contrast is judged on: those of the first run, unless it is exploratory."""
    amended: str
    """Why it is exploratory; empty for a planned one."""
    diverged: Mapping[str, list[int]] = field(default_factory=dict)
    """Arms of the winning side to their replicates that diverged."""
    parts: tuple[Part, ...] = ()
    """Further estimates of its kind, such as the bend of a trend."""
    by_step: Mapping[int, Estimated] = field(default_factory=dict)
    """Kind `collapse`: what was lost since each earlier cycle."""


def cases_of(
    plan: Plan,
    study: Study,
    observed: Observed,
    specs: Mapping[str, MetricSpec],
    due: int | None = None,
) -> list[Case]:
    """What the trials say about every declared contrast, in the study's order.

    A planned contrast is judged on the replicates that the first run planned. Where there are more
    by now, what all of them say follows as an exploratory case of its own. In a study that runs
    until decided it is judged on the replicates of its last look, or of the one that is `due`.
    """
    named = {c.id: c for c in study.contrasts}
    first = plan.frozen_replicates or plan.replicates
    found = []
    for contrast in plan.contrasts:
        spec = specs.get(contrast.metric, MetricSpec())
        made = _Maker(plan, study, observed, contrast, named.get(contrast.id), spec)
        if contrast.amended:
            found.append(made.case(contrast.id, plan.replicates, contrast.amended))
            continue
        if plan.adaptive is not None:
            n = plan.adaptive.judged_on(contrast.id, due)
            found.append(made.case(contrast.id, n or plan.adaptive.first, ""))
            continue
        found.append(made.case(contrast.id, first, ""))
        if plan.replicates > first:
            why = f"{plan.replicates - first} replicates added after the first run"
            ident = f"{contrast.id} ({plan.replicates} replicates)"
            found.append(made.case(ident, plan.replicates, why))
    return found


@dataclass(frozen=True)
class _Maker:
    """Estimates one contrast."""

    plan: Plan
    study: Study
    observed: Observed
    contrast: PlannedContrast
    written: Contrast | None
    spec: MetricSpec

    def case(self, ident: str, replicates: int, amended: str) -> Case:
        make = getattr(self, f"_{self.contrast.kind}")
        a, b = self._sides()
        case: Case = make(ident, a, b, replicates, amended)
        return case

    def _difference(self, ident: str, a: str, b: str, replicates: int, amended: str) -> Case:
        values = self._values(replicates)
        groups = one_group(self.contrast.cells())
        found = self._estimate(values, groups)
        better = self.spec.higher_is_better
        filled = None
        if better is not None:
            filled = winner_filled(
                found,
                values,
                groups,
                self.observed.states,
                higher_is_better=better,
                replicates=range(replicates),
            )
        wide, narrow = (
            kinds.Linear(found, self.contrast.margin, better, side, filled[0] if filled else None)
            for side in (False, True)
        )
        diverged = filled[1] if filled else {}
        return self._made(ident, a, b, wide, narrow, found, replicates, amended, diverged)

    def _trend(self, ident: str, a: str, b: str, replicates: int, amended: str) -> Case:
        case = self._difference(ident, a, b, replicates, amended)
        return self._with_parts(case, replicates)

    def _interaction(self, ident: str, a: str, b: str, replicates: int, amended: str) -> Case:
        return self._difference(ident, a, b, replicates, amended)

    def _more(self, ident: str, a: str, b: str, replicates: int, amended: str) -> Case:
        values = self._values(replicates)
        first, second = self._two_sides()
        minus, plus = (
            self._estimate(values, (Group(tuple(first)), Group(tuple(second), sign)))
            for sign in (-1.0, 1.0)
        )
        wide, narrow = (kinds.More(minus, plus, side) for side in (False, True))
        case = self._made(ident, a, b, wide, narrow, minus, replicates, amended)
        return self._with_parts(case, replicates, skip=0)

    def _best(self, ident: str, a: str, b: str, replicates: int, amended: str) -> Case:
        values = self._values(replicates)
        levels = {part.level: part.cells for part in self.contrast.parts}
        pairs = {}
        for i, j in kinds.all_pairs(list(levels)):
            cells = differences_of(levels[i], levels[j])
            pairs[i, j] = self._estimate(values, one_group(cells))
        better = self.spec.higher_is_better is not False
        wide, narrow = (kinds.Best(tuple(levels), pairs, better, side) for side in (False, True))
        return self._made(ident, a, b, wide, narrow, None, replicates, amended)

    def _collapse(self, ident: str, a: str, b: str, replicates: int, amended: str) -> Case:
        metric, arms = self.contrast.metric, self.contrast.arms()
        by_step = {
            step: {arm: first_of(rows.get(arm, {}), replicates) for arm in arms}
            for step, rows in self.observed.curves.get(metric, {}).items()
            if any(rows.get(arm) for arm in arms)  # reference rows have cycles of their own
        }
        tables = {step: self.observed.tables(metric, step) or {} for step in by_step}
        lost = kinds.losses(
            by_step, tables, higher_is_better=self.spec.higher_is_better is not False
        )
        groups = one_group(self.contrast.cells())
        found = {
            step: estimate(
                values,
                groups,
                ByPrompt.of(table) if table else None,
                checkpoints=self.plan.of_checkpoints,
            )
            for step, (values, table) in lost.items()
        }
        margin = self.contrast.margin or 0.0
        wide, narrow = (kinds.Collapse(found, margin, side) for side in (False, True))
        known = {s: e.difference for s, e in found.items() if e.difference is not None}
        most = max(known, key=known.__getitem__, default=None)
        main = found[most] if most is not None else None  # where nothing is judged by a cycle
        case = self._made(ident, a, b, wide, narrow, main, replicates, amended)
        return replace(case, by_step=found)

    def _sooner(self, ident: str, a: str, b: str, replicates: int, amended: str) -> Case:
        metric = self.contrast.metric
        steps = self.observed.curves.get(metric, {})
        one, two = self._two_sides()
        cells = [difference_of(a, b) for a, b in zip(one, two, strict=True)]
        arms = self.contrast.arms()
        threshold = self.contrast.threshold
        assert threshold is not None, "checked when the study was read"
        rising = (self.spec.higher_is_better is not False) != self.contrast.falls
        times: dict[str, dict[int, float]] = {}
        for arm in arms:
            for r in range(replicates):
                curve = {s: rows[arm][r] for s, rows in steps.items() if r in rows.get(arm, {})}
                at = crossing(curve, threshold, rising=rising)
                if at is not None:
                    times.setdefault(arm, {})[r] = at
        found = estimate(times, one_group(cells), None, "times are judged over seeds alone")
        member = kinds.TimeDifference(found)
        return self._made(ident, a, b, member, member, found, replicates, amended)

    def _made(
        self,
        ident: str,
        a: str,
        b: str,
        wide: Member,
        narrow: Member,
        found: Estimated | None,
        replicates: int,
        amended: str,
        diverged: Mapping[str, list[int]] | None = None,
    ) -> Case:
        return Case(
            ident,
            self.contrast,
            a,
            b,
            self.spec,
            wide,
            narrow,
            found,
            replicates,
            amended,
            diverged or {},
        )

    def _with_parts(self, case: Case, replicates: int, skip: int = 1) -> Case:
        """The case with the estimates of its parts from the given one on."""
        values = self._values(replicates)
        made = []
        for part in self.contrast.parts[skip:]:
            found = self._estimate(values, one_group(part.cells))
            interval = found.interval(self.plan.alpha)
            lo, hi = interval or (None, None)
            made.append(
                Part(
                    name=part.name,
                    level=part.level,
                    difference=found.difference,
                    lo=lo,
                    hi=hi,
                    p=found.p(),
                )
            )
        return replace(case, parts=tuple(made))

    def _estimate(self, values: Values, groups: tuple[Group, ...]) -> Estimated:
        arrays = self.observed.by_prompt(self.contrast.metric)
        return estimate(values, groups, arrays, checkpoints=self.plan.of_checkpoints)

    def _values(self, replicates: int) -> Values:
        names = [arm.name for arm in self.plan.arms]
        rows = self.observed.of(self.contrast.metric, names)
        return {arm: first_of(row, replicates) for arm, row in rows.items()}

    def _sides(self) -> tuple[str, str]:
        """Both sides in words; what `at` pins is said with the last."""
        written = self.written
        if written is None:
            return "a", "b"
        pinned = f" at {sentences.side(written.at)}" if written.at else ""
        if self.contrast.kind == "difference":
            a, b = (sentences.side(side) for side in contrasts.sides(self.study, written))
            return a, b + pinned
        a, b = self._named(written)
        return (a, b + pinned) if b else (a + pinned, "")

    def _two_sides(self) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
        """Cells of both parts; none where no cell of the design holds them."""
        parts = self.contrast.parts
        return (parts[0].cells, parts[1].cells) if len(parts) > 1 else ([], [])

    def _named(self, written: Contrast) -> tuple[str, str]:
        """Factors or arms of another kind than a difference; the second may be empty."""
        if written.kind in ("trend", "best"):
            return written.trend or written.best, ""
        if written.kind == "interaction":
            return " and ".join(written.interaction), ""
        if written.kind == "more":
            one, other = written.more
            return one, other
        if written.kind == "collapse":
            return sentences.side(named_levels(self.study, written.collapse)), ""
        a, b = (sentences.side(named_levels(self.study, side)) for side in written.sides)
        return a, b or "the baseline"


def first_of(row: Mapping[int, float], replicates: int) -> dict[int, float]:
    """Of the replicates that a contrast is judged on."""
    return {r: v for r, v in row.items() if r < replicates}
