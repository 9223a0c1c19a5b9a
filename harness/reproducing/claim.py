"""Reproduces a claim: the fewest trials that decide its contrast, and the verdict they give now."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.analyse.answer import Verdict
from harness.errors import HarnessError
from harness.journal import History
from harness.planning.plan_text import duration, plural
from harness.reproducing import fresh, ladder, stored, surroundings
from harness.reproducing.again import Echo, run_again
from harness.reproducing.comparison import Compared
from harness.reproducing.deciding import Claim, claim_of
from harness.reproducing.found import Reproduction
from harness.reproducing.judging import weakest
from harness.reproducing.ladder import Level
from harness.reproducing.one_trial import Asked, loaded, opening, reproduce_trial
from harness.reproducing.places import Places
from harness.reproducing.recorded import Recorded
from harness.reproducing.restudy import Numbers, said, with_replicates
from harness.reproducing.scales import level_for, replicate_band
from harness.workspace import Workspace


def reproduce_claim(
    contrast: str,
    key: str,
    history: History,
    places: Places,
    workspace: Workspace,
    asked: Asked,
    fresh_seeds: int,
    echo: Echo,
) -> Reproduction:
    """Reproduce the trials behind a contrast, or new replicates of its arms, and judge it again.

    Raises:
        HarnessError: if no study, or more than one, declares the contrast.
        NotJudgedError: if the study cannot be answered from its record.
    """
    claim = claim_of(contrast, key, history, places, workspace)
    first = claim.trials[0]
    known: dict[str, Any] = {
        "key": first.key,
        "short": first.trial.short,
        "study": claim.made.study.name,
        "contrast": contrast,
    }
    echo(f"claim      {contrast}: {claim.verdict.words}")
    if fresh_seeds:
        return _fresh(claim, fresh_seeds, known, workspace, echo)
    if asked.level == "tables":
        subject, _ = loaded(first)
        known["level"] = "tables"
        return stored.reproduce_tables(first, subject, workspace, known, contrast)
    told, rung = _opening(claim, asked)
    for line in told:
        echo(line)
    asked = replace(
        asked, level=rung, metrics={claim.contrast.metric}, family=len(claim.trials), alone=False
    )
    parts = []
    for number, recorded in enumerate(claim.trials, 1):
        echo(f"trial      {number}/{len(claim.trials)}  {recorded.trial.short}")
        parts.append(reproduce_trial(recorded, asked, workspace, echo))
        echo(f"           {parts[-1].decision}: {parts[-1].reason}")
    return _judged(claim, parts, known)


def _opening(claim: Claim, asked: Asked) -> tuple[list[str], Level]:
    """The set, what differs, what each rung costs for all of it; and the rung to climb."""
    ladders, differences = [], []
    for recorded in claim.trials:
        subject, problem = loaded(recorded)
        ladders.append(ladder.prices(recorded, subject))
        here = surroundings.now(recorded, subject).differences if subject else [problem]
        differences += here
    of, arms = claim.made.plan.replicates, len({r.trial.arm for r in claim.trials})
    total = [ladder.together(rungs) for rungs in zip(*ladders, strict=True)]
    rung = ladder.chosen(asked.level, total, claim.contrast.id)
    told = [
        f"smallest   {plural(len(claim.trials), 'trial')}: {arms} arms x the first "
        f"{claim.replicates} of {of} replicates give this verdict by themselves",
        *([f"left out   no result: {', '.join(claim.without)}"] if claim.without else []),
        *opening(list(dict.fromkeys(differences)), [price.line() for price in total]),
        f"level      {rung}: {ladder.WHAT[rung]}",
    ]
    return told, rung


def _judged(claim: Claim, parts: Sequence[Reproduction], known: dict[str, Any]) -> Reproduction:
    name = claim.contrast.id
    known |= {
        "parts": list(parts),
        "level": parts[0].level,
        "differences": list(dict.fromkeys(d for part in parts for d in part.differences)),
        "seconds": sum(part.seconds for part in parts),
    }
    decision = weakest([part.decision for part in parts])
    counted = ", ".join(
        f"{sum(p.decision == d for p in parts)} {d}"
        for d in dict.fromkeys(p.decision for p in parts)
    )
    reason = f"{plural(len(parts), 'trial')}: {counted}"
    if known["level"] not in ("measure", "train") or decision == "not judged":
        return Reproduction(**known, decision=decision, reason=reason)
    numbers: Numbers = {part.key: _last(part) for part in parts}
    fewer = claim.made.with_numbers(numbers).first(claim.replicates).verdicts()[name]
    whole = claim.made.with_numbers(numbers).verdicts()[name]
    changed = {said(fewer), said(whole)} != {said(claim.verdict)}
    told = (
        f"{name} was {claim.verdict.verdict}; by these trials alone it is {fewer.verdict}, with "
        f"the other replicates as recorded {whole.verdict}"
    )
    if changed:
        decision, reason = "not reproduced", f"{reason}; the verdict is another"
    return Reproduction(
        **known, decision=decision, reason=reason, verdicts=told, verdict_changed=changed
    )


def _last(part: Reproduction) -> dict[str, float | None]:
    last = max((v.step for v in part.values), default=0)
    return {v.metric: v.now for v in part.values if v.step == last and v.measured}


def _fresh(
    claim: Claim, count: int, known: dict[str, Any], workspace: Workspace, echo: Echo
) -> Reproduction:
    """New replicates of both sides: their differences against the recorded ones."""
    arms = _one_each(claim)
    known |= {"level": "train", "fresh_seeds": count}
    try:
        known["differences"] = fresh.ready(arms[0])[1]
        first = max(fresh.first_free(recorded) for recorded in arms)  # the arms of a pair share it
        jobs = [(r, trial) for r in arms for trial in fresh.new_trials(r, count, first)]
    except HarnessError as error:
        return Reproduction(**known, decision="not judged", reason=str(error))
    closed = [r.trained.closed for r in arms]
    seconds = count * sum(c.seconds for c in closed if c is not None)
    echo(f"price      {plural(len(jobs), 'new trial')}: {duration(seconds / 3600)}")
    runs = []
    for number, (recorded, trial) in enumerate(jobs, 1):
        echo(f"trial      {number}/{len(jobs)}  {trial.short}")
        runs.append(run_again(recorded, "train", workspace, echo, trial))
    known["parts"] = [fresh.told(run, arms[0]) for run in runs]
    known["seconds"] = sum(run.ended.seconds for run in runs)
    bad = [part for part in known["parts"] if part.decision == "not judged"]
    if bad:
        reason = f"{len(bad)} of {len(runs)} new trials gave no numbers; see {bad[0].folder}"
        return Reproduction(**known, decision="not judged", reason=reason)
    numbers = [(run.trial, fresh.numbers_of(run)) for run in runs]
    larger = with_replicates(claim.made, numbers, workspace).verdicts()[claim.contrast.id]
    return _fresh_judged(claim, larger, count, known)


def _one_each(claim: Claim) -> list[Recorded]:
    """A recorded trial of each arm; other studies may know the arms by other names."""
    arm_of = {t.trial.key: t.trial.arm for t in claim.made.plan.trials}
    found: dict[str, Recorded] = {}
    for recorded in claim.trials:
        found.setdefault(arm_of[recorded.key], recorded)
    return list(found.values())


def _fresh_judged(claim: Claim, larger: Verdict, count: int, known: dict[str, Any]) -> Reproduction:
    then = claim.verdict.per_replicate
    new = [value for r, value in larger.per_replicate.items() if r not in then]
    band = replicate_band([*then.values()], level_for(1), count)
    value = Compared(
        step=0,
        metric=f"{claim.contrast.id}, mean of {len(then)} and of {len(new)}",
        recorded=statistics.fmean(then.values()) if then else None,
        now=statistics.fmean(new) if len(new) == count else None,
        equal=False,
        spread=statistics.stdev(then.values()) if len(then) > 1 else None,
        judged=True,
        replicates=band,
    )
    decision = fresh.by_band(value.now, band)
    changed = said(larger) != said(claim.verdict)
    return Reproduction(
        **known,
        decision=decision,
        reason=fresh.in_words(decision, [value], known["differences"]),
        values=[value],
        verdicts=f"{claim.contrast.id} was {claim.verdict.verdict}, with the new replicates added "
        f"to the recorded ones it is {larger.verdict}: {larger.words}",
        verdict_changed=changed,
    )
