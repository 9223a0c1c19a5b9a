"""How deep a reproduction goes, from reading to retraining: what each depth costs; running one."""

from __future__ import annotations

import itertools
import secrets
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.contract import Report, Subject
from harness.errors import NotJudgedError
from harness.executors.base import Ended, Job
from harness.executors.worker import execute, limit_threads
from harness.journal.attempts import ReportLine, read_reports
from harness.journal.trial import Trial
from harness.journal.workspace import Workspace
from harness.planning.devices import gpus_here
from harness.planning.printed import hours_in_words
from harness.reproduce.recorded import Recorded
from harness.subjects.settings import name_of

Depth = Literal["record", "tables", "measure", "train"]
DepthOption = Literal["auto", "record", "tables", "measure", "train"]
DEPTH_OPTIONS: tuple[DepthOption, ...] = ("auto", "record", "tables", "measure", "train")
WHAT: dict[Depth, str] = {
    "record": "hashes, digests of code, data and protocol, versions, device",
    "tables": "numbers and verdicts recomputed from what is stored",
    "measure": "the kept student measured again",
    "train": "run again from the start",
}


@dataclass(frozen=True)
class Price:
    """One depth: what it is, what it should cost, or why it is not possible."""

    depth: Depth
    seconds: float | None
    """Expected wall seconds here, by the record; None where nothing says."""
    gpu_hours: float = 0.0
    basis: str = ""
    refused: str = ""
    """Why it is not possible; empty if it is."""

    def line(self) -> str:
        """`train    40 s, 0.011 GPU-h   run again from the start (from ...)`."""
        if self.refused:
            return f"{self.depth:<8} {'not possible':<18}  {self.refused}"
        cost = "not known" if self.seconds is None else hours_in_words(self.seconds / 3600)
        if self.seconds is not None and self.seconds < 1:
            cost = "under 1 s"
        if self.gpu_hours:
            cost += f", {self.gpu_hours:.3g} GPU-h"
        basis = f" ({self.basis})" if self.basis else ""
        return f"{self.depth:<8} {cost:<18}  {WHAT[self.depth]}{basis}"


def prices(recorded: Recorded, subject: Subject | None) -> list[Price]:
    """All four depths, cheapest first.

    Args:
        recorded: the trial.
        subject: None where it cannot be imported: then nothing can be measured or trained.
    """
    return [
        Price("record", 0.5),
        Price("tables", 2.0),
        _measure(recorded, subject),
        _train(recorded, subject),
    ]


def together(prices: Sequence[Price]) -> Price:
    """One depth for several trials: the sum, or why one of them cannot go there."""
    first = prices[0]
    refused = [price.refused for price in prices if price.refused]
    if refused:
        reason = f"{len(refused)} of {len(prices)} trials: {refused[0]}"
        return Price(first.depth, None, refused=reason)
    seconds_each = [price.seconds for price in prices if price.seconds is not None]
    seconds = sum(seconds_each) if len(seconds_each) == len(prices) else None
    return Price(first.depth, seconds, sum(p.gpu_hours for p in prices), first.basis)


def depth_to_run(asked: DepthOption, ladder: Sequence[Price], key: str) -> Depth:
    """The depth to go to; `auto` is measuring where a student is kept, else training.

    Raises:
        NotJudgedError: if the depth asked for is not possible.
    """
    priced = {price.depth: price for price in ladder}
    depth = asked
    if depth == "auto":
        depth = "train" if priced["measure"].refused else "measure"
    if priced[depth].refused:
        open_ = [price.depth for price in ladder if not price.refused]
        raise NotJudgedError(
            f"{key} cannot be reproduced at level {depth}: {priced[depth].refused}. "
            f"Possible: --level {', --level '.join(open_)}"
        )
    return depth


def _measure(recorded: Recorded, subject: Subject | None) -> Price:
    refused = _no_device(recorded, subject)
    if recorded.trial.kind == "reference":
        refused = refused or "it is a reference row"
    elif subject is not None and not hasattr(subject, "measure"):
        refused = refused or f"subject {name_of(recorded.subject)} has no measure()"
    elif recorded.student is None:
        refused = refused or "its student was not kept, or is gone"
    if refused:
        return Price("measure", None, refused=refused)
    seconds, basis = _seconds_of_measuring(recorded)
    return Price("measure", seconds, _gpu_hours(recorded, seconds), basis)


def _train(recorded: Recorded, subject: Subject | None) -> Price:
    refused = _no_device(recorded, subject)
    closed = recorded.trained.closed
    if refused or closed is None:
        return Price("train", None, refused=refused or "it never ended")
    device = recorded.trained.opened.device
    basis = f"it took that on {device}" if device else "it took that then"
    return Price("train", closed.seconds, _gpu_hours(recorded, closed.seconds), basis)


def _no_device(recorded: Recorded, subject: Subject | None) -> str:
    if subject is None:
        return f"subject {name_of(recorded.subject)} cannot be imported here"
    here = gpus_here()
    if recorded.gpus > here:
        return f"it takes {recorded.gpus:g} GPU(s), this machine offers {here}"
    return ""


def _gpu_hours(recorded: Recorded, seconds: float | None) -> float:
    return recorded.gpus * (seconds or 0.0) / 3600


def _seconds_of_measuring(recorded: Recorded) -> tuple[float | None, str]:
    """From attempts that only measured, else from the time between this trial's own reports."""
    seconds = [
        a.closed.seconds
        for trial in recorded.history.trials.values()
        for a in trial.ordered
        if a.opened.mode == "measure" and a.closed is not None and a.closed.state == "done"
    ]
    if seconds:
        return statistics.median(seconds), f"from {len(seconds)} that were measured alone"
    lines = read_reports(recorded.folder) if recorded.folder is not None else []
    gaps = [now.at - before.at for before, now in itertools.pairwise(lines) if now.report.measured]
    if gaps:
        return gaps[-1], "from its own reports"
    closed = recorded.trained.closed
    return (closed.seconds if closed else None), "at most: training was part of it"


Echo = Callable[[str], None]
QUIET_SECONDS = 5.0
"""Between two lines of progress."""


@dataclass(frozen=True)
class Rerun:
    """What came out."""

    trial: Trial
    folder: Path
    reports: list[ReportLine]
    ended: Ended


def rerun_trial(
    recorded: Recorded,
    depth: Literal["measure", "train"],
    workspace: Workspace,
    echo: Echo,
    trial: Trial | None = None,
) -> Rerun:
    """Execute it in this process, below `<workspace>/reproductions/`; the record is not touched.

    Args:
        recorded: the trial as it was.
        depth: measure its kept student, or train.
        workspace: where to write.
        echo: gets a line of progress every few seconds.
        trial: another trial in its place, run as the recorded one was: a new replicate.

    Raises:
        WorkspaceError: if the workspace cannot be written.
    """
    workspace.ensure_usable()
    to_run = trial or recorded.trial
    folder = _folder(workspace, to_run.key)
    limit_threads(recorded.cpus)  # before the subject imports a numerical library
    reports: list[ReportLine] = []
    ended = Ended(state="failed", reason="ended without an outcome")
    began = last_line = time.time()
    for at, event in execute(_job(recorded, to_run, depth, folder, workspace)):
        if isinstance(event, Ended):
            ended = event
            break
        reports.append(ReportLine(at, event))
        if at - last_line > QUIET_SECONDS:
            echo(f"           {_progress(to_run, event)}, {at - began:.0f} s")
            last_line = at
    return Rerun(to_run, folder, reports, ended)


def _folder(workspace: Workspace, key: str) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    folder = workspace.root / "reproductions" / f"{key}-{stamp}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True, exist_ok=False)
    return folder


def _job(recorded: Recorded, trial: Trial, depth: str, folder: Path, workspace: Workspace) -> Job:
    again: Literal["train", "reference"] = "reference" if trial.kind == "reference" else "train"
    return Job.of(
        trial,
        folder,
        "reproduction",
        mode="measure" if depth == "measure" else again,
        subject=recorded.subject,
        cache=workspace.cache,
        measurement=recorded.measurement,
        student=recorded.student if depth == "measure" else None,
        gpus=recorded.gpus,
        cpus=recorded.cpus,
        project=recorded.project,
    )


def _progress(trial: Trial, report: Report) -> str:
    of = f"/{report.total}" if report.total else ""
    return f"{trial.short}  cycle {report.step}{of}"
