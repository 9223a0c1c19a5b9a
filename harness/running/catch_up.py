"""A run with nothing to do looks whether MLflow has all of the study, and writes what it lacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.journal import shards
from harness.text.secrets import without_credentials
from harness.tracking.mlflow_place import AwayError, MlflowPlace, stamp
from harness.tracking.names import Remark
from harness.tracking.ownership import ElsewhereError
from harness.tracking.tracker import GuardedTracker

if TYPE_CHECKING:
    from harness.analysis.answered_study import AnsweredStudy

PATIENCE_SECONDS = 15.0
"""After the last write that worked."""


def catch_up(
    answered: AnsweredStudy, page: Path, place: MlflowPlace, echo: Callable[[str], None]
) -> str:
    """Empty where MLflow has everything, now at the latest; else one line: what, why, and how.

    Nothing of it fails the run: its results are there.
    """
    study, history = answered.study, answered.history
    stamp_now = stamp(answered.plan, history, page)
    address = without_credentials(place.uri)
    try:
        state = place.look(study.name, history, stamp_now)
        place.remember(study.name)
        if state is not None and state.stamp == stamp_now:
            return ""
    except ElsewhereError as error:
        if place.beside or place.adopt:  # asked for, and refused
            raise
        return f"{error}. To write beside it now: {place.sync(study.name, error.proposal)}"
    except AwayError as error:
        return (
            f"cannot see whether MLflow at {address} has all of it ({error}); what it lacks is "
            f"written by: {place.sync(study.name)}"
        )
    echo(f"mlflow     is behind; writing what is missing to {address} ...")
    try:
        problems = _write(answered, page, place, stamp_now)
    except Exception as error:  # a workspace that cannot be written, an answer that cannot be made
        problems = [f"{type(error).__name__}: {error}"]
    if not problems:
        return ""
    why = "; ".join(" ".join(text.split()) for text in problems)
    return (
        f"MLflow at {address} lacks some of what was recorded ({why}); "
        f"it is written by: {place.sync(study.name)}"
    )


def _write(answered: AnsweredStudy, page: Path, place: MlflowPlace, stamp_now: str) -> list[str]:
    # MLflow has one writer at a time, the process that holds the study.
    with shards.claim_run(answered.workspace, answered.study.name, None):
        tell = GuardedTracker(place, remedy="")
        tell.start(answered.plan, answered.history)
        tell.answer(answered.answer, page)
        tell.complete(answered.history, stamp_now)
        return [text for text in tell.close(PATIENCE_SECONDS) if not isinstance(text, Remark)]
