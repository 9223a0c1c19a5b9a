"""What nobody declared beforehand: level comparisons, main effects, interactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.analyse import effects, fractions
from harness.analyse.answer import Effect, Interaction, Verdict
from harness.analyse.contrasts import (
    Inference,
    Residual,
    Values,
    benjamini_hochberg,
    decide,
    infer,
    observations,
    residual,
)
from harness.analyse.observed import Observed
from harness.analyse.ruling import Ruling
from harness.contract import MetricSpec
from harness.plan import Plan
from harness.planning.attainable import ols_note

MOST_INTERACTIONS = 200
"""More than these are not computed: no one reads them and they only dilute the adjustment."""


@dataclass(frozen=True)
class Explored:
    """Exploratory findings, adjusted together by Benjamini-Hochberg."""

    verdicts: list[Verdict]
    effects: list[Effect]
    interactions: list[Interaction]
    declared: list[float | None]
    """Adjusted p of the declared contrasts that are exploratory, in the order given."""
    p: list[float | None]
    """p of the comparisons that nobody declared, not adjusted."""


@dataclass(frozen=True)
class _Metric:
    name: str
    spec: MetricSpec
    values: Values
    pooled: Residual | None
    size: float

    def infer(self, weights: Mapping[str, float], level: float) -> Inference:
        seen = observations(self.values, weights)
        return infer(seen, weights, self.pooled, level, self.size)


def explore(
    plan: Plan,
    observed: Observed,
    specs: Mapping[str, MetricSpec],
    alpha: float,
    declared: Sequence[float | None] = (),
) -> Explored:
    """Level comparisons and main effects on headline metrics, interactions on the primary one.

    Comparisons that a declared contrast already makes are left out. `declared` are the p values of
    contrasts that were added or changed after the first run; they join the family.
    """
    names = [arm.name for arm in plan.arms]
    shown = [m for m, spec in specs.items() if spec.headline or m == plan.primary]
    metrics = [_metric(m, specs[m], observed.of(m, names)) for m in shown]
    levels = _levels(plan, metrics, 1 - alpha)
    crossed = _interactions(plan, metrics, 1 - alpha)
    tests = [found.p for _, _, found in levels] + [found.p for _, _, found in crossed]
    family = benjamini_hochberg([*declared, *tests])
    adjusted = family[len(declared) :]
    return Explored(
        [
            _verdict(plan, observed, *item, p, alpha)
            for item, p in zip(levels, adjusted, strict=False)
        ],
        [effect for metric in metrics for effect in _effects(plan, metric, 1 - alpha)],
        [_interaction(*item, p) for item, p in zip(crossed, adjusted[len(levels) :], strict=True)],
        family[: len(declared)],
        tests,
    )


def _metric(name: str, spec: MetricSpec, values: Values) -> _Metric:
    size = max((abs(v) for row in values.values() for v in row.values()), default=0.0)
    return _Metric(name, spec, values, residual(values), size)


def _levels(
    plan: Plan, metrics: list[_Metric], level: float
) -> list[tuple[_Metric, effects.LevelContrast, Inference]]:
    declared = [(c.metric, c.arm_weights()) for c in plan.contrasts]
    of = fractions.level_contrasts if plan.fraction else effects.level_contrasts
    listed = [(contrast, contrast.arm_weights()) for contrast in of(plan.arms, plan.factors)]
    return [
        (metric, contrast, found)
        for metric in metrics
        for contrast, weights in listed
        if not any(metric.name == m and _same(weights, w) for m, w in declared)
        if (found := metric.infer(weights, level)).n > 0
    ]


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two contrasts compare the same arms, in either direction."""
    if one.keys() != other.keys():
        return False
    signs = {1.0 if one[a] * other[a] > 0 else -1.0 for a in one}
    return len(signs) == 1 and all(abs(abs(one[a]) - abs(other[a])) < 1e-9 for a in one)


def _interactions(
    plan: Plan, metrics: list[_Metric], level: float
) -> list[tuple[_Metric, effects.InteractionContrast, Inference]]:
    primary = [m for m in metrics if m.name == plan.primary]
    if not primary:
        return []
    if plan.fraction:
        listed = fractions.interactions(plan.arms, plan.factors, plan.fraction)
    else:
        listed = effects.interactions(plan.arms, plan.factors)
    if len(listed) > MOST_INTERACTIONS:
        return []
    found = [(primary[0], item, primary[0].infer(item.weights, level)) for item in listed]
    return [item for item in found if item[2].n > 0]


def _effects(plan: Plan, metric: _Metric, level: float) -> list[Effect]:
    found = []
    if plan.fraction:
        listed = fractions.main_effects(plan.arms, plan.factors)
    else:
        listed = [(*effect, ()) for effect in effects.main_effects(plan.arms, plan.factors)]
    for factor, name, weights, aliases in listed:
        seen = metric.infer(weights, level)
        if seen.difference is not None:
            found.append(
                Effect(
                    factor=factor,
                    level=name,
                    metric=metric.name,
                    mean=seen.difference,
                    lo=seen.lo,
                    hi=seen.hi,
                    n=seen.n,
                    aliases=list(aliases),
                )
            )
    return found


def _interaction(
    metric: _Metric, item: effects.InteractionContrast, found: Inference, p: float | None
) -> Interaction:
    return Interaction(
        factors=item.factors,
        levels=item.levels,
        references=item.references,
        metric=metric.name,
        difference=found.difference,
        lo=found.lo,
        hi=found.hi,
        p=found.p,
        p_adjusted=p,
        n=found.n,
        aliases=list(item.aliases),
    )


def _verdict(
    plan: Plan,
    observed: Observed,
    metric: _Metric,
    contrast: effects.LevelContrast,
    found: Inference,
    p_adjusted: float | None,
    alpha: float,
) -> Verdict:
    better = metric.spec.higher_is_better
    verdict = decide(
        p_adjusted, found.lo, found.hi, margin=None, alpha=alpha, higher_is_better=better
    )
    a, b = f"{contrast.factor}={contrast.level}", f"{contrast.factor}={contrast.reference}"
    fitted = bool(contrast.weights)
    ruling = Ruling(
        id=f"{a} | {b} | {metric.name}",
        claim=f"{a} against {b}",
        a=a,
        b=b,
        metric=metric.name,
        spec=metric.spec,
        planned=False,
        found=found,
        p_adjusted=p_adjusted,
        adjustment="after Benjamini-Hochberg, exploratory",
        verdict=verdict,
        reason="; ".join(found.notes[:1]),
        notes=[*found.notes, *([ols_note(contrast.weights, contrast.aliases)] if fitted else [])],
        keys=observed.keys(contrast.arm_weights()),
        factor=contrast.factor,
        aliases=list(contrast.aliases),
    )
    return ruling.told(plan, alpha)
