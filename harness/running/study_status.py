"""How a study stands by its journal: counts, what runs now, what went wrong. Read-only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from harness.errors import HarnessError, WorkspaceError
from harness.frozen_model import FrozenModel
from harness.journal import claims, shards
from harness.journal.command_line import typed
from harness.journal.history import History, TrialHistory
from harness.journal.records import Planned
from harness.journal.states import IN_ORDER, OVER, StateNow
from harness.journal.trial import Trial
from harness.journal.workspace import Workspace, here, project_of
from harness.planning.amendments import frozen_of
from harness.planning.looks import looks_in_words, looks_of
from harness.planning.plan import Adaptive, Plan, PlannedTrial
from harness.study.yaml_file import name_in


class TrialStatus(FrozenModel):
    """One trial as it stands."""

    key: str
    short: str
    arm: str
    kind: str
    replicate: int
    state: StateNow = Field(description="`interrupted`: opened by a driver that is gone.")
    attempts: int
    reason: str = ""
    seconds: float = Field(description="Wall seconds of all attempts.")
    ended: float | None = Field(None, description="Unix time of the last ending.")
    made_in: str = Field("", description="Id of the workspace it was made in, if not this one.")


class StudyStatus(FrozenModel):
    """A study as it stands."""

    study: str
    study_file: str = Field("", description="The file that was run last, if it is still there.")
    workspace: str
    running_on: str = Field("", description="Driver that runs it now, if any.")
    counts: dict[str, int]
    to_run: int = Field(0, description="Trials without a result: what the next `run` runs.")
    looks: list[str] = Field(
        default_factory=list, description="Of a study that runs until decided: what is open."
    )
    trials: list[TrialStatus]
    report: str = ""


def study_status(study: str, history: History, workspace: Workspace) -> StudyStatus:
    """Every trial that the study's last `run` planned.

    Raises:
        HarnessError: if the study never ran in this workspace.
    """
    latest = history.latest_plan(study)
    if latest is None:
        names = ", ".join(sorted(history.planned)) or "none yet"
        raise HarnessError(
            f"study {study!r} never ran in workspace {workspace.root}; studies there: {names}"
        )
    records, own = history.read_by(study).trials, workspace.id
    trials = [trial_status(t, records.get(t.key), workspace, own) for t in latest.trials]
    counts = Counter(t.state for t in trials)
    page = workspace.study(study) / "report.html"
    return StudyStatus(
        study=study,
        study_file=_file_of(latest, workspace),
        workspace=str(workspace.root),
        running_on=shards.holders(workspace, study),
        counts={state: counts[state] for state in IN_ORDER if counts[state]},
        to_run=sum(t.state not in OVER for t in trials),
        looks=_looks(study, history),
        trials=trials,
        report=str(page) if page.is_file() else "",
    )


def _looks(study: str, history: History) -> list[str]:
    frozen = frozen_of(history, study)
    if frozen is None or frozen.spending is None:
        return []
    looks = looks_of(history, study)
    adaptive = Adaptive(at_most=frozen.spending.at_most, first=frozen.spending.first, looks=looks)
    return looks_in_words(adaptive)


def _file_of(planned: Planned, workspace: Workspace) -> str:
    """The study's file as one would type it, where it is in the project at hand."""
    try:
        folder: Path | None = here()
    except WorkspaceError:  # it was deleted
        folder = None
    projects = (workspace.root.parent, *([] if folder is None else [project_of(folder / "x")]))
    for project in projects:
        file = project / planned.study_file
        if planned.study_file and file.is_file() and name_in(file) == planned.study:
            if folder is not None and file.is_relative_to(folder):
                file = file.relative_to(folder)
            return str(file)
    return ""


def left_by_others(
    plan: Plan, mine: Sequence[PlannedTrial], history: History, workspace: Workspace
) -> dict[str, int]:
    """How many trials of the plan, other than `mine`, have no result yet, by how they stand."""
    own = {t.trial.key for t in mine}
    trials = [t.trial for t in plan.trials if t.trial.key not in own]
    here = workspace.id
    by_state = Counter(
        trial_status(t, history.trials.get(t.key), workspace, here).state for t in trials
    )
    return {state: by_state[state] for state in IN_ORDER if by_state[state] and state not in OVER}


def trial_status(
    trial: Trial, history: TrialHistory | None, workspace: Workspace, own: str | None = None
) -> TrialStatus:
    """One trial; an attempt without an ending counts as running only while its claim is held.

    Many trials of one workspace are told sooner with its id, `own`.
    """
    own = workspace.id if own is None else own
    state: StateNow = history.state if history else "pending"
    if state == "running" and not claims.is_claimed(claims.trial_lock(workspace, trial.key)):
        state = "interrupted"
    latest = history.latest if history else None
    closed = latest.closed if latest else None
    elsewhere = latest is not None and latest.opened.is_elsewhere(own)
    return TrialStatus(
        key=trial.key,
        short=trial.short,
        arm=trial.arm,
        kind=trial.kind,
        replicate=trial.replicate,
        state=state,
        attempts=len(history.attempts) if history else 0,
        reason=closed.reason if closed and state != "pending" else "",
        seconds=history.seconds() if history else 0.0,
        ended=closed.at if closed else None,
        made_in=latest.opened.workspace if elsewhere and latest else "",
    )


def only_key(history: History, prefix: str, workspace: Workspace) -> str:
    """The one key that starts with `prefix`; a short name such as `arm-r0-k1f9c2a7b` is fine too.

    Raises:
        HarnessError: if there is none, or more than one.
    """
    digits = prefix.rpartition("-")[2] if "-" in prefix else prefix
    keys = history.find(digits)
    if len(keys) == 1:
        return keys[0]
    if not keys:
        listing = typed("status", "--json", workspace=workspace)
        raise HarnessError(
            f"no trial {prefix!r} in workspace {workspace.root}. `{listing}` lists "
            "the keys; another workspace is named with --workspace."
        )
    raise HarnessError(f"{prefix!r} is ambiguous: {', '.join(keys[:5])}. Give more digits.")


def recorded_workspace(workspace: Path | None, study: Path | None = None) -> Workspace:
    """The workspace a reading command means.

    Raises:
        HarnessError: if there is nothing there.
    """
    place = Workspace.find(study, workspace)
    if not place.journal.is_dir():
        start = "`run` and a study file"
        if study is not None:
            start = f"`{typed('run', study=study, workspace=place)}`"
        raise HarnessError(
            f"nothing ran yet in workspace {place.root}. Start with {start}, or "
            "name another workspace with --workspace."
        )
    return place
