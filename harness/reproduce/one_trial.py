"""Reproduces one recorded trial to one depth, and judges it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.contract import Subject
from harness.errors import HarnessError, NotJudgedError
from harness.journal.workspace import Workspace
from harness.reproduce import depths, stored, surroundings
from harness.reproduce.depths import Depth, DepthOption, Echo, Rerun, rerun_trial
from harness.reproduce.judging import Judgement, compare, judge
from harness.reproduce.places import why_not_trusted
from harness.reproduce.recorded import Recorded
from harness.reproduce.reproduction import Reproduction
from harness.reproduce.restudy import changes, restudy
from harness.subjects.load import load_subject
from harness.subjects.settings import CommandSettings


@dataclass(frozen=True)
class ReproductionRequest:
    """How a trial is to be reproduced."""

    depth: DepthOption = "auto"
    metrics: Collection[str] | None = None
    """Numbers to judge; default those that the study reports."""
    family: int = 1
    """Trials judged together."""
    alone: bool = True
    """False for a trial of a claim, which tells differences, ladder and verdicts for all."""


def reproduce_trial(
    recorded: Recorded, asked: ReproductionRequest, workspace: Workspace, echo: Echo
) -> Reproduction:
    """Go to one depth for one trial. What cannot be judged is told, not raised."""
    fields: dict[str, Any] = {
        "key": recorded.key,
        "short": recorded.trial.short,
        "study": recorded.study,
    }
    for line in headline(recorded) if asked.alone else ():
        echo(line)
    subject, problem = loaded(recorded)
    try:
        here = surroundings.surroundings_of(recorded, subject) if subject is not None else None
        fields["differences"] = here.differences if here else [problem]
        priced = depths.prices(recorded, subject)
        fields["ladder"] = [price.line() for price in priced]
        for line in opening(fields["differences"], fields["ladder"]) if asked.alone else ():
            echo(line)
        depth = depths.depth_to_run(asked.depth, priced, recorded.key)
        fields["level"] = depth
        if asked.alone:
            echo(f"level      {depth}: {depths.WHAT[depth]}")
        if depth == "tables":
            return stored.reproduce_tables(recorded, subject, workspace, fields)
        if here is None:
            raise NotJudgedError(problem)
        if depth == "record":
            return _record(here, recorded, fields)
        refuse(recorded, here, depth)
    except HarnessError as error:
        why = str(error) if problem in str(error) else f"{error}: {problem}"
        return Reproduction(**fields, decision="not judged", reason=why)
    rerun = rerun_trial(recorded, depth, workspace, echo)
    return _judged(recorded, depth, rerun, asked, fields, workspace, subject)


def headline(recorded: Recorded) -> list[str]:
    """Which trial, and that its record is sound: `find` has checked the hash."""
    lines = [
        f"{recorded.trial.short}  {recorded.key}  study {recorded.study}",
        "identity   the stored recipe hashes to the key",
    ]
    if recorded.others:
        lines.append(
            f"also       {', '.join(recorded.others)} read another result of this key, made by "
            "other code: name its study file with --study to reproduce that one"
        )
    return lines


def opening(differences: Sequence[str], priced: Sequence[str]) -> list[str]:
    """What differs from then, and the ladder with its prices."""
    same = ["nothing: code, data, protocol, versions, device"]
    lines = [f"{'' if i else 'differs':<10} {line}" for i, line in enumerate(differences or same)]
    return [*lines, *(f"{'' if i else 'ladder':<10} {line}" for i, line in enumerate(priced))]


def loaded(recorded: Recorded) -> tuple[Subject | None, str]:
    """The subject, or None and why it cannot be imported, or must not be."""
    if recorded.places.foreign and not isinstance(recorded.subject, str):
        return None, (
            "the record names a command or folders of somebody else's machine; nothing of that is "
            "started from a bundle or a server: unpack it, read it, and give the folder"
        )
    if refused := why_not_trusted(recorded.subject, recorded.places):
        return None, refused
    try:
        return load_subject(recorded.subject, project=recorded.project), ""
    except HarnessError as error:
        return None, str(error)


def refuse(recorded: Recorded, here: surroundings.Surroundings, depth: Depth) -> None:
    """Refuse what would compare numbers that mean something else today.

    Raises:
        NotJudgedError: naming what has to be restored first.
    """
    if here.problem:
        raise NotJudgedError(f"{here.problem}. Put it back first")
    if not here.same_protocol(recorded):
        name = recorded.measured_by.opened.protocol_name
        raise NotJudgedError(
            f"protocol {name} is not what it was (see what differs), so new numbers would not be "
            "comparable: restore the recorded protocol first"
        )
    lacking = recorded.subject.unset() if isinstance(recorded.subject, CommandSettings) else []
    if depth == "train" and lacking:
        raise NotJudgedError(
            f"the trainer needs {', '.join(lacking)} in the environment, whose value no record "
            "holds: set it and type the same again"
        )
    if depth == "train" and not here.same_data(recorded):
        raise NotJudgedError(
            "the training data is not what it was (see what differs), so the recorded trial "
            "cannot be run again: restore the recorded data first"
        )


def reported(recorded: Recorded, subject: Subject | None) -> set[str]:
    """Metrics that carry what the study says: headline ones, its primary, its contrasts'."""
    names = {n for n, spec in subject.metrics.items() if spec.headline} if subject else set()
    settings = recorded.settings
    metrics = [settings.get("primary"), *(c.get("metric") for c in settings.get("contrasts") or ())]
    return names | {str(name) for name in metrics if name}


def _record(
    here: surroundings.Surroundings, recorded: Recorded, fields: dict[str, Any]
) -> Reproduction:
    """Hashes decide; other versions or another device are told, and decide nothing."""
    if here.problem:
        same = "the stored recipe hashes to the key; nothing else can be judged"
        reason = f"{same}: {'; '.join(here.differences)}"
        return Reproduction(**fields, decision="not judged", reason=reason)
    if here.digests:
        reason = f"what stands here is not what ran: {'; '.join(here.digests)}"
        return Reproduction(**fields, decision="not reproduced", reason=reason)
    beside = [d for d in here.differences if d not in here.digests]
    note = f"; may change last digits: {'; '.join(beside)}" if beside else ""
    reason = f"recipe, code, data and protocol have the recorded digests{note}"
    return Reproduction(**fields, decision="as recorded", reason=reason)


def _judged(
    recorded: Recorded,
    depth: Literal["measure", "train"],
    rerun: Rerun,
    asked: ReproductionRequest,
    fields: dict[str, Any],
    workspace: Workspace,
    subject: Subject | None,
) -> Reproduction:
    fields |= {"folder": str(rerun.folder), "seconds": rerun.ended.seconds}
    metrics = asked.metrics if asked.metrics is not None else reported(recorded, subject)
    judgement = _decision(recorded, depth, rerun, fields["differences"], metrics, asked.family)
    result = Reproduction(
        **fields, decision=judgement.decision, reason=judgement.reason, values=judgement.values
    )
    if asked.alone and recorded.trial.kind == "trial" and judgement.values:
        verdicts, changed = _verdicts(recorded, result, workspace)
        result = result.model_copy(update={"verdicts": verdicts, "verdict_changed": changed})
    (rerun.folder / "reproduction.json").write_text(result.model_dump_json(indent=1) + "\n")
    return result


def _decision(
    recorded: Recorded,
    depth: Literal["measure", "train"],
    rerun: Rerun,
    differences: Sequence[str],
    metrics: Collection[str],
    family: int,
) -> Judgement:
    ended = rerun.ended
    values = compare(recorded, depth, rerun.reports)
    then = recorded.trained.closed
    assert then is not None  # `find` takes trials with a result only
    expected = then.state if depth == "train" else "done"
    if ended.state == "failed":
        reason = f"it failed this time: {ended.reason}; see {rerun.folder}/log.txt"
        return Judgement("not judged", reason, [])
    if ended.state != expected:
        cause = "; ".join(differences) or "nothing that is recorded"
        reason = f"it ended as {ended.state} ({ended.reason}), recorded is {expected}. What "
        return Judgement("not reproduced", f"{reason}differs: {cause}", values)
    if not values:
        if then.state == "diverged" and depth == "train":
            return _divergence(then.step, rerun)
        return Judgement("not judged", "no measured number was recorded to compare with", [])
    return judge(values, recorded, metrics, differences, family)


def _divergence(step: int, rerun: Rerun) -> Judgement:
    last = max((line.report.step for line in rerun.reports), default=0)
    reason = f"it diverged at cycle {last}, recorded is cycle {step}"
    return Judgement("bit-equal" if last == step else "not reproduced", reason, [])


def _verdicts(
    recorded: Recorded, result: Reproduction, workspace: Workspace
) -> tuple[str, bool | None]:
    """What the study would say with the new numbers in place of the recorded ones."""
    last = max(v.step for v in result.values)
    new = {v.metric: v.now for v in result.values if v.step == last and v.measured}
    if all(v.equal for v in result.values if v.step == last):
        return "unchanged: the numbers they rest on are the same", False
    try:
        restudied = restudy(
            recorded.planned,
            recorded.history,
            recorded.project,
            recorded.places,
            workspace,
            recorded.measured_by.opened.protocol,
        )
    except NotJudgedError as error:
        return f"not worked out: {error}", None
    before, after = restudied.verdicts(), restudied.with_numbers({recorded.key: new}).verdicts()
    if not before:
        return "the study declares no contrasts", None
    changed = changes(before, after)
    text = f"changed with the new numbers in place of the old: {'; '.join(changed)}"
    same = f"unchanged with the new numbers in place of the old ({len(before)} contrasts)"
    return (text, True) if changed else (same, False)
