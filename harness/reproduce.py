"""Re-runs one reported trial from its key and says whether the same numbers come out."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness import subjects
from harness.contract import Report
from harness.errors import HarnessError, NotJudgedError
from harness.executors.base import Ended, Job
from harness.executors.worker import execute, limit_threads
from harness.reproducing import recorded as records
from harness.reproducing.comparison import Compared, compare, side_by_side
from harness.reproducing.recorded import Recorded
from harness.running.attempts import Line
from harness.subjects.settings import name_of
from harness.workspace import Workspace

Level = Literal["auto", "measure", "train"]
LEVELS: tuple[Level, ...] = ("auto", "measure", "train")
Decision = Literal["identical", "not identical", "not judged"]
EXIT_CODES: dict[Decision, int] = {"identical": 0, "not identical": 1, "not judged": 3}

Echo = Callable[[str], None]


class Reproduction(BaseModel):
    """What a reproduction found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    short: str = ""
    study: str = ""
    level: Literal["measure", "train", ""] = ""
    decision: Decision
    reason: str = ""
    differences: list[str] = Field(
        default_factory=list, description="What differs from what the trial ran with."
    )
    values: list[Compared] = Field(default_factory=list)
    folder: str = ""
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 identical, 1 not identical, 3 not judged."""
        return EXIT_CODES[self.decision]


def reproduce(key_prefix: str, *, workspace: Workspace, level: Level = "auto", echo: Echo) -> int:
    """Reproduce a trial and print what was found; see `reproduction`.

    Returns:
        exit code: 0 identical, 1 not identical, 3 not judged.
    """
    found = reproduction(key_prefix, workspace=workspace, level=level, echo=echo)
    for line in lines(found):
        echo(line)
    return found.exit_code


def reproduction(
    key_prefix: str,
    *,
    workspace: Workspace,
    level: Level = "auto",
    study: Path | None = None,
    echo: Echo,
) -> Reproduction:
    """Run a trial again, or measure its kept student again, and compare every measured number.

    Nothing of the trial is touched: everything is written below `<workspace>/reproductions/`.

    Args:
        key_prefix: a trial key, its first digits, or its short name.
        workspace: where the journal and the kept student are.
        level: `measure`, `train`, or `auto`: measure if a student is kept, else train.
        study: study file or folder whose recorded results are searched too.
        echo: prints one line of progress.

    Raises:
        HarnessError: if the key is unknown or ambiguous, or the level is no level.
    """
    if level not in LEVELS:
        raise HarnessError(f"level {level!r} must be one of {', '.join(LEVELS)}")
    try:
        recorded = records.find(key_prefix, workspace, study)
    except NotJudgedError as error:
        return Reproduction(key=key_prefix, decision="not judged", reason=str(error))
    known: dict[str, Any] = {
        "key": recorded.key,
        "short": recorded.trial.short,
        "study": recorded.study,
    }
    try:
        subject = subjects.load(recorded.subject, project=recorded.project)
        here = records.now(recorded, subject)
        known["differences"] = here.differences
        chosen = _level(level, recorded, subject)
        known["level"] = chosen
        _refuse(recorded, here, chosen)
    except HarnessError as error:
        return Reproduction(**known, decision="not judged", reason=str(error))
    for line in _opening(recorded, chosen, here.differences):
        echo(line)
    return _again(recorded, chosen, workspace, known, echo)


def _level(level: Level, recorded: Recorded, subject: Any) -> Literal["measure", "train"]:
    able = hasattr(subject, "measure") and recorded.student is not None
    able = able and recorded.trial.kind == "trial"
    if level == "auto":
        return "measure" if able else "train"
    if level == "measure" and not able:
        why = "its student was not kept, or is gone"
        if not hasattr(subject, "measure"):
            why = f"subject {name_of(recorded.subject)} has no measure()"
        if recorded.trial.kind == "reference":
            why = "it is a reference row"
        raise NotJudgedError(
            f"{recorded.key} cannot be measured again: {why}; --level train runs it from the start"
        )
    return level


def _refuse(recorded: Recorded, here: records.Now, level: str) -> None:
    if not here.same_protocol(recorded):
        name = recorded.measured_by.opened.protocol_name
        raise NotJudgedError(
            f"protocol {name} is not what it was (see what differs), so new numbers would not be "
            "comparable: restore the recorded protocol first"
        )
    if level == "train" and not here.same_data(recorded):
        raise NotJudgedError(
            "the training data is not what it was (see what differs), so the recorded trial "
            "cannot be run again: restore the recorded data first"
        )


def _opening(recorded: Recorded, level: str, differences: Sequence[str]) -> list[str]:
    what = {
        "measure": f"its kept student is measured again under {recorded.measurement.protocol}",
        "train": "it is run again from the start",
    }[level]
    closed = recorded.trained.closed
    took = f"; it took {closed.seconds:.0f} s then" if closed and level == "train" else ""
    return [
        f"{recorded.trial.short}  {recorded.key}  study {recorded.study}",
        "identity   the stored recipe hashes to the key",
        *(f"{'differs' if i == 0 else '':<10} {line}" for i, line in enumerate(differences)),
        *([] if differences else ["differs    nothing: code, data, protocol, versions, device"]),
        f"level      {level}: {what}{took}",
    ]


def _again(
    recorded: Recorded,
    level: Literal["measure", "train"],
    workspace: Workspace,
    known: dict[str, Any],
    echo: Echo,
) -> Reproduction:
    workspace.ensure_usable()
    folder = _folder(workspace, recorded.key)
    limit_threads(recorded.cpus)  # before the subject imports a numerical library
    job = _job(recorded, level, folder, workspace)
    reports: list[Line] = []
    ended = Ended(state="failed", reason="ended without an outcome")
    shown = 0.0
    for at, event in execute(job):
        if isinstance(event, Ended):
            ended = event
            break
        reports.append(Line(at, event))
        if at - shown > 2.0:
            echo(f"           {_progress(event)}")
            shown = at
    known |= {"folder": str(folder), "seconds": ended.seconds}
    found = _judge(recorded, level, reports, ended, known)
    (folder / "reproduction.json").write_text(found.model_dump_json(indent=1) + "\n")
    return found


def _folder(workspace: Workspace, key: str) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = workspace.root / "reproductions" / f"{key}-{stamp}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True, exist_ok=False)
    return folder


def _job(recorded: Recorded, level: str, folder: Path, workspace: Workspace) -> Job:
    trial = recorded.trial
    again: Literal["train", "reference"] = "reference" if trial.kind == "reference" else "train"
    return Job(
        key=trial.key,
        short=trial.short,
        attempt=1,
        nonce="reproduction",
        mode="measure" if level == "measure" else again,
        subject=recorded.subject,
        recipe=trial.recipe,
        replicate=trial.replicate,
        folder=folder,
        log=folder / "log.txt",
        cache=workspace.cache,
        measurement=recorded.measurement,
        student=recorded.student if level == "measure" else None,
        gpus=recorded.gpus,
        cpus=recorded.cpus,
        python_path=[str(recorded.project)],
    )


def _progress(report: Report) -> str:
    return f"cycle {report.step}" + (f"/{report.total}" if report.total else "")


def _judge(
    recorded: Recorded,
    level: Literal["measure", "train"],
    reports: Sequence[Line],
    ended: Ended,
    known: dict[str, Any],
) -> Reproduction:
    values = compare(recorded, level, reports)
    then = recorded.trained.closed
    assert then is not None  # `find` takes trials with a result only
    expected = then.state if level == "train" else "done"
    if ended.state == "failed":
        reason = f"it failed this time: {ended.reason}; see {known['folder']}/log.txt"
        return Reproduction(**known, decision="not judged", reason=reason, values=values)
    if ended.state != expected:
        reason = f"it ended as {ended.state} ({ended.reason}), recorded is {expected}"
        return Reproduction(**known, decision="not identical", reason=reason, values=values)
    if not values:
        if then.state == "diverged" and level == "train":
            return _judge_divergence(then.step, reports, known)
        reason = "no measured number was recorded to compare with"
        return Reproduction(**known, decision="not judged", reason=reason)
    equal = sum(v.equal for v in values)
    same = equal == len(values)
    reason = f"{equal} of {len(values)} measured numbers are bit-equal"
    decision: Decision = "identical" if same else "not identical"
    return Reproduction(**known, decision=decision, reason=reason, values=values)


def _judge_divergence(step: int, reports: Sequence[Line], known: dict[str, Any]) -> Reproduction:
    last = max((line.report.step for line in reports), default=0)
    same = last == step
    reason = f"it diverged at cycle {last}, recorded is cycle {step}"
    return Reproduction(**known, decision="identical" if same else "not identical", reason=reason)


def lines(found: Reproduction) -> list[str]:
    """The finding as text: numbers side by side, then the decision."""
    out = side_by_side(found.values)
    if not found.values and found.differences and not found.folder:
        out += [f"differs    {line}" for line in found.differences]
    if found.folder:
        out.append(f"folder     {found.folder}")
    out.append(f"{found.decision}: {found.reason}")
    return out


def to_json(found: Reproduction) -> str:
    """The finding as one JSON object, exit code included."""
    return json.dumps({**found.model_dump(mode="json"), "exit_code": found.exit_code})
