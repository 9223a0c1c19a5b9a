"""Closing records, from what an attempt left on disk: true even if its worker or driver died."""

from __future__ import annotations

import time

from harness.executors.base import Ended, Job
from harness.journal import Attempt, Closed, Opened
from harness.running import attempts
from harness.workspace import Workspace


def record(
    opened: Opened, job: Job, ended: Ended, at: float, began: float, lines: list[attempts.Line]
) -> Closed:
    """The closing record of an attempt that ended under this driver.

    Args:
        opened: its opening.
        job: what was executed.
        ended: how it ended.
        at: when, Unix time; not before it began, though a clock was set back.
        began: `time.monotonic()` of its start, for a worker that could not say how long it took.
        lines: what it reported.
    """
    info: dict[str, str] = {}
    for line in lines:
        info.update(line.report.info)
    if ended.device:
        info.setdefault("device", ended.device)
    return Closed(
        at=max(at, opened.at),
        key=job.key,
        attempt=job.attempt,
        nonce=job.nonce,
        state=ended.state,
        reason=ended.reason,
        seconds=ended.seconds or time.monotonic() - began,
        gpus=job.gpus,
        step=max((line.report.step for line in lines), default=0),
        measurements=attempts.measurements(lines),
        artifacts=attempts.kept_artifacts(lines),
        info=info,
    )


def untold(lines: list[attempts.Line], last: float) -> list[attempts.Line]:
    """Reports on disk after the one made at Unix time `last`; all where that is not among them.

    Reports travel in bundles: the last bundle of a worker that dies never arrives.
    """
    arrived = [number for number, line in enumerate(lines) if line.at == last]
    return lines[arrived[-1] + 1 :] if arrived else lines


def interrupted(workspace: Workspace, attempt: Attempt) -> Closed:
    """The closing record of an attempt whose driver vanished: killed, as far as it reported."""
    opened = attempt.opened
    lines = attempts.read_reports(attempts.folder_of(workspace, attempt))
    last = attempts.last_told(opened.at, lines)
    return Closed(
        at=last,
        key=opened.key,
        attempt=opened.attempt,
        nonce=opened.nonce,
        state="killed",
        reason="interrupted: its driver ended without closing it",
        seconds=last - opened.at,
        gpus=opened.gpus,
        step=max((line.report.step for line in lines), default=0),
        measurements=attempts.measurements(lines),
        artifacts=attempts.kept_artifacts(lines),
    )
