"""What an executor is given and what it tells back. Executors know jobs, not studies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from harness.contract import Measurement, Report
from harness.subjects.settings import SubjectSpec


class Job(BaseModel):
    """One attempt to execute, as plain data that crosses processes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    short: str
    attempt: int
    nonce: str
    mode: Literal["train", "measure", "reference"] = "train"
    subject: SubjectSpec = Field(description="The study's subject, e.g. `recipes.subject`.")
    recipe: dict[str, Any]
    replicate: int
    folder: Path = Field(description="Attempt folder, already created by the driver.")
    log: Path = Field(description="The trial's log.txt; worker output goes there.")
    cache: Path
    measurement: Measurement
    resume_from: Path | None = None
    fallbacks: list[Path] = Field(
        default_factory=list, description="Earlier checkpoints, newest first, should that be bad."
    )
    student: Path | None = Field(None, description="Kept student, for mode `measure`.")
    gpus: float = 0.0
    cpus: float = 1.0
    deadline: float | None = Field(None, description="See `Context.deadline`.")
    notice: Path | None = Field(
        None, description="File that tells when the deadline comes earlier (`Deadline`)."
    )
    stop_at_step: int | None = Field(None, description="End at this step, unmeasured (`--smoke`).")
    code: str = Field("", description="Code digest, for the log.")
    project: Path | None = Field(None, description="Project of the study, for `sys.path`.")


class Ended(BaseModel):
    """How an attempt ended, as the executor saw it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Literal["done", "failed", "diverged", "killed"]
    reason: str = ""
    traceback: str = ""
    seconds: float = 0.0
    device: str = ""
    died: bool = Field(False, description="The worker process vanished: killed, try again.")


DEADLINE = "deadline"
"""Reason of an attempt that its subject ended because its time was up; to be continued."""

Event = Literal["started"] | Report | Ended
OnEvent = Callable[[Job, Event, float], None]
"""`on_event(job, event, at)`: `at` is the Unix time of the event where it happened."""


class Executor(Protocol):
    """Runs jobs; calls `on_event` in the driver's thread: 'started', Reports, then one Ended."""

    def run(self, jobs: Iterable[Job], on_event: OnEvent, stop: Callable[[], bool]) -> None:
        """Run the jobs in order, as many at once as fit; return when all ended or `stop()` is true.

        `jobs` is pulled lazily, a job at a time, shortly before it can start. Jobs that `stop`
        prevented from starting get no event; those it interrupts end as `killed`. An exception in
        `on_event` ends the run of all jobs and is raised again.
        """

    def close(self) -> None:
        """Let go of workers; `run` may be called again and would start them anew."""
