"""The declared contrasts, judged: complete pairs, worst case, Holm, table, guard and words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import TYPE_CHECKING

from harness.analyse import guard, words
from harness.analyse.answer import Verdict
from harness.analyse.contrasts import (
    Inference,
    Residual,
    Values,
    benjamini_hochberg,
    decide,
    holm,
    infer,
    observations,
    residual,
)
from harness.analyse.explore import Explored
from harness.analyse.missing import missing_replicates, worst_cases
from harness.analyse.observed import Observed
from harness.analyse.ruling import Ruling
from harness.contract import MetricSpec
from harness.journal import History
from harness.plan import Plan, PlannedContrast
from harness.planning import matching
from harness.planning.asked import asked
from harness.planning.attainable import ols_note

if TYPE_CHECKING:
    from harness.study import Contrast, Study

UNFINISHED = ("pending", "running", "killed", "unmeasured")
"""States of a trial that has not ended by itself: nothing can be read off its absence."""


@dataclass(frozen=True)
class Case:
    """One declared contrast before multiplicity: from complete pairs and from the worst case."""

    id: str
    planned: PlannedContrast
    a: str
    b: str
    found: Inference
    missing: list[int]
    worst: list[Inference]
    spec: MetricSpec
    notes: list[str]
    replicates: int
    """How many the contrast is judged on: those of the first run, unless it is exploratory."""
    amended: str
    """Why it is exploratory; empty for a planned one."""

    def worst_p(self) -> float | None:
        """The larger p of the worst cases; that of complete pairs where nothing is missing."""
        given = [w.p for w in self.worst if w.p is not None]
        return max(given) if given else self.found.p


def cases_of(
    plan: Plan, study: Study, observed: Observed, specs: Mapping[str, MetricSpec]
) -> list[Case]:
    """What the replicates say about every declared contrast, in the study's order.

    A planned contrast is judged on the replicates that the first run planned. Where there are more
    by now, what all of them say follows as an exploratory case of its own.
    """
    names = [arm.name for arm in plan.arms]
    sides = {c.id: _sides(study, c) for c in study.contrasts}
    first = plan.frozen_replicates or plan.replicates

    @cache
    def table(metric: str, replicates: int) -> tuple[Values, Residual | None]:
        values = {
            arm: {r: v for r, v in row.items() if r < replicates}
            for arm, row in observed.of(metric, names).items()
        }
        return values, residual(values)

    def case(contrast: PlannedContrast, ident: str, replicates: int, amended: str) -> Case:
        values, pooled = table(contrast.metric, replicates)
        named = sides.get(contrast.id, ("a", "b"))
        spec = specs.get(contrast.metric, MetricSpec())
        made = _case(contrast, named, plan.alpha, observed, values, spec, pooled, replicates)
        notes = [*made.notes, *([] if contrast.metric in specs else [_unmeasured(contrast)])]
        return replace(made, id=ident, amended=amended, notes=notes)

    found = []
    for contrast in plan.contrasts:
        if contrast.amended:
            found.append(case(contrast, contrast.id, plan.replicates, contrast.amended))
            continue
        found.append(case(contrast, contrast.id, first, ""))
        if plan.replicates > first:
            why = f"{plan.replicates - first} replicates added after the first run"
            ident = f"{contrast.id} ({plan.replicates} replicates)"
            found.append(case(contrast, ident, plan.replicates, why))
    return found


def _unmeasured(contrast: PlannedContrast) -> str:
    return f"{contrast.metric} was never measured"


def told(
    cases: Sequence[Case], explored: Explored, plan: Plan, history: History, observed: Observed
) -> list[Verdict]:
    """Verdicts on the cases: planned ones after Holm, exploratory ones after Benjamini-Hochberg.

    Holm's family is that of the first run: a contrast that was taken out since still counts.
    """
    planned = [case for case in cases if not case.amended]
    others = [case for case in cases if case.amended]
    family = max(plan.frozen_contrasts or 0, len(planned))
    gone: list[float | None] = [None] * (family - len(planned))
    firm = (holm([c.found.p for c in planned] + gone), holm([c.worst_p() for c in planned] + gone))
    loose = (explored.declared, benjamini_hochberg([*(c.worst_p() for c in others), *explored.p]))
    rows = {False: zip(*firm, strict=True), True: zip(*loose, strict=False)}
    found = []
    for case in cases:
        complete, worst = next(rows[bool(case.amended)])
        how = "after Benjamini-Hochberg, exploratory" if case.amended else _holm(family)
        found.append(_verdict(plan, history, observed, case, complete, worst, how))
    return found


def _holm(family: int) -> str:
    return f"after Holm over {family}" if family > 1 else "(one contrast)"


def _sides(study: Study, contrast: Contrast) -> tuple[str, str]:
    """Both sides in words; what `at` pins is said with the second. Of other kinds the question."""
    if contrast.kind != "difference":
        return asked(study, contrast), ""
    a, b = (words.side(side) for side in matching.sides(study, contrast))
    return a, b + (f" at {words.side(contrast.at)}" if contrast.at else "")


def _case(
    planned: PlannedContrast,
    sides: tuple[str, str],
    alpha: float,
    observed: Observed,
    values: Values,
    spec: MetricSpec,
    pooled: Residual | None,
    replicates: int,
) -> Case:
    judged = planned.kind == "difference"
    weights = planned.arm_weights() if judged else {}
    found = infer(observations(values, weights), weights, pooled, 1 - alpha, _size(values))
    missing = missing_replicates(values, observed.states, weights, range(replicates))
    inside = bool(planned.margin) and found.lo is not None and found.hi is not None
    both = inside and max(abs(found.lo or 0.0), abs(found.hi or 0.0)) <= (planned.margin or 0.0)
    worst = []
    if missing:
        worst = worst_cases(
            found, values, observed.states, weights, missing, spec, pooled, 1 - alpha, both=both
        )
    notes = list(found.notes)
    if not judged:
        notes = [f"a contrast of kind {planned.kind} is not judged yet"]
    elif not weights:
        notes = ["no cell of the design holds both sides"]
    return Case(planned.id, planned, *sides, found, missing, worst, spec, notes, replicates, "")


def _size(values: Mapping[str, Mapping[int, float]]) -> float:
    return max((abs(v) for row in values.values() for v in row.values()), default=0.0)


def _verdict(
    plan: Plan,
    history: History,
    observed: Observed,
    case: Case,
    p_adjusted: float | None,
    p_worst: float | None,
    adjustment: str,
) -> Verdict:
    planned, found, alpha = case.planned, case.found, plan.alpha
    rule = partial(
        decide,
        margin=planned.margin,
        alpha=alpha,
        higher_is_better=case.spec.higher_is_better,
    )
    complete = rule(p_adjusted, found.lo, found.hi)
    notes = list(case.notes)
    told_first = [f"exploratory: {case.amended}"] if case.amended else []
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
    arms = planned.arms()
    interim = _not_begun(case.replicates, observed, arms)
    if interim and found.n:
        notes.append(f"interim: {interim} of {case.replicates} replicates have not run")
    if case.spec.higher_is_better is None and p_adjusted is not None and p_adjusted < alpha:
        notes.append(f"{planned.metric} has no better direction, so nothing improves or harms")
    if planned.weights:
        notes.append(ols_note(planned.weights, planned.aliases))
    keys = observed.keys(arms)
    notes += [*planned.confounded, *guard.confounds(history, keys, plan.fingerprints.protocol)]
    compared = [t.key for arm in arms for t in observed.trials.get(arm, {}).values()]
    notes += guard.beside(plan, history, compared)
    if alone := plan.unpartnered(planned):
        notes.append(f"arms without a partner, left out: {', '.join(alone)}")
    ruling = Ruling(
        id=case.id,
        claim=planned.claim,
        a=case.a,
        b=case.b,
        metric=planned.metric,
        spec=case.spec,
        planned=not case.amended,
        found=found,
        p_adjusted=p_adjusted,
        adjustment=adjustment,
        verdict=verdict,
        reason=reason,
        notes=told_first + notes,
        keys=keys,
        margin=planned.margin,
        expectation=words.expectation(planned.expect, verdict, found.difference),
        worst_case=worst_verdict,
        amended=case.amended,
        aliases=planned.aliases,
        replicates=case.replicates,
    )
    return ruling.told(plan, alpha)


def _not_begun(replicates: int, observed: Observed, arms: Iterable[str]) -> int:
    involved = list(arms)
    return sum(
        all(observed.states.get(arm, {}).get(r, "pending") in UNFINISHED for arm in involved)
        for r in range(replicates)
    )
