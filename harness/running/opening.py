"""Opens attempts: what a missing trial needs before it starts, as a job and its opening record."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.contract import Fingerprints, Measurement
from harness.executors.base import Job
from harness.executors.deadline import Deadline
from harness.journal import Opened, TrialHistory
from harness.plan import PlannedTrial
from harness.running import attempts, environment
from harness.subjects.settings import SubjectSpec
from harness.workspace import Workspace


@dataclass(frozen=True)
class Settings:
    """What is the same for every attempt of a run."""

    study: str
    subject: SubjectSpec
    measurement: Measurement
    fingerprints: Fingerprints
    measures: bool = False
    """Whether the subject can measure a kept student."""
    gpus: float = 0.0
    cpus: float = 1.0
    project: Path | None = None
    deadline: Deadline = field(default_factory=Deadline)


@dataclass(frozen=True)
class Prepared:
    """An attempt whose folder exists and that has not begun."""

    job: Job
    opened: Opened
    carried: int
    """Step of the checkpoint it continues from; 0 for a fresh start."""


def prepare(
    planned: PlannedTrial,
    past: TrialHistory | None,
    settings: Settings,
    workspace: Workspace,
    gpus: float,
) -> Prepared:
    """Make the attempt folder, copy what it continues from, and describe the job.

    Args:
        planned: the trial as it stands.
        past: all that is recorded of it, by whichever study.
        settings: what is the same for every attempt.
        workspace: where it goes.
        gpus: that it takes.

    Raises:
        OSError: if the workspace cannot be written.
    """
    trial, fingerprints = planned.trial, planned.fingerprints or settings.fingerprints
    number = attempts.next_number(workspace, past, trial.key)
    nonce, folder = attempts.make_folder(workspace, trial, number)
    seen = past.read_by(settings.study, planned.code or fingerprints.code) if past else None
    measured, student = _kept_student(planned, seen, workspace)
    mode: Literal["train", "measure", "reference"] = "train"
    if trial.kind == "reference":
        mode = "reference"
    elif student is not None:
        mode = "measure"
    previous = None
    copies: list[attempts.Checkpoint] = []
    if mode == "train":
        previous = attempts.resumable(seen, fingerprints.code, fingerprints.protocol)
    if previous is not None:
        try:
            (folder / attempts.PREPARED).touch()
            copies = attempts.continue_from(attempts.folder_of(workspace, previous), folder)
        except OSError:  # half a copy only takes space
            attempts.remove_unstarted(folder)
            raise
    job = Job(
        key=trial.key,
        short=trial.short,
        attempt=number,
        nonce=nonce,
        mode=mode,
        subject=settings.subject,
        recipe=trial.recipe,
        replicate=trial.replicate,
        folder=folder,
        log=workspace.trial(trial.key) / attempts.LOG,
        cache=workspace.cache,
        measurement=settings.measurement,
        resume_from=copies[0].path if copies else None,
        fallbacks=[c.path for c in copies[1:]],
        student=student,
        gpus=gpus,
        cpus=settings.cpus,
        deadline=settings.deadline.planned,
        notice=settings.deadline.file,
        code=fingerprints.code,
        project=settings.project,
    )
    opened = Opened(
        at=time.time(),
        key=trial.key,
        attempt=number,
        nonce=nonce,
        study=settings.study,
        mode="measure" if mode == "measure" else "train",
        trial=trial,
        protocol=fingerprints.protocol,
        protocol_name=settings.measurement.protocol,
        code=fingerprints.code,
        code_files=fingerprints.code_files,
        data_files=fingerprints.data_files,
        invocation=fingerprints.invocation,
        student_of=measured,
        environment=environment.versions(),
        device=environment.device_model(gpus > 0),
        gpus=gpus,
        host=environment.host(),
        workspace=workspace.id,
        resumed_from=previous.opened.attempt if previous is not None and copies else None,
    )
    return Prepared(job, opened, copies[0].step if copies else 0)


def _kept_student(
    planned: PlannedTrial, past: TrialHistory | None, workspace: Workspace
) -> tuple[str, Path | None]:
    """Nonce and kept student of a trial that only needs measuring, if it is still there."""
    done = past.complete if past else None
    if planned.state != "measure" or done is None or done.closed is None:
        return "", None
    folder = attempts.folder_of(workspace, done)
    kept = [folder / a.path for a in done.closed.artifacts if a.kind == "student"]
    return (done.opened.nonce, kept[-1]) if kept and kept[-1].exists() else ("", None)
