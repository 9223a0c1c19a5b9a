"""A study answered from its records: where the commands that read answers start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.analysis.model import Answer
    from harness.journal.history import History
    from harness.journal.workspace import Workspace
    from harness.planning.plan import Plan
    from harness.study.model import Study


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
    from harness.analysis.answer import answer
    from harness.commands.options import tell_runner
    from harness.journal.workspace import Workspace, project_of
    from harness.planning.make import make_plan
    from harness.planning.reuse import as_answered
    from harness.running.run import history_of
    from harness.study.load import load_study
    from harness.subjects.load import load_subject

    loaded = load_study(file)
    place = Workspace.find(loaded.file, workspace)
    tell_runner(loaded.file)
    history = history_of(loaded, place)
    plan = make_plan(loaded, history, workspace=place)
    history = as_answered(plan, history)
    metrics = load_subject(loaded.subject, project=project_of(loaded.file)).metrics
    found = answer(plan, loaded, history, metrics=metrics)
    return Answered(loaded, place, history, plan, found)
