"""A study answered from its records: where the commands that read answers start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.analyse.answer import Answer
    from harness.journal import History
    from harness.plan import Plan
    from harness.study import Study
    from harness.workspace import Workspace


@dataclass(frozen=True)
class Answered:
    """A study, where its records are, and what they say; the history as this study reads it."""

    study: Study
    workspace: Workspace
    history: History
    plan: Plan
    answer: Answer


def answered(file: Path, workspace: Path | None) -> Answered:
    """Load a study and answer it from the workspace and its recorded results."""
    from harness import study as studies
    from harness import subjects
    from harness.analyse.answers import answer
    from harness.commands.runner import tell_runner
    from harness.plan import make_plan
    from harness.planning.reuse import as_answered
    from harness.run import history_of
    from harness.workspace import Workspace, project_of

    loaded = studies.load(file)
    place = Workspace.find(loaded.file, workspace)
    tell_runner(loaded.file)
    history = history_of(loaded, place)
    plan = make_plan(loaded, history, workspace=place)
    history = as_answered(plan, history)
    metrics = subjects.load(loaded.subject, project=project_of(loaded.file)).metrics
    found = answer(plan, loaded, history, metrics=metrics)
    return Answered(loaded, place, history, plan, found)
