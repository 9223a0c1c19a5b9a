"""Reproduces a reported trial, or a claim, from its key and says on which scale it came out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from harness.errors import HarnessError, NotJudgedError
from harness.journal.history import History
from harness.journal.workspace import Workspace
from harness.reproduce.claim import reproduce_claim
from harness.reproduce.depths import DEPTH_OPTIONS, DepthOption
from harness.reproduce.new_replicates import fresh_replicates
from harness.reproduce.one_trial import ReproductionRequest, reproduce_trial
from harness.reproduce.places import Places, places_around, places_given
from harness.reproduce.recorded import record_of
from harness.reproduce.reproduction import Reproduction, lines, to_json
from harness.text.secrets import without_credentials

__all__ = [
    "DEPTH_OPTIONS",
    "DepthOption",
    "Reproduction",
    "lines",
    "reproduce",
    "reproduction",
    "to_json",
]

TRACKING = "MLFLOW_TRACKING_URI"
Echo = Callable[[str], None]


def reproduce(
    key_prefix: str, *, workspace: Workspace, depth: DepthOption = "auto", echo: Echo
) -> int:
    """Reproduce a trial and print what was found; see `reproduction`.

    Returns:
        exit code: 0 reproduced, 1 not reproduced, 3 not judged.
    """
    result = reproduction(key_prefix, workspace=workspace, depth=depth, echo=echo)
    for line in lines(result):
        echo(line)
    return result.exit_code


def reproduction(
    key_prefix: str = "",
    *,
    workspace: Workspace,
    depth: DepthOption = "auto",
    study: Path | None = None,
    source: str = "",
    contrast: str = "",
    fresh_seeds: int = 0,
    echo: Echo,
) -> Reproduction:
    """Reproduce a trial, a claim, or either with new replicates; judge every reported number.

    Nothing of the record is touched: everything is written below `<workspace>/reproductions/`.

    Args:
        key_prefix: a trial key, its first digits, or its short name; may be left out with a
            contrast.
        workspace: where the journal and the kept student are, and where new files go.
        depth: record, tables, measure, train; `auto` is measure if a student is kept,
            else train.
        study: study file or folder whose recorded results are searched, too.
        source: search this instead: a folder with records, a bundle, an MLflow address.
        contrast: id of a contrast: the smallest set of trials that decides it is reproduced.
        fresh_seeds: run so many new replicates of the arm (or arms) instead of recorded ones.
        echo: prints one line of progress.

    Raises:
        HarnessError: if the key or contrast is unknown or ambiguous, or options contradict.
    """
    _check(key_prefix, depth, contrast, fresh_seeds)
    try:
        places = (
            places_given(source, workspace, study) if source else places_around(workspace, study)
        )
        history = places.read()
        if key_prefix and not source:
            places, history = _with_server(key_prefix, places, history, workspace, echo)
        key = places.key(history, key_prefix, workspace) if key_prefix else ""
    except NotJudgedError as error:
        return Reproduction(key=key_prefix, decision="not judged", reason=str(error))
    try:
        if contrast:
            asked = ReproductionRequest(depth=depth)
            return reproduce_claim(
                contrast, key, history, places, workspace, asked, fresh_seeds, echo
            )
        recorded = record_of(key, history, places, workspace)
    except NotJudgedError as error:
        return Reproduction(
            key=key or key_prefix, contrast=contrast, decision="not judged", reason=str(error)
        )
    if fresh_seeds:
        return fresh_replicates(recorded, fresh_seeds, workspace, echo)
    return reproduce_trial(recorded, ReproductionRequest(depth=depth), workspace, echo)


def _check(key: str, depth: str, contrast: str, fresh_seeds: int) -> None:
    if depth not in DEPTH_OPTIONS:
        raise HarnessError(f"level {depth!r} must be one of {', '.join(DEPTH_OPTIONS)}")
    if not key and not contrast:
        raise HarnessError(
            "nothing to reproduce: give a trial key, or --contrast and its id. `status --json` "
            "and every table list keys"
        )
    if fresh_seeds < 0:
        raise HarnessError(f"--fresh-seeds {fresh_seeds} must be 1 or more")
    if fresh_seeds and depth not in ("auto", "train"):
        raise HarnessError(
            f"--fresh-seeds trains new replicates, so --level {depth} does not go with it; "
            "leave --level out"
        )


def _with_server(
    prefix: str, places: Places, history: History, workspace: Workspace, echo: Echo
) -> tuple[Places, History]:
    """If the key is nowhere near and MLFLOW_TRACKING_URI is set, that server's records as well."""
    address = os.environ.get(TRACKING, "")
    if not address or history.find(prefix.rpartition("-")[2]):
        return places, history
    shown = without_credentials(address)
    echo(f"looking     on {shown} ({TRACKING}), as no journal here holds {prefix}")
    try:
        further = places_given(address, workspace)
    except HarnessError as error:
        echo(f"warning    {error}")
        return places, history
    both = Places(
        [*places.journals, *further.journals],
        [*places.roots, *further.roots],
        [*places.projects],
        further.names,
        trusted=further.trusted,
        foreign=True,
    )
    return both, both.read()
