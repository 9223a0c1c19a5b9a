"""What nobody declared beforehand: level comparisons, main effects, interactions.

p is adjusted by Benjamini and Hochberg, with intervals that agree with it. Of m comparisons with R
found at level alpha, the found ones get intervals at 1 - alpha R / m, which keep the share of
intervals that miss below alpha (Benjamini and Yekutieli 2005). The others get 1 - alpha (R + 1) /
m, at which none of them excludes 0: an interval and its adjusted p never say different things.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.analysis import sentences
from harness.analysis.effects import (
    InteractionContrast,
    LevelContrast,
    fitted_interactions,
    fitted_level_contrasts,
    fitted_main_effects,
    interactions,
    level_contrasts,
    main_effects,
)
from harness.analysis.inference import ByPrompt, Cell, Estimated, Values, estimate, one_group
from harness.analysis.model import About, Effect, Interaction, Spread, Verdict
from harness.analysis.observed import Observed
from harness.analysis.sizes import gap_of, sizes_of
from harness.analysis.step_down import verdict_of
from harness.contract import MetricSpec
from harness.planning.detectable import ols_note
from harness.planning.plan import Plan

MOST_INTERACTIONS = 200
"""More than these are not computed: no one reads them and they only dilute the adjustment."""
MOST_NAMED = 6
"""Pairs of factors that a note names before the rest is only counted."""


@dataclass(frozen=True)
class Explored:
    """Exploratory findings, adjusted together by Benjamini-Hochberg."""

    verdicts: list[Verdict]
    effects: list[Effect]
    interactions: list[Interaction]
    declared: list[tuple[float | None, float]]
    """Adjusted p of the declared contrasts that are exploratory, and the error rates of their
    intervals, in the order given."""
    left_out: list[str]
    """Interactions that are not formed, and why."""


@dataclass(frozen=True)
class _Metric:
    name: str
    spec: MetricSpec
    values: Values
    by_prompt: ByPrompt | None
    checkpoints: bool

    def estimate(self, cells: Sequence[Cell]) -> Estimated:
        group = one_group(cells)
        return estimate(self.values, group, self.by_prompt, checkpoints=self.checkpoints)


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
    names_shown = [m for m, spec in specs.items() if spec.headline or m == plan.primary]
    metrics = [
        _Metric(m, specs[m], observed.of(m, names), observed.by_prompt(m), plan.of_checkpoints)
        for m in names_shown
    ]
    levels = _levels(plan, metrics)
    crossed, left_out = _interactions(plan, metrics)
    tests = [found.p() for *_, found in levels] + [found.p() for *_, found in crossed]
    family = benjamini_hochberg([*declared, *tests])
    rated = list(zip(family, error_rates(family, alpha), strict=True))
    own = rated[len(declared) :]
    return Explored(
        [_verdict(plan, observed, *item, *pair) for item, pair in zip(levels, own, strict=False)],
        [effect for metric in metrics for effect in _effects(plan, metric, alpha)],
        [
            _interaction(*item, *pair)
            for item, pair in zip(crossed, own[len(levels) :], strict=True)
        ],
        rated[: len(declared)],
        left_out,
    )


def _levels(plan: Plan, metrics: list[_Metric]) -> list[tuple[_Metric, LevelContrast, Estimated]]:
    declared = [(c.metric, c.arm_weights()) for c in plan.contrasts if c.kind == "difference"]
    if plan.fraction:
        of = fitted_level_contrasts(plan.arms, plan.factors)
    else:
        of = level_contrasts(plan.arms, plan.factors, every=plan.of_checkpoints)
    listed = [(contrast, contrast.arm_weights()) for contrast in of]
    return [
        (metric, contrast, metric.estimate(contrast.cells()))
        for metric in metrics
        for contrast, weights in listed
        if not any(metric.name == m and _same(weights, w) for m, w in declared)
    ]


def _same(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether two contrasts compare the same arms, in either direction."""
    if one.keys() != other.keys():
        return False
    signs = {1.0 if one[a] * other[a] > 0 else -1.0 for a in one}
    return len(signs) == 1 and all(abs(abs(one[a]) - abs(other[a])) < 1e-9 for a in one)


def _interactions(
    plan: Plan, metrics: list[_Metric]
) -> tuple[list[tuple[_Metric, InteractionContrast, Estimated]], list[str]]:
    """Those of the primary metric that the design holds, and what is said of the others."""
    primary = [m for m in metrics if m.name == plan.primary]
    if not primary or len(plan.factors) < 2:
        return [], []
    if plan.fraction:
        listed = fitted_interactions(plan.arms, plan.factors, plan.fraction)
    else:
        listed = interactions(plan.arms, plan.factors)
    if len(listed) > MOST_INTERACTIONS:
        return [], [
            f"{len(listed)} interactions of two levels each: above {MOST_INTERACTIONS} none is "
            "formed. A contrast of the study may declare one (`interaction:`)"
        ]
    formed = {frozenset(item.factors) for item in listed}
    factors = [factor for factor, levels in plan.factors.items() if len(levels) > 1]
    absent = [
        f"{f} with {g}"
        for f, g in itertools.combinations(factors, 2)
        if frozenset((f, g)) not in formed
    ]
    notes = []
    if absent and not plan.fraction:  # a fraction has its alias table
        pairs = ", ".join(absent[:MOST_NAMED])
        more = f" and {len(absent) - MOST_NAMED} more" if len(absent) > MOST_NAMED else ""
        notes = [f"{pairs}{more}: no cell of the design holds all four combinations"]
    estimated = [(primary[0], item, primary[0].estimate(item.cells)) for item in listed]
    return estimated, notes


def _effects(plan: Plan, metric: _Metric, alpha: float) -> list[Effect]:
    if plan.fraction:
        listed = fitted_main_effects(plan.arms, plan.factors)
    else:
        listed = [(*effect, ()) for effect in main_effects(plan.arms, plan.factors)]
    cells_of = {(factor, level): (cells, aliases) for factor, level, cells, aliases in listed}
    effects = []
    for factor, levels in plan.factors.items():
        for level in levels:
            cells, aliases = cells_of.get((factor, level), ([], ()))
            estimated = metric.estimate(cells)
            lo, hi = estimated.interval(alpha) or (None, None)
            effects.append(
                Effect(
                    factor=factor,
                    level=level,
                    metric=metric.name,
                    mean=estimated.difference,
                    lo=lo,
                    hi=hi,
                    n=estimated.seeds.n,
                    n_prompts=_prompts(estimated),
                    why=_why(estimated, metric) if cells else _not_formed(plan, factor),
                    aliases=list(aliases),
                )
            )
    return effects


def _not_formed(plan: Plan, factor: str) -> str:
    if len(plan.factors[factor]) < 2:
        return "it has one level: there is nothing to compare it with"
    if plan.fraction:
        return "the arms that are planned do not determine it"
    return "no cell of the design holds every level"


def _why(found: Estimated, metric: _Metric) -> str:
    """Why there is no number or no interval; empty where there are both."""
    never = f"{metric.name} was never measured"
    return found.why if any(metric.values.values()) else never


def _prompts(found: Estimated) -> int:
    return found.prompts.n if found.prompts else 0


def _interaction(
    metric: _Metric,
    item: InteractionContrast,
    found: Estimated,
    p_adjusted: float | None,
    rate: float,
) -> Interaction:
    lo, hi = found.interval(rate) or (None, None)
    return Interaction(
        factors=item.factors,
        levels=item.levels,
        references=item.references,
        metric=metric.name,
        difference=found.difference,
        lo=lo,
        hi=hi,
        level=1 - rate,
        p=found.p(),
        p_adjusted=p_adjusted,
        n=found.seeds.n,
        n_prompts=_prompts(found),
        why=_why(found, metric),
        aliases=list(item.aliases),
    )


def _verdict(
    plan: Plan,
    observed: Observed,
    metric: _Metric,
    contrast: LevelContrast,
    found: Estimated,
    p_adjusted: float | None,
    rate: float,
) -> Verdict:
    reading = verdict_of(found.interval(rate), None, metric.spec.higher_is_better)
    a, b = f"{contrast.factor}={contrast.level}", f"{contrast.factor}={contrast.reference}"
    aliased = [ols_note(contrast.weights, contrast.aliases)] if contrast.weights else []
    reason = _why(found, metric)
    words = sentences.sentence(
        reading.verdict,
        kind="difference",
        a=a,
        b=b,
        metric=metric.name,
        unit=metric.spec.unit,
        difference=found.difference,
        lo=reading.lo,
        hi=reading.hi,
        level=1 - rate,
        n=found.seeds.n,
        n_planned=plan.replicates,
        n_prompts=_prompts(found),
        about=about(found),
        p_adjusted=p_adjusted,
        adjustment="after Benjamini-Hochberg, exploratory",
        margin=None,
        as_expected="",
        scope=plan.scope,
        reason=reason,
    )
    return Verdict(
        id=f"{a} | {b} | {metric.name}",
        claim=f"{a} against {b}",
        metric=metric.name,
        about=about(found),
        planned=False,
        n=found.seeds.n,
        n_planned=plan.replicates,
        n_prompts=_prompts(found),
        difference=found.difference,
        lo=reading.lo,
        hi=reading.hi,
        level=1 - rate,
        p=found.p(),
        p_adjusted=p_adjusted,
        method=method_of(found),
        spread=spread_of(found),
        verdict=reading.verdict,
        words=words,
        notes=[*([reason] if reason else []), *aliased],
        per_replicate=dict(found.seeds.per_replicate),
        a=a,
        b=b,
        sizes=sizes_of(
            "difference",
            found,
            metric.values,
            contrast.cells(),
            metric.spec,
            gap_of(plan, contrast.arm_weights(), observed.values.get(metric.name, {})),
        ),
        factor=contrast.factor,
        keys=observed.keys(contrast.arm_weights()),
        aliases=list(contrast.aliases),
    )


def about(found: Estimated | None) -> About:
    """What a claim is about."""
    return "checkpoints" if found is not None and found.checkpoints else "recipes"


def method_of(found: Estimated) -> str:
    """How an interval was made: seeds, and prompts by stratum."""
    if not found.prompts:
        return found.seeds.method
    over = "over prompts alone" if found.checkpoints else found.seeds.method
    counts = found.prompts.counts
    strata = f" in {len(counts)} strata" if len(counts) > 1 else ""
    how = "jackknife pseudo-values of " if found.prompts.pseudo else ""
    return f"{over}; {how}{found.prompts.n} prompts{strata}, {found.prompts.df:.3g} df"


def spread_of(found: Estimated | None) -> Spread | None:
    """The parts of a standard error; None where there is none."""
    if found is None:
        return None
    prompts = found.prompts
    if found.checkpoints:
        if prompts is None or not found.judged:
            return None
        return Spread(
            seeds=None, seeds_df=None, prompts=prompts.variance**0.5, prompts_df=prompts.df
        )
    if found.seeds.se is None or found.seeds.df is None:
        return None
    return Spread(
        seeds=found.seeds.se,
        seeds_df=found.seeds.df,
        prompts=prompts.variance**0.5 if prompts else None,
        prompts_df=prompts.df if prompts else None,
        both=prompts.both**0.5 if prompts else None,
    )


def benjamini_hochberg(p: Sequence[float | None]) -> list[float | None]:
    """Benjamini-Hochberg's step-up adjustment over the tests that have a p."""
    order = sorted(((v, i) for i, v in enumerate(p) if v is not None), reverse=True)
    out: list[float | None] = [None] * len(p)
    best = 1.0
    for rank, (value, i) in enumerate(order):
        # Step-up: m / rank times p, and never above that of a larger p. Hence from the largest
        # down.
        best = min(best, len(order) / (len(order) - rank) * value)
        out[i] = best
    return out


def error_rates(adjusted: Sequence[float | None], alpha: float) -> list[float]:
    """The error rate at which each comparison's interval is read."""
    tests = sum(v is not None for v in adjusted)
    rejected = sum(v is not None and v <= alpha for v in adjusted)
    if not tests:
        return [alpha] * len(adjusted)
    rate_of_others = alpha * min(1.0, (rejected + 1) / tests)
    return [
        alpha * rejected / tests if v is not None and v <= alpha else rate_of_others
        for v in adjusted
    ]
