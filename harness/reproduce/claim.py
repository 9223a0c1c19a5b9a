"""Reproduces a claim: the fewest trials that decide its contrast, and the verdict they give now."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.analysis.model import Verdict
from harness.errors import HarnessError, NotJudgedError
from harness.journal.history import History
from harness.journal.records import Planned
from harness.journal.trial import Trial
from harness.journal.workspace import Workspace
from harness.planning.amendments import contrasts_in
from harness.planning.printed import hours_in_words, plural
from harness.reproduce import depths, new_replicates, stored, surroundings
from harness.reproduce.bands import coverage_for, replicate_band
from harness.reproduce.depths import Depth, Echo, rerun_trial
from harness.reproduce.judging import Compared, weakest
from harness.reproduce.one_trial import ReproductionRequest, loaded, opening, reproduce_trial
from harness.reproduce.places import Places
from harness.reproduce.recorded import Recorded, record_of
from harness.reproduce.reproduction import Reproduction
from harness.reproduce.restudy import Numbers, Restudied, restudy, verdict_key, with_replicates
from harness.study.planned_contrast import PlannedContrast


def reproduce_claim(
    contrast: str,
    key: str,
    history: History,
    places: Places,
    workspace: Workspace,
    asked: ReproductionRequest,
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
    fields: dict[str, Any] = {
        "key": first.key,
        "short": first.trial.short,
        "study": claim.restudied.study.name,
        "contrast": contrast,
    }
    echo(f"claim      {contrast}: {claim.verdict.words}")
    if fresh_seeds:
        return _fresh(claim, fresh_seeds, fields, workspace, echo)
    if asked.depth == "tables":
        subject, _ = loaded(first)
        fields["level"] = "tables"
        return stored.reproduce_tables(first, subject, workspace, fields, contrast)
    announced, depth = _opening(claim, asked)
    for line in announced:
        echo(line)
    asked = replace(
        asked, depth=depth, metrics={claim.contrast.metric}, family=len(claim.trials), alone=False
    )
    parts = []
    for number, recorded in enumerate(claim.trials, 1):
        echo(f"trial      {number}/{len(claim.trials)}  {recorded.trial.short}")
        parts.append(reproduce_trial(recorded, asked, workspace, echo))
        echo(f"           {parts[-1].decision}: {parts[-1].reason}")
    return _judged(claim, parts, fields)


def _opening(claim: ReportedClaim, asked: ReproductionRequest) -> tuple[list[str], Depth]:
    """The set, what differs, what each depth costs for all of it; and the depth to go to."""
    ladders, differences = [], []
    for recorded in claim.trials:
        subject, problem = loaded(recorded)
        ladders.append(depths.prices(recorded, subject))
        here = surroundings.surroundings_of(recorded, subject).differences if subject else [problem]
        differences += here
    of, arms = claim.restudied.plan.replicates, len({r.trial.arm for r in claim.trials})
    total = [depths.together(prices) for prices in zip(*ladders, strict=True)]
    depth = depths.depth_to_run(asked.depth, total, claim.contrast.id)
    lines = [
        f"smallest   {plural(len(claim.trials), 'trial')}: {arms} arms x the first "
        f"{claim.replicates} of {of} replicates give this verdict by themselves",
        *([f"left out   no result: {', '.join(claim.without)}"] if claim.without else []),
        *opening(list(dict.fromkeys(differences)), [price.line() for price in total]),
        f"level      {depth}: {depths.WHAT[depth]}",
    ]
    return lines, depth


def _judged(
    claim: ReportedClaim, parts: Sequence[Reproduction], fields: dict[str, Any]
) -> Reproduction:
    name = claim.contrast.id
    fields |= {
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
    if fields["level"] not in ("measure", "train") or decision == "not judged":
        return Reproduction(**fields, decision=decision, reason=reason)
    numbers: Numbers = {part.key: _last(part) for part in parts}
    fewer = claim.restudied.with_numbers(numbers).first(claim.replicates).verdicts()[name]
    whole = claim.restudied.with_numbers(numbers).verdicts()[name]
    changed = {verdict_key(fewer), verdict_key(whole)} != {verdict_key(claim.verdict)}
    verdicts = (
        f"{name} was {claim.verdict.verdict}; by these trials alone it is {fewer.verdict}, with "
        f"the other replicates as recorded {whole.verdict}"
    )
    if changed:
        decision, reason = "not reproduced", f"{reason}; the verdict is another"
    return Reproduction(
        **fields, decision=decision, reason=reason, verdicts=verdicts, verdict_changed=changed
    )


def _last(part: Reproduction) -> dict[str, float | None]:
    last = max((v.step for v in part.values), default=0)
    return {v.metric: v.now for v in part.values if v.step == last and v.measured}


def _fresh(
    claim: ReportedClaim, count: int, fields: dict[str, Any], workspace: Workspace, echo: Echo
) -> Reproduction:
    """New replicates of both sides: their differences against the recorded ones."""
    arms = _one_each(claim)
    fields |= {"level": "train", "fresh_seeds": count}
    try:
        fields["differences"] = new_replicates.ready(arms[0])[1]
        first = max(
            new_replicates.first_free(recorded) for recorded in arms
        )  # the arms of a pair share it
        jobs = [(r, trial) for r in arms for trial in new_replicates.new_trials(r, count, first)]
    except HarnessError as error:
        return Reproduction(**fields, decision="not judged", reason=str(error))
    closed = [r.trained.closed for r in arms]
    seconds = count * sum(c.seconds for c in closed if c is not None)
    echo(f"price      {plural(len(jobs), 'new trial')}: {hours_in_words(seconds / 3600)}")
    runs = []
    for number, (recorded, trial) in enumerate(jobs, 1):
        echo(f"trial      {number}/{len(jobs)}  {trial.short}")
        runs.append(rerun_trial(recorded, "train", workspace, echo, trial))
    fields["parts"] = [new_replicates.part_of(run, arms[0]) for run in runs]
    fields["seconds"] = sum(run.ended.seconds for run in runs)
    bad = [part for part in fields["parts"] if part.decision == "not judged"]
    if bad:
        reason = f"{len(bad)} of {len(runs)} new trials gave no numbers; see {bad[0].folder}"
        return Reproduction(**fields, decision="not judged", reason=reason)
    numbers = [(run.trial, new_replicates.numbers_of(run)) for run in runs]
    larger = with_replicates(claim.restudied, numbers).verdicts()[claim.contrast.id]
    return _fresh_judged(claim, larger, count, fields)


def _one_each(claim: ReportedClaim) -> list[Recorded]:
    """A recorded trial of each arm; other studies may know the arms by other names."""
    arm_of = {t.trial.key: t.trial.arm for t in claim.restudied.plan.trials}
    by_arm: dict[str, Recorded] = {}
    for recorded in claim.trials:
        by_arm.setdefault(arm_of[recorded.key], recorded)
    return list(by_arm.values())


def _fresh_judged(
    claim: ReportedClaim, larger: Verdict, count: int, fields: dict[str, Any]
) -> Reproduction:
    then = claim.verdict.per_replicate
    new = [value for r, value in larger.per_replicate.items() if r not in then]
    band = replicate_band([*then.values()], coverage_for(1), count)
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
    decision = new_replicates.by_band(value.now, band)
    changed = verdict_key(larger) != verdict_key(claim.verdict)
    return Reproduction(
        **fields,
        decision=decision,
        reason=new_replicates.in_words(decision, [value], fields["differences"]),
        values=[value],
        verdicts=f"{claim.contrast.id} was {claim.verdict.verdict}, with the new replicates added "
        f"to the recorded ones it is {larger.verdict}: {larger.words}",
        verdict_changed=changed,
    )


MOST_LISTED = 6


@dataclass(frozen=True)
class ReportedClaim:
    """A contrast of a recorded study and the trials that decide it."""

    contrast: PlannedContrast
    verdict: Verdict
    restudied: Restudied
    replicates: int
    """How many replicates, from the first, give the recorded verdict by themselves."""
    trials: list[Recorded]
    without: list[str]
    """Trials of these replicates that have no result to reproduce, with their states."""


def claim_of(
    contrast: str, key: str, history: History, places: Places, workspace: Workspace
) -> ReportedClaim:
    """The contrast, its recorded verdict, and the smallest set of trials that gives it."""
    planned = _declaring(contrast, key, history, places)
    history = history.read_by(planned.study)
    keys = {t.key for t in planned.trials}
    done = [h for h in history.trials.values() if h.key in keys and h.complete is not None]
    if not done:
        raise NotJudgedError(f"study {planned.study!r} has no result to reproduce")
    some = record_of(done[0].key, history, places, workspace)
    protocol = max(
        (a.opened for h in done for a in h.ordered if a.closed and a.closed.measurements),
        key=lambda opened: opened.at,
        default=some.measured_by.opened,
    ).protocol
    restudied = restudy(planned, history, some.project, places, workspace, protocol)
    declared = {c.id: c for c in restudied.plan.contrasts}
    verdict = restudied.verdicts()[contrast]
    arms = set(declared[contrast].arms())
    if not arms:
        raise NotJudgedError(f"contrast {contrast} has no matched arms, so no trial decides it")
    sides = [
        t.trial for t in restudied.plan.trials if t.trial.kind == "trial" and t.trial.arm in arms
    ]
    without = _without_result(sides, history, protocol)
    if verdict.n == 0:
        raise NotJudgedError(
            f"contrast {contrast} has no verdict to reproduce, as no replicate has both sides. "
            f"Without a result: {_listed(sides, without)}. Run the study first."
        )
    replicates = smallest(restudied, contrast)
    deciding = [t for t in sides if t.replicate < replicates]
    trials = [
        record_of(t.key, history, places, workspace) for t in deciding if t.key not in without
    ]
    left_out = [f"{t.short} ({without[t.key]})" for t in deciding if t.key in without]
    return ReportedClaim(declared[contrast], verdict, restudied, replicates, trials, left_out)


def _without_result(sides: Sequence[Trial], history: History, protocol: str) -> dict[str, str]:
    """Key to state of the trials that hold no number of the protocol to compare with."""
    state_of: dict[str, str] = {}
    for trial in sides:
        record = history.trials.get(trial.key)
        state = record.state if record is not None else "pending"
        if record is None or record.complete is None:
            state_of[trial.key] = state
        elif state == "done" and not record.measured(protocol):
            state_of[trial.key] = "not measured under this protocol"
    return state_of


def _listed(sides: Sequence[Trial], without: Mapping[str, str]) -> str:
    trials = [f"{t.short} ({without[t.key]})" for t in sides if t.key in without]
    more = f" and {len(trials) - MOST_LISTED} more" if len(trials) > MOST_LISTED else ""
    return ", ".join(trials[:MOST_LISTED]) + more


def smallest(restudied: Restudied, contrast: str) -> int:
    """Fewest replicates, from the first, that give the recorded verdict, as do all larger sets.

    An undecided verdict rests on all of them. Trials of other contrasts stay as recorded.
    """
    verdict = restudied.verdicts()[contrast]
    count = restudied.plan.replicates
    if verdict.verdict == "undecided":
        return count
    # A prefix, not the smallest set of any replicates, lest those are picked that come out. So this
    # asks whether the recorded numbers come out; `--fresh-seeds` asks whether the claim holds.
    while count > 2 and verdict_key(restudied.first(count - 1).verdicts()[contrast]) == verdict_key(
        verdict
    ):
        count -= 1
    return count


def _declaring(contrast: str, key: str, history: History, places: Places) -> Planned:
    latest = {name: max(plans, key=lambda p: p.at) for name, plans in history.planned.items()}
    latest = {name: p for name, p in latest.items() if places.means(p)}
    if key:
        own = {p.study for p in latest.values() if any(t.key == key for t in p.trials)}
        latest = {name: p for name, p in latest.items() if name in own}
    ids = {name: [c["id"] for c in contrasts_in(p.study_json)] for name, p in latest.items()}
    holding = [name for name, declared in ids.items() if contrast in declared]
    if len(holding) == 1:
        return latest[holding[0]]
    if holding:
        raise HarnessError(
            f"studies {', '.join(sorted(holding))} all declare a contrast {contrast}: name one "
            "with --study, or give a key of it as well"
        )
    declared_in = "; ".join(f"{name}: {', '.join(c) or 'none'}" for name, c in sorted(ids.items()))
    looked = "".join(f"\n  {line}" for line in places.searched())
    raise HarnessError(
        f"no study declares contrast {contrast!r} ({declared_in}). Looked in:{looked}"
    )
