"""Runs a recorded trial, a new replicate of it, or the measuring of its student once more."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.contract import Report
from harness.executors.base import Ended, Job
from harness.executors.worker import execute, limit_threads
from harness.reproducing.recorded import Recorded
from harness.running.attempts import Line
from harness.trial import Trial
from harness.workspace import Workspace

Echo = Callable[[str], None]
QUIET_SECONDS = 5.0
"""Between two lines of progress."""


@dataclass(frozen=True)
class Again:
    """What came out."""

    trial: Trial
    folder: Path
    reports: list[Line]
    ended: Ended


def run_again(
    recorded: Recorded,
    rung: Literal["measure", "train"],
    workspace: Workspace,
    echo: Echo,
    trial: Trial | None = None,
) -> Again:
    """Execute it in this process, below `<workspace>/reproductions/`; the record is not touched.

    Args:
        recorded: the trial as it was.
        rung: measure its kept student, or train.
        workspace: where to write.
        echo: gets a line of progress every few seconds.
        trial: another trial in its place, run as the recorded one was: a new replicate.

    Raises:
        WorkspaceError: if the workspace cannot be written.
    """
    workspace.ensure_usable()
    made = trial or recorded.trial
    folder = _folder(workspace, made.key)
    limit_threads(recorded.cpus)  # before the subject imports a numerical library
    reports: list[Line] = []
    ended = Ended(state="failed", reason="ended without an outcome")
    began = shown = time.time()
    for at, event in execute(_job(recorded, made, rung, folder, workspace)):
        if isinstance(event, Ended):
            ended = event
            break
        reports.append(Line(at, event))
        if at - shown > QUIET_SECONDS:
            echo(f"           {_progress(made, event)}, {at - began:.0f} s")
            shown = at
    return Again(made, folder, reports, ended)


def _folder(workspace: Workspace, key: str) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = workspace.root / "reproductions" / f"{key}-{stamp}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True, exist_ok=False)
    return folder


def _job(recorded: Recorded, trial: Trial, rung: str, folder: Path, workspace: Workspace) -> Job:
    again: Literal["train", "reference"] = "reference" if trial.kind == "reference" else "train"
    return Job(
        key=trial.key,
        short=trial.short,
        attempt=1,
        nonce="reproduction",
        mode="measure" if rung == "measure" else again,
        subject=recorded.subject,
        recipe=trial.recipe,
        replicate=trial.replicate,
        folder=folder,
        log=folder / "log.txt",
        cache=workspace.cache,
        measurement=recorded.measurement,
        student=recorded.student if rung == "measure" else None,
        gpus=recorded.gpus,
        cpus=recorded.cpus,
        project=recorded.project,
    )


def _progress(trial: Trial, report: Report) -> str:
    of = f"/{report.total}" if report.total else ""
    return f"{trial.short}  cycle {report.step}{of}"
