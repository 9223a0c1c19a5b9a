"""What an executor is given and what it tells back; deadlines. Executors know jobs, not studies."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import Field

from harness.contract import Context, Measurement, Report
from harness.frozen_model import FrozenModel
from harness.journal.states import EndState
from harness.journal.trial import Trial
from harness.subjects.settings import SubjectSpec


class Job(FrozenModel):
    """One attempt to execute, as plain data that crosses processes."""

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

    @classmethod
    def of(cls, trial: Trial, folder: Path, nonce: str, **settings: Any) -> Job:
        """The job of a trial in a folder that exists; the first attempt unless it says otherwise.

        Args:
            trial: says what is run.
            folder: of the attempt; its log lies there, unless `log` says otherwise.
            nonce: of the attempt.
            settings: all other fields.
        """
        own = {"key": trial.key, "short": trial.short, "recipe": trial.recipe}
        place = {"replicate": trial.replicate, "folder": folder, "log": folder / "log.txt"}
        return cls(**{"attempt": 1, "nonce": nonce, **own, **place, **settings})


class Ended(FrozenModel):
    """How an attempt ended, as the executor saw it."""

    state: EndState
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


LOOK_SECONDS = 0.5
"""Between looks at the file: a trial of short steps must not pay for each."""
COME = "come"


# A file, because it needs no channel to an actor in the middle of a step and works inline and on
# other nodes alike; the price is the delay of a network file system's cache. And a time that a
# subject looks at, no signal: it checkpoints and returns, so the next attempt continues. One that
# never looks runs on; only a command can be stopped from outside (`grace_seconds`).
class Deadline:
    """When trials should checkpoint and end: at a planned time, or as soon as a notice comes.

    Args:
        file: where the notice is written and read; None where nobody can give one.
        planned: Unix time, or None.
    """

    def __init__(self, file: Path | None = None, planned: float | None = None) -> None:
        self.file = file
        self.planned = planned
        self._looked = 0.0
        self._came: float | None = None

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Meanwhile the file is there, empty: an older notice does not count.

        Opening a file that exists asks the server anew; that one is missing, network file systems
        remember for a minute.
        """
        if self.file is None:
            yield
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("")
        try:
            yield
        finally:
            self.file.unlink(missing_ok=True)

    def give_notice(self) -> None:
        """Time is up from now on. Called by a signal handler, so nothing is raised."""
        self._came = time.time()
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.write_text(COME)

    @property
    def at(self) -> float | None:
        """Unix time by the clock of this process, or None while there is no end in sight."""
        if self._came is None:
            self._look()
        ends = [end for end in (self.planned, self._came) if end is not None]
        return min(ends, default=None)

    @property
    def past(self) -> bool:
        """True once time is up."""
        end = self.at
        return self._came is not None or (end is not None and time.time() > end)

    def _look(self) -> None:
        now = time.monotonic()
        if self.file is None or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        with contextlib.suppress(OSError):
            if self.file.read_text() == COME:
                self._came = time.time() - 1e-3  # before whatever the reader compares it with


class WatchedContext(Context):
    """A context whose deadline is looked up each time it is read."""

    watched = Deadline()

    @property
    def deadline(self) -> float | None:
        return self.watched.at

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        if value is not None:  # a copy made by `dataclasses.replace` keeps what was known
            object.__setattr__(self, "watched", Deadline(planned=value))


def watch(context: Context, deadline: Deadline) -> WatchedContext:
    """The same context, with a deadline that may move forward."""
    fields = {name: getattr(context, name) for name in Context.__dataclass_fields__}
    watched = WatchedContext(**fields)
    object.__setattr__(watched, "watched", deadline)
    return watched
