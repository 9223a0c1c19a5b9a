"""Results of checkpoints that are to be measured again: where the checkpoint is still there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.errors import HarnessError
from harness.journal import shards
from harness.journal.labels import label_of
from harness.journal.writer import Journal
from harness.planning.make import make_plan
from harness.planning.plan import PlannedTrial
from harness.running import plan_record
from harness.study.opened_study import OpenedStudy
from harness.subjects.settings import StudentsSettings


def supersede_outdated(opened: OpenedStudy, echo: Callable[[str], None]) -> None:
    """Supersede stale results that can be had again: of reference rows, and of checkpoints here.

    A result whose checkpoint is gone stays, and is told: nothing could take its place.

    Raises:
        HarnessError: if the study is not of checkpoints, or another process runs it.
    """
    study, workspace = opened.study, opened.workspace
    if not isinstance(study.subject, StudentsSettings):
        raise HarnessError(f"{study.file} is no study of checkpoints")
    if not make_plan(opened).count("stale"):
        return
    workspace.ensure_usable()
    with shards.claim_run(workspace, study.name, None):
        history = opened.reread()
        plan = make_plan(opened)
        stale = [t for t in plan.trials if t.state == "stale"]
        here = [t for t in stale if _is_here(t, study.subject, opened.project)]
        journal = Journal(workspace.journal, history.described[workspace.journal])
        plan_record.supersede(study.name, here, journal, history, workspace.id)
    left = [t for t in stale if t not in here]
    if left:
        why = "; ".join(sorted({t.why for t in left if t.why}))
        shown = ", ".join(t.trial.short for t in left[:3]) + (", ..." if len(left) > 3 else "")
        echo(
            f"warning   {len(left)} results stay as they are though something changed ({why}), "
            f"since their checkpoints are gone: {shown}"
        )


def _is_here(planned: PlannedTrial, subject: StudentsSettings, project: Path) -> bool:
    trial = planned.trial
    if trial.kind != "trial":
        return True
    levels = {name: label_of(value) for name, value in trial.recipe.items()}
    return any(
        (project / s.path).exists()
        for s in subject.students
        if s.replicate == trial.replicate
        and all(levels.get(name) == label_of(value) for name, value in s.levels.items())
    )
