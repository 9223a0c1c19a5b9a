"""GPU-hours that a study has spent already, whatever became of them."""

from __future__ import annotations

from collections.abc import Collection

from harness.journal import Attempt, History
from harness.running import attempts
from harness.workspace import Workspace

_HOUR = 3600.0


def spent_gpu_hours(
    study: str, keys: Collection[str], history: History, workspace: Workspace
) -> float:
    """GPU-hours of every attempt of the study, and of the trials that are its own.

    Failures count, and so do superseded results. An attempt that
    nobody closed, because its driver died or is at it, counts up to its last report.

    Args:
        study: name of the study.
        keys: trials that it plans, or planned once; other studies may have run some of them.
        history: what is recorded.
        workspace: where attempts leave their reports.
    """
    own = frozenset(keys)
    return (
        sum(
            _gpu_seconds(attempt, workspace)
            for key, known in history.trials.items()
            for attempt in known.attempts.values()
            if key in own or attempt.opened.study == study
        )
        / _HOUR
    )


def _gpu_seconds(attempt: Attempt, workspace: Workspace) -> float:
    if attempt.closed is not None:
        return attempt.closed.seconds * attempt.closed.gpus
    opened = attempt.opened
    if not opened.gpus:
        return 0.0
    lines = attempts.read_reports(attempts.folder_of(workspace, attempt))
    return (attempts.last_told(opened.at, lines) - opened.at) * opened.gpus
