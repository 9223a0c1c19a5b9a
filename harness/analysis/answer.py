"""Plan + study + history -> Answer: verdicts on the declared contrasts, and what else was seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.analysis import explore, guard, tradeoffs, verdicts
from harness.analysis.estimated_contrasts import estimated_contrasts
from harness.analysis.inference import Group, estimate, one_group
from harness.analysis.model import RULES, Answer, ArmRow, Cell, Verdict
from harness.analysis.observed import (
    Observed,
    PromptReader,
    failures,
    observe,
    order_metrics,
    row_name,
    spent,
)
from harness.analysis.tradeoffs import agreements
from harness.contract import MetricSpec
from harness.journal.history import History
from harness.journal.prompt_values import PromptTables
from harness.journal.records import PromptSpread
from harness.journal.states import ENDED
from harness.planning.kinds import comparisons
from harness.planning.pilot import arms_of
from harness.planning.plan import Adaptive, Plan
from harness.planning.prompt_spread import digests

if TYPE_CHECKING:
    from harness.study.model import Study


def answer(
    plan: Plan,
    study: Study,
    history: History,
    metrics: Mapping[str, MetricSpec],
    *,
    by_prompt: PromptReader | None = None,
) -> Answer:
    """Judge a study by what its history holds now; an unfinished one gets an interim answer.

    Args:
        plan: the plan, with contrasts resolved to matched arms.
        study: the study, for alpha and the sides' levels.
        history: journals of the workspace and of recorded results.
        metrics: the subject's metric specs.
        by_prompt: where values by prompt are read; None: those that the history's records name.
    """
    observed = observe(plan, history, by_prompt or PromptTables(history))
    specs = order_metrics(metrics, observed)
    names = [arm.name for arm in plan.arms]
    rows = [*_arm_rows(plan, observed, specs), *_reference_rows(plan, observed, specs)]
    estimates = estimated_contrasts(plan, study, observed, specs)
    amended = [one.wide.p for one in estimates if one.amended]
    explored = explore.explore(plan, observed, specs, plan.alpha, amended)
    judged = verdicts.judged(estimates, explored, plan, history, observed)
    pair = tradeoffs.pick_metrics(specs, plan.primary)
    points = []
    if pair:
        better = tuple(bool(specs[m].higher_is_better) for m in pair)
        x, y = (observed.of(m, names) for m in pair)
        points = tradeoffs.pareto(x, y, (better[0], better[1]))
    cost = spent(plan, history)
    return Answer(
        rules=RULES,
        study=plan.study,
        question=plan.question,
        scope=plan.scope,
        about="checkpoints" if plan.of_checkpoints else "recipes",
        protocol=plan.fingerprints.protocol,
        protocol_name=plan.protocol,
        primary=plan.primary,
        headline=_headline(plan, rows, judged),
        metrics={m: _metric(spec) for m, spec in specs.items()},
        arms=rows,
        verdicts=[*judged, *explored.verdicts],
        effects=explored.effects,
        interactions=explored.interactions,
        left_out=explored.left_out,
        alpha=plan.alpha,
        replicates=plan.replicates,
        fraction=plan.fraction,
        frozen_at=plan.frozen_at,
        amendments=plan.amendments,
        pareto=points,
        pareto_metrics=pair,
        agreement=agreements(specs, observed.values, names, 1 - plan.alpha, plan.scope),
        failures=failures(plan, observed),
        seconds_all=cost.seconds_all,
        seconds_failed=cost.seconds_failed,
        gpu_hours=cost.gpu_hours,
        attempts=cost.attempts,
        attempts_failed=cost.attempts_failed,
        attempts_cut_off=cost.cut_off,
        prompt_spreads=prompt_spreads(plan, observed),
        trial_seconds=cost.trial_seconds,
        devices=_devices(plan, history),
        warnings=_warnings(plan, history),
    )


def _metric(spec: MetricSpec) -> dict[str, str | bool | None]:
    return {
        "unit": spec.unit,
        "higher_is_better": spec.higher_is_better,
        "description": spec.description,
        "headline": spec.headline,
    }


def _cell(name: str, metric: str, observed: Observed, plan: Plan, *, by_prompt: bool) -> Cell:
    """One arm's metric: its interval is over seeds, and over prompts for the metrics shown."""
    values = observed.of(metric, [name])[name]
    by_replicate = {r: values[r] for r in sorted(values)}
    if not by_replicate:
        return Cell(mean=None, n=0, values={})
    arrays = observed.by_prompt(metric) if by_prompt else None
    cells = one_group([{name: 1.0}])
    found = estimate({name: by_replicate}, cells, arrays, checkpoints=plan.of_checkpoints)
    mean = sum(by_replicate.values()) / len(by_replicate)
    lo, hi = found.interval(plan.alpha) or (None, None)
    spread = sum((v - mean) ** 2 for v in by_replicate.values()) / max(1, len(by_replicate) - 1)
    return Cell(
        mean=mean,
        lo=lo,
        hi=hi,
        sd=spread**0.5 if len(by_replicate) > 1 else None,
        n_prompts=found.prompts.n if found.prompts and lo is not None else 0,
        n=len(by_replicate),
        values=by_replicate,
    )


def _row(
    name: str, observed: Observed, specs: Mapping[str, MetricSpec], plan: Plan
) -> dict[str, Any]:
    states = observed.states.get(name, {})
    return {
        "n_done": sum(s == "done" for s in states.values()),
        "states": dict(sorted(Counter(states.values()).items())),
        "trial_states": dict(sorted(states.items())),
        "keys": {r: t.key for r, t in sorted(observed.trials.get(name, {}).items())},
        "cells": {
            m: _cell(name, m, observed, plan, by_prompt=spec.headline or m == plan.primary)
            for m, spec in specs.items()
        },
    }


def _arm_rows(plan: Plan, observed: Observed, specs: Mapping[str, MetricSpec]) -> list[ArmRow]:
    return [
        ArmRow(
            arm=arm.name,
            levels=arm.levels,
            baseline=arm.baseline,
            n_planned=plan.replicates_of(arm.name),
            **_row(arm.name, observed, specs, plan),
        )
        for arm in plan.arms
    ]


def _reference_rows(
    plan: Plan, observed: Observed, specs: Mapping[str, MetricSpec]
) -> list[ArmRow]:
    planned = {row_name(t): t.trial.arm for t in plan.trials if t.trial.kind == "reference"}
    return [
        ArmRow(
            arm=arm,
            kind="reference",
            levels={},
            n_planned=len(observed.trials[name]),
            **_row(name, observed, specs, plan),
        )
        for name, arm in planned.items()
    ]


def _headline(plan: Plan, rows: Sequence[ArmRow], judged: Sequence[Verdict]) -> str:
    arms = [row for row in rows if row.kind == "arm"]
    states: Counter[str] = Counter()
    for row in arms:
        states.update(row.states)
    total = sum(row.n_planned for row in arms)
    open_ = total - sum(states[state] for state in ENDED)
    troubles = [f"{states[s]} {s}" for s in ("failed", "diverged") if states[s]]
    progress = ", ".join([f"{states['done']} of {total} trials done", *troubles])
    if not states["done"]:
        return f"No answer yet, {progress}."
    verdict_words = (
        "; ".join(f"{v.id}: {v.verdict}{_given_up(plan, v)}{_outside(v)}" for v in judged)
        or "no contrasts declared"
    )
    if plan.adaptive is not None:
        return _headline_of_looks(plan.adaptive, progress, verdict_words)
    first = plan.frozen_replicates or plan.replicates
    if plan.replicates < first and any(v.planned for v in judged):
        progress += f", {plan.replicates} of the {first} replicates that the first run planned"
        open_ = 1  # planned verdicts are judged on those of the first run
    return f"{'Interim' if open_ else 'Complete'}, {progress}. {verdict_words}."


def _headline_of_looks(adaptive: Adaptive, progress: str, verdict_words: str) -> str:
    """The headline of a study that runs until decided."""
    looked, most = adaptive.looked, f"at most {adaptive.at_most} replicates"
    if not adaptive.over:
        last = f"last look after {looked} of {most}" if looked else f"no look yet, {most}"
        return f"Interim, {last}, {progress}. {verdict_words}."
    states = {state for _, state in adaptive.ended().values()}
    still = any(o.state == "open" for o in adaptive.looks[-1].outcomes.values())
    ended = "Decided" if "decided" in states and not still else "Complete"
    return f"{ended} after {looked} of {most}, {progress}. {verdict_words}."


def _given_up(plan: Plan, verdict: Verdict) -> str:
    """How a look gave a contrast up or decided otherwise, where its verdict does not tell it."""
    if plan.adaptive is None or not verdict.planned:
        return ""
    last = plan.adaptive.last_said(verdict.id)
    if last is not None and not last[1].is_of(verdict.p, verdict.difference):
        return f" ({last[1].told} by the numbers of the look after {last[0]})"
    _, state = plan.adaptive.ended().get(verdict.id, (0, "open"))
    return f" ({state})" if state in ("futile", "prompt-bound") else ""


def _outside(verdict: Verdict) -> str:
    return "" if verdict.planned else " (exploratory)"


def _devices(plan: Plan, history: History) -> list[str]:
    records = [history.trials[t.trial.key] for t in plan.trials if t.trial.key in history.trials]
    return sorted({a.opened.device for t in records for a in t.ordered if a.opened.device})


def _warnings(plan: Plan, history: History) -> list[str]:
    keys = [t.trial.key for t in plan.trials if t.trial.kind == "trial"]
    warnings = guard.confounds(history, keys, plan.fingerprints.protocol)
    warnings += [*guard.changes_since(plan, history), *guard.known_before(plan, history)]
    return [*plan.warnings, *warnings, *history.warnings]


def prompt_spreads(plan: Plan, observed: Observed) -> list[PromptSpread]:
    """One record for everything that is tested and whose trials all have values by prompt."""
    keys = {(arm, r): trial.key for arm, row in observed.trials.items() for r, trial in row.items()}
    spreads = []
    for contrast in plan.contrasts:
        by_prompt = observed.by_prompt(contrast.metric)
        if by_prompt is None or contrast.traits.over_training:
            continue
        for test in comparisons(contrast):
            groups = test.groups
            values = observed.of(contrast.metric, arms_of(groups))
            today = digests(contrast.metric, observed.protocol, groups, values, keys)
            signed = [Group(tuple(cells), sign) for sign, cells in groups]
            prompts = estimate(values, signed, by_prompt).prompts
            if prompts is None or prompts.df <= 0:
                continue
            spreads.append(
                PromptSpread(
                    id=contrast.id,
                    metric=contrast.metric,
                    replicates=[today[r] for r in sorted(today)],
                    variance=prompts.variance,
                    both=prompts.both,
                    df=prompts.df,
                    prompts=prompts.n,
                    strata=len(prompts.counts),
                )
            )
    return spreads
