"""What the trials say about each declared contrast, by its kind, before its family is decided.

A verdict hangs on those of the other contrasts (they step down together, or are adjusted together),
and a look reads all of them without any verdict: so all are estimated first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

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
from harness.study.kinds import ContrastKind
from harness.study.planned_contrast import (
    ContrastPart,
    PlannedContrast,
    difference_of,
    differences_of,
)

if TYPE_CHECKING:
    from harness.study.model import Contrast, Study


@dataclass(frozen=True)
class EstimatedContrast:
    """One planned contrast, estimated on the replicates that it is judged on."""

    id: str
    """Of the contrast, with how many replicates where those are not the planned ones."""
    contrast: PlannedContrast
    a: str
    """Its first side, or what else it is about, in words."""
    b: str
    """Its second side in words; empty for a kind that has none."""
    spec: MetricSpec
    """Of its metric."""
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
    by_pair: Mapping[tuple[str, str], Estimated] = field(default_factory=dict)
    """Kind `best`: the difference of each two levels."""


def estimated_contrasts(
    plan: Plan,
    study: Study,
    observed: Observed,
    specs: Mapping[str, MetricSpec],
    due: int | None = None,
) -> list[EstimatedContrast]:
    """What the trials say about every declared contrast, in the study's order.

    A planned contrast is judged on the replicates that the first run planned. Where there are more
    by now, what all of them say follows as an exploratory one of its own. In a study that runs
    until decided it is judged on the replicates of its last look, or of the one that is `due`.
    """
    named = {c.id: c for c in study.contrasts}
    first = plan.frozen_replicates or plan.replicates
    asked: list[_Question] = []
    for contrast in plan.contrasts:
        spec, ident = specs.get(contrast.metric, MetricSpec()), contrast.id
        ask = partial(_Question, plan, study, observed, contrast, named.get(ident), spec)
        if contrast.amended:
            asked.append(ask(ident, plan.replicates, contrast.amended))
            continue
        if plan.adaptive is not None:
            n = plan.adaptive.judged_on(ident, due)
            asked.append(ask(ident, n or plan.adaptive.first))
            continue
        asked.append(ask(ident, first))
        if plan.replicates > first:
            why = f"{plan.replicates - first} replicates added after the first run"
            asked.append(ask(f"{ident} ({plan.replicates} replicates)", plan.replicates, why))
    return [_KINDS[one.contrast.kind].estimate(one) for one in asked]


@dataclass(frozen=True)
class _Question:
    """A contrast, the replicates that it is judged on, and what is observed of its arms."""

    plan: Plan
    study: Study
    observed: Observed
    contrast: PlannedContrast
    written: Contrast | None
    spec: MetricSpec
    ident: str
    replicates: int
    amended: str = ""

    def answered(
        self, wide: Member, narrow: Member, found: Estimated | None, **more: Any
    ) -> EstimatedContrast:
        """The contrast with its members of the step-down, its first estimate, and others."""
        a, b = self.sides()
        return EstimatedContrast(
            self.ident,
            self.contrast,
            a,
            b,
            self.spec,
            wide,
            narrow,
            found,
            self.replicates,
            self.amended,
            **more,
        )

    def sides(self) -> tuple[str, str]:
        """Both sides in words; what `at` pins is said with the last."""
        written = self.written
        if written is None:
            return "a", "b"
        a, b = _KINDS[self.contrast.kind].sides(self.study, written)
        pinned = f" at {sentences.side(written.at)}" if written.at else ""
        return (a, b + pinned) if b else (a + pinned, "")

    def estimate(self, *groups: Group) -> Estimated:
        arrays = self.observed.by_prompt(self.contrast.metric)
        return estimate(self.values, groups, arrays, checkpoints=self.plan.of_checkpoints)

    @cached_property
    def values(self) -> Values:
        names = [arm.name for arm in self.plan.arms]
        rows = self.observed.of(self.contrast.metric, names)
        return {arm: first_of(row, self.replicates) for arm, row in rows.items()}

    def parts(self, since: int) -> tuple[Part, ...]:
        """Estimates of the contrast's parts from the given one on."""
        return tuple(self._part(part) for part in self.contrast.parts[since:])

    def _part(self, part: ContrastPart) -> Part:
        found = self.estimate(*one_group(part.cells))
        lo, hi = found.interval(self.plan.alpha) or (None, None)
        return Part(
            name=part.name,
            level=part.level,
            difference=found.difference,
            lo=lo,
            hi=hi,
            p=found.p(),
        )

    def two_parts(self) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
        """Cells of both parts; none where no cell of the design holds them."""
        parts = self.contrast.parts
        return (parts[0].cells, parts[1].cells) if len(parts) > 1 else ([], [])


def _linear(asked: _Question, parts_since: int | None = None) -> EstimatedContrast:
    """A difference, slope or interaction."""
    groups = one_group(asked.contrast.cells())
    found = asked.estimate(*groups)
    better = asked.spec.higher_is_better
    filled = None
    if better is not None:
        filled = winner_filled(
            found,
            asked.values,
            groups,
            asked.observed.states,
            higher_is_better=better,
            replicates=range(asked.replicates),
        )
    wide, narrow = (
        kinds.Linear(found, asked.contrast.margin, better, side, filled[0] if filled else None)
        for side in (False, True)
    )
    parts = () if parts_since is None else asked.parts(parts_since)
    return asked.answered(wide, narrow, found, diverged=filled[1] if filled else {}, parts=parts)


def _trend(asked: _Question) -> EstimatedContrast:
    return _linear(asked, parts_since=1)


def _more(asked: _Question) -> EstimatedContrast:
    first, second = asked.two_parts()
    minus, plus = (
        asked.estimate(Group(tuple(first)), Group(tuple(second), sign)) for sign in (-1.0, 1.0)
    )
    wide, narrow = (kinds.More(minus, plus, side) for side in (False, True))
    return asked.answered(wide, narrow, minus, parts=asked.parts(0))


def _best(asked: _Question) -> EstimatedContrast:
    levels = {part.level: part.cells for part in asked.contrast.parts}
    pairs = {
        (i, j): asked.estimate(*one_group(differences_of(levels[i], levels[j])))
        for i, j in kinds.all_pairs(list(levels))
    }
    better = asked.spec.higher_is_better is not False
    wide, narrow = (kinds.Best(tuple(levels), pairs, better, side) for side in (False, True))
    return asked.answered(wide, narrow, None, by_pair=pairs)


def _collapse(asked: _Question) -> EstimatedContrast:
    contrast, observed = asked.contrast, asked.observed
    arms = contrast.arms()
    by_step = {
        step: {arm: first_of(rows.get(arm, {}), asked.replicates) for arm in arms}
        for step, rows in observed.curves.get(contrast.metric, {}).items()
        if any(rows.get(arm) for arm in arms)  # reference rows have cycles of their own
    }
    tables = {step: observed.tables(contrast.metric, step) or {} for step in by_step}
    better = asked.spec.higher_is_better is not False
    lost = kinds.losses(by_step, tables, higher_is_better=better)
    groups = one_group(contrast.cells())
    found = {
        step: estimate(
            values,
            groups,
            ByPrompt.of(table) if table else None,
            checkpoints=asked.plan.of_checkpoints,
        )
        for step, (values, table) in lost.items()
    }
    margin = contrast.margin or 0.0
    wide, narrow = (kinds.Collapse(found, margin, side) for side in (False, True))
    known = {s: e.difference for s, e in found.items() if e.difference is not None}
    most = max(known, key=known.__getitem__, default=None)
    main = found[most] if most is not None else None  # where nothing is judged by a cycle
    return asked.answered(wide, narrow, main, by_step=found)


def _sooner(asked: _Question) -> EstimatedContrast:
    contrast = asked.contrast
    steps = asked.observed.curves.get(contrast.metric, {})
    one, two = asked.two_parts()
    cells = [difference_of(a, b) for a, b in zip(one, two, strict=True)]
    threshold = contrast.threshold
    assert threshold is not None, "checked when the study was read"
    rising = (asked.spec.higher_is_better is not False) != contrast.falls
    times: dict[str, dict[int, float]] = {}
    for arm in contrast.arms():
        for r in range(asked.replicates):
            curve = {s: rows[arm][r] for s, rows in steps.items() if r in rows.get(arm, {})}
            at = crossing(curve, threshold, rising=rising)
            if at is not None:
                times.setdefault(arm, {})[r] = at
    found = estimate(times, one_group(cells), None, "times are judged over seeds alone")
    member = kinds.TimeDifference(found)
    return asked.answered(member, member, found)


def _sides_of_difference(study: Study, written: Contrast) -> tuple[str, str]:
    a, b = (sentences.side(side) for side in contrasts.sides(study, written))
    return a, b


def _sides_of_sooner(study: Study, written: Contrast) -> tuple[str, str]:
    a, b = (sentences.side(named_levels(study, side)) for side in written.sides)
    return a, b or "the baseline"


@dataclass(frozen=True)
class _EstimatedKind:
    """How a kind is estimated, and what its sides are in words."""

    estimate: Callable[[_Question], EstimatedContrast]
    sides: Callable[[Study, Contrast], tuple[str, str]]


_KINDS: dict[ContrastKind, _EstimatedKind] = {
    "difference": _EstimatedKind(_linear, _sides_of_difference),
    "trend": _EstimatedKind(_trend, lambda study, written: (written.trend, "")),
    "interaction": _EstimatedKind(
        _linear, lambda study, written: (" and ".join(written.interaction), "")
    ),
    "more": _EstimatedKind(_more, lambda study, written: (written.more[0], written.more[1])),
    "best": _EstimatedKind(_best, lambda study, written: (written.best, "")),
    "collapse": _EstimatedKind(
        _collapse,
        lambda study, written: (sentences.side(named_levels(study, written.collapse)), ""),
    ),
    "sooner": _EstimatedKind(_sooner, _sides_of_sooner),
}


def first_of(row: Mapping[int, float], replicates: int) -> dict[int, float]:
    """Of the replicates that a contrast is judged on."""
    return {r: v for r, v in row.items() if r < replicates}
