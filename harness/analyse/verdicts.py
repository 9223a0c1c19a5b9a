"""The declared contrasts, judged: complete pairs, worst case, Holm, table, guard and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from harness.analyse import guard, words
from harness.analyse.answer import Verdict
from harness.analyse.contrasts import (
    Inference,
    Residual,
    decide,
    holm,
    infer,
    observations,
    residual,
)
from harness.analyse.missing import missing_replicates, worst_cases
from harness.analyse.observed import Observed
from harness.analyse.ruling import Ruling
from harness.contract import MetricSpec
from harness.journal import History
from harness.plan import Plan, PlannedContrast, weights_of
from harness.planning import matching

if TYPE_CHECKING:
    from harness.study import Contrast, Study

UNFINISHED = ("pending", "running", "killed", "unmeasured")
"""States of a trial that has not ended by itself: nothing can be read off its absence."""


@dataclass(frozen=True)
class _Case:
    """One declared contrast before multiplicity: from complete pairs and from the worst case."""

    planned: PlannedContrast
    a: str
    b: str
    found: Inference
    missing: list[int]
    worst: list[Inference]
    spec: MetricSpec
    notes: list[str]

    def worst_p(self) -> float | None:
        given = [w.p for w in self.worst if w.p is not None]
        return max(given) if given else self.found.p


def judge(
    plan: Plan,
    study: Study,
    history: History,
    observed: Observed,
    specs: Mapping[str, MetricSpec],
) -> list[Verdict]:
    """Verdicts on the declared contrasts, in the study's order."""
    names = [arm.name for arm in plan.arms]
    pooled = {c.metric: residual(observed.of(c.metric, names)) for c in plan.contrasts}
    sides = {c.id: _sides(study, c) for c in study.contrasts}
    cases = [
        _case(plan, c, sides.get(c.id, ("a", "b")), study.alpha, observed, specs, pooled[c.metric])
        for c in plan.contrasts
    ]
    adjusted = holm([case.found.p for case in cases])
    worst = holm([case.worst_p() for case in cases])
    return [
        _verdict(plan, study.alpha, history, observed, case, p, p_worst, len(cases))
        for case, p, p_worst in zip(cases, adjusted, worst, strict=True)
    ]


def _sides(study: Study, contrast: Contrast) -> tuple[str, str]:
    """Both sides in words; what `at` pins is said with the second."""
    a, b = (words.side(side) for side in matching.sides(study, contrast))
    return a, b + (f" at {words.side(contrast.at)}" if contrast.at else "")


def _case(
    plan: Plan,
    planned: PlannedContrast,
    sides: tuple[str, str],
    alpha: float,
    observed: Observed,
    specs: Mapping[str, MetricSpec],
    pooled: Residual | None,
) -> _Case:
    spec = specs.get(planned.metric, MetricSpec())
    weights = weights_of(planned.pairs)
    values = observed.of(planned.metric, [arm.name for arm in plan.arms])
    found = infer(observations(values, weights), weights, pooled, 1 - alpha, _size(values))
    missing = missing_replicates(values, observed.states, weights, range(plan.replicates))
    inside = bool(planned.margin) and found.lo is not None and found.hi is not None
    both = inside and max(abs(found.lo or 0.0), abs(found.hi or 0.0)) <= (planned.margin or 0.0)
    worst = []
    if missing:
        worst = worst_cases(
            found, values, observed.states, weights, missing, spec, pooled, 1 - alpha, both=both
        )
    notes = list(found.notes)
    if not weights:
        notes = ["no cell of the design holds both sides"]
    if planned.metric not in specs:
        notes.append(f"{planned.metric} was never measured")
    return _Case(planned, *sides, found, missing, worst, spec, notes)


def _size(values: Mapping[str, Mapping[int, float]]) -> float:
    return max((abs(v) for row in values.values() for v in row.values()), default=0.0)


def _verdict(
    plan: Plan,
    alpha: float,
    history: History,
    observed: Observed,
    case: _Case,
    p_adjusted: float | None,
    p_worst: float | None,
    family: int,
) -> Verdict:
    planned, found = case.planned, case.found
    rule = partial(
        decide,
        margin=planned.margin,
        alpha=alpha,
        higher_is_better=case.spec.higher_is_better,
    )
    complete = rule(p_adjusted, found.lo, found.hi)
    notes = list(case.notes)
    verdict, worst_verdict, reason = complete, None, ""
    if complete == "undecided" and notes:
        reason = notes.pop(0)
    if case.missing:
        names = {rule(p_worst, w.lo, w.hi) for w in case.worst}
        worst_verdict = complete if names == {complete} else "undecided"
        where = ", ".join(str(r) for r in case.missing)
        agree = "agree" if worst_verdict == complete else "disagree"
        notes.append(
            f"replicate{'s' if len(case.missing) > 1 else ''} {where} diverged, failed or lacks a "
            f"side: complete pairs and the worst case {agree}"
        )
        if worst_verdict != complete:
            verdict, reason = "undecided", f"complete pairs say {complete}, the worst case does not"
    interim = _not_begun(plan, observed, planned.pairs)
    if interim and found.n:
        notes.append(f"interim: {interim} of {plan.replicates} replicates have not run")
    if case.spec.higher_is_better is None and p_adjusted is not None and p_adjusted < alpha:
        notes.append(f"{planned.metric} has no better direction, so nothing improves or harms")
    weights = weights_of(planned.pairs)
    keys = observed.keys(weights)
    notes += guard.confounds(history, keys, plan.fingerprints.protocol)
    if alone := plan.unpartnered(planned):
        notes.append(f"arms without a partner, left out: {', '.join(alone)}")
    ruling = Ruling(
        id=planned.id,
        claim=planned.claim,
        a=case.a,
        b=case.b,
        metric=planned.metric,
        spec=case.spec,
        planned=True,
        found=found,
        p_adjusted=p_adjusted,
        adjustment=f"after Holm over {family}" if family > 1 else "(one contrast)",
        verdict=verdict,
        reason=reason,
        notes=notes,
        keys=keys,
        margin=planned.margin,
        expectation=words.expectation(planned.expect, verdict, found.difference),
        worst_case=worst_verdict,
    )
    return ruling.told(plan, alpha)


def _not_begun(plan: Plan, observed: Observed, pairs: Sequence[tuple[str, str]]) -> int:
    involved = {arm for pair in pairs for arm in pair}
    return sum(
        all(observed.states.get(arm, {}).get(r, "pending") in UNFINISHED for arm in involved)
        for r in range(plan.replicates)
    )
