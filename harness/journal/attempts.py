"""Attempt folders: made exclusively, continued from the last complete checkpoint, read back."""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from harness.contract import Artifact, Report
from harness.journal.history import Attempt, TrialHistory
from harness.journal.records import MeasuredAt
from harness.journal.trial import Trial
from harness.journal.workspace import Workspace

REPORTS = "reports.jsonl"
LOG = "log.txt"
PREPARED = ".prepared"
"""In an attempt's folder until its worker begins: all that is in it are copies."""
SURROUNDINGS = (
    *("OSError", "MemoryError", "OutOfMemoryError", "TimeoutError", "ConnectionError"),
    # a reason opens with the class that was raised, not with the one it is a kind of
    *(kind.__name__ for kind in ConnectionError.__subclasses__() if kind.__module__ == "builtins"),
)
"""Errors of the machine rather than of the trial, as they open a failure's reason."""


class ReportLine(NamedTuple):
    """One report of an attempt and when it was made (Unix seconds)."""

    at: float
    report: Report


def make_folder(workspace: Workspace, trial: Trial, number: int) -> tuple[str, Path]:
    """Make `attempts/<number>-<nonce>` exclusively, and trial.json on first sight.

    Returns:
        the nonce and the folder.
    """
    nonce = secrets.token_hex(4)
    root = workspace.trial(trial.key)
    folder = root / "attempts" / f"{number}-{nonce}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Two drivers that both believe to hold the claim (a lock lost on a network file system) still
    # never write into one folder.
    folder.mkdir(exist_ok=False)
    write_trial_json(root / "trial.json", trial)
    return nonce, folder


def folder_of(workspace: Workspace, attempt: Attempt) -> Path:
    """The folder of a recorded attempt."""
    return workspace.trial(attempt.opened.key) / "attempts" / attempt.folder_name


def write_trial_json(file: Path, trial: Trial) -> None:
    """Keep a trial's identity beside its attempts: what the key is the hash of, arm and levels."""
    if file.exists():
        return
    content = {
        **trial.identity(),
        "key": trial.key,
        "arm": trial.arm,
        "levels": trial.levels,
    }
    temporary = file.with_name(f".{file.name}-{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    temporary.replace(file)


def next_number(workspace: Workspace, history: TrialHistory | None, key: str) -> int:
    """One above every attempt recorded or found on disk; under the trial's claim.

    Folders that a driver made and did not live to use count as little as they hold: they go.
    """
    attempts = history.ordered if history else []
    numbers, recorded = [a.opened.attempt for a in attempts], {a.folder_name for a in attempts}
    for folder in (workspace.trial(key) / "attempts").glob("*-*"):
        if folder.name in recorded or not _never_begun(folder):
            numbers.append(_number_of(folder))
        else:
            remove(folder)
    return max(numbers, default=0) + 1


def _never_begun(folder: Path) -> bool:
    try:
        return (folder / PREPARED).exists() or not any(folder.iterdir())
    except OSError:
        return False


def start_attempt(folder: Path) -> None:
    """The worker begins: from now on the folder holds what it writes."""
    with contextlib.suppress(OSError):
        (folder / PREPARED).unlink(missing_ok=True)


def append_report(folder: Path, at: float, report: Report) -> None:
    """Append one report to the attempt's reports.jsonl; NaN and infinities become null."""
    # Not brought to the disk one by one: what a power cut takes are the last reports, and the next
    # attempt continues from the checkpoint that is still listed.
    with (folder / REPORTS).open("a", encoding="utf-8") as handle:
        handle.write(_text(at, report))


def _text(at: float, report: Report) -> str:
    return f'{{"at": {at!r}, "report": {report.model_dump_json()}}}\n'


def read_reports(folder: Path) -> list[ReportLine]:
    """Reports of an attempt in order; null metrics read as NaN, a torn last line is left out."""
    file = folder / REPORTS
    if not file.is_file():
        return []
    lines = []
    for text in file.read_text(encoding="utf-8").split("\n"):
        try:
            content = json.loads(text)
            lines.append(ReportLine(float(content["at"]), report_of(content["report"])))
        except (ValueError, KeyError, TypeError):
            continue
    return lines


def last_report_time(opened: float, lines: Iterable[ReportLine]) -> float:
    """Unix time of an attempt's last report; of its opening where it has none since then."""
    return max([opened, *(line.at for line in lines)])


def report_of(content: Mapping[str, Any]) -> Report:
    """A report from its JSON object, null metrics as NaN; estimates without a value are dropped."""
    metrics = {k: math.nan if v is None else v for k, v in content.get("metrics", {}).items()}
    estimates = [e for e in content.get("estimates", ()) if e.get("value") is not None]
    return Report.model_validate({**content, "metrics": metrics, "estimates": estimates})


def rewind(folder: Path, first: Report) -> None:
    """Drop carried reports that `first`, the first one of this attempt, makes obsolete.

    Those of later steps, and those of its own step whose numbers it tells again. Others of its own
    step stay: one of them lists the checkpoint this attempt continues from.
    """

    def obsolete(report: Report) -> bool:
        if report.step != first.step:
            return report.step > first.step
        again = report.metrics.keys() & first.metrics.keys()
        empty = not report.metrics and not report.artifacts
        return report.measured == first.measured and (bool(again) or empty)

    lines = read_reports(folder)
    kept = [line for line in lines if not obsolete(line.report)]
    if len(kept) < len(lines):
        temporary = folder / f".{REPORTS}"  # a crash here must not lose where it continued from
        temporary.write_text("".join(_text(*line) for line in kept), encoding="utf-8")
        temporary.replace(folder / REPORTS)


class Checkpoint(NamedTuple):
    """A complete checkpoint of an earlier attempt."""

    path: Path
    step: int


def checkpoints(folder: Path) -> list[Checkpoint]:
    """Complete checkpoints of an attempt, newest first: reported, and still there."""
    by_path: dict[str, Checkpoint] = {}
    for line in read_reports(folder):
        for artifact in line.report.artifacts:
            path = folder / artifact.path
            if artifact.kind == "checkpoint" and path.exists():
                by_path[artifact.path] = Checkpoint(path, line.report.step)
    latest_first = reversed(by_path.values())  # two may be of one step
    return sorted(latest_first, key=lambda c: c.step, reverse=True)


def resumable(history: TrialHistory | None, code: str, protocol: str) -> Attempt | None:
    """The attempt to continue: the latest, if it was interrupted and ran the same code.

    One that raised is not: what it had computed may be what broke it. Running out of memory or disk
    is the machine's doing, so such a trial continues.
    """
    latest = history.latest if history else None
    if history is None or latest is None or latest.opened.attempt <= history.superseded_to:
        return None
    closed = latest.closed
    if closed is not None and closed.state != "killed":
        surroundings = closed.state == "failed" and closed.reason.startswith(SURROUNDINGS)
        if not surroundings:
            return None
    # What was measured up to the checkpoint is carried over as it stands.
    same = latest.opened.code == code and latest.opened.protocol == protocol
    return latest if same else None


def continue_from(previous: Path, folder: Path, keep: int = 2) -> list[Checkpoint]:
    """Copy the last complete checkpoints, and what was reported up to them, into a new attempt.

    One that changes or vanishes meanwhile is passed over: a worker on a node that was given up may
    still be writing there.

    Args:
        previous: folder of the attempt to continue.
        folder: the new attempt's folder.
        keep: how many checkpoints to copy: the last one, and those to fall back to.

    Returns:
        the copies, newest first; empty where there is nothing to continue.
    """

    def place(checkpoint: Checkpoint) -> Path:
        return folder / checkpoint.path.relative_to(previous)

    # Checkpoints come before the reports that list them. Until the worker begins, `PREPARED` marks
    # the folder: a crash in between leaves copies that nothing refers to.
    copied = list(islice((c for c in checkpoints(previous) if _copied(c.path, place(c))), keep))
    if not copied:
        return []
    for line in read_reports(previous):
        if line.report.step > copied[0].step:
            continue
        for artifact in line.report.artifacts:
            source = previous / artifact.path
            if artifact.kind != "checkpoint" and source.exists():
                _copy(source, folder / artifact.path)
        append_report(folder, line.at, line.report)
    return [Checkpoint(place(c), c.step) for c in copied]


def _copied(source: Path, target: Path) -> bool:
    """Copy a checkpoint; False, and nothing left of it, if it was not the same throughout."""
    before = _parts(source)
    try:
        _copy(source, target)
        same = _parts(source) == before
    except OSError:
        if _parts(source) == before:
            raise  # the disk's fault
        same = False
    if not same:
        remove(target)
    return same


def _parts(path: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of change of a file, or of each file in a folder."""
    stats = {}
    with contextlib.suppress(OSError):  # it is vanishing
        for file in [path, *path.rglob("*")]:
            status = file.stat()
            stats[file] = status.st_size, status.st_mtime_ns
    return stats


def remove(path: Path) -> None:
    """Delete a file or a folder; harmless where it is gone."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


def drop_checkpoints(root: Path, read: Mapping[Path, list[ReportLine]] | None = None) -> None:
    """Delete the checkpoints of a finished trial: needed until it is done, and large.

    Where no student was left, the newest one stays: it is all there is of what was trained.

    Args:
        root: folder of the trial.
        read: reports that were read already, by attempt folder; long ones take a while.
    """
    folders = sorted((root / "attempts").glob("*-*"), key=_number_of)
    reports = {f: (read or {}).get(f) or read_reports(f) for f in folders}
    listed = {f: [a for line in reports[f] for a in line.report.artifacts] for f in folders}
    newest = _newest(folders) if not any(_has_student(f, listed[f]) for f in folders) else None
    for folder, artifacts in listed.items():
        others = [folder / a.path for a in artifacts if a.kind != "checkpoint"]
        for path in {folder / a.path for a in artifacts if a.kind == "checkpoint"} - {newest}:
            if any(path == other or path in other.parents for other in others):
                continue  # the same folder holds something to keep
            remove(path)


def drop_earlier_checkpoints(root: Path, last: Path) -> None:
    """Delete those of a finished trial's attempts before the last, if that has one itself."""
    if checkpoints(last):
        for folder in (root / "attempts").glob("*-*"):
            for checkpoint in checkpoints(folder) if folder != last else ():
                remove(checkpoint.path)


def _has_student(folder: Path, artifacts: Iterable[Artifact]) -> bool:
    return any(a.kind == "student" and (folder / a.path).exists() for a in artifacts)


def _newest(folders: Iterable[Path]) -> Path | None:
    """The newest checkpoint of the last attempt that has any."""
    newest = [points[0].path for f in folders if (points := checkpoints(f))]
    return newest[-1] if newest else None


def _number_of(folder: Path) -> int:
    head = folder.name.partition("-")[0]
    return int(head) if head.isdigit() else 0


def measurements(lines: Iterable[ReportLine]) -> list[MeasuredAt]:
    """Measurements among the reports, by step; the latest of a step counts, NaN becomes None."""
    by_step: dict[int, MeasuredAt] = {}
    for _, report in lines:
        if report.measured:
            by_step[report.step] = MeasuredAt(
                step=report.step,
                metrics={k: v if math.isfinite(v) else None for k, v in report.metrics.items()},
                estimates=[e for e in report.estimates if math.isfinite(e.value)],
            )
    return [by_step[step] for step in sorted(by_step)]


def kept_artifacts(lines: Iterable[ReportLine]) -> list[Artifact]:
    """Every artifact but checkpoints, each path once, in order of appearance."""
    artifacts: dict[tuple[str, str], Artifact] = {}
    for _, report in lines:
        artifacts.update({(a.kind, a.path): a for a in report.artifacts if a.kind != "checkpoint"})
    return list(artifacts.values())


def remove_unstarted(folder: Path) -> None:
    """Remove the folder of an attempt that never began, or could not be prepared."""
    shutil.rmtree(folder, ignore_errors=True)
