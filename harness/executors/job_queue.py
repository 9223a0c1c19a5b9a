"""Jobs on their way through a scheduler that names them by its own trial ids, and events back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from harness.contract import Report
from harness.executors.base import Ended, Event, Job, OnEvent


class Stopped(BaseException):
    """Leaves a scheduler's loop at once. No Exception: Tune would wait for every actor to end."""


class Broken(BaseException):
    """The scheduler's own processes died. Not an Exception, for the same reason."""


class SchedulerWatch(Protocol):
    """Whoever watches those processes."""

    @property
    def broken(self) -> str:
        """What is gone; empty while all is well."""


class JobQueue:
    """Hands out a job for each free slot, so that it is pulled, and claimed, just before it starts.

    An error of the driver (in its jobs or its `on_event`) is kept, ends the run, and is raised by
    `finish`: a scheduler in between would wrap or swallow it.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        on_event: OnEvent,
        stop: Callable[[], bool],
        slots: int,
        watch: SchedulerWatch | None = None,
    ) -> None:
        self.slots = slots
        self._jobs = iter(jobs)
        self._on_event = on_event
        self._stop = stop
        self._watch = watch
        self._error: Exception | None = None
        self._by_trial: dict[str, Job] = {}
        self._started: set[str] = set()

    @property
    def full(self) -> bool:
        """True while every slot has a job."""
        return len(self._by_trial) >= self.slots

    @property
    def over(self) -> bool:
        """True when the run should end at once."""
        return self._error is not None or self._stop()

    def check(self) -> None:
        """To be called often.

        Raises:
            Stopped: if the run should end at once.
            Broken: if the scheduler cannot go on.
        """
        if self.over:
            raise Stopped
        if self._watch is not None and self._watch.broken:
            raise Broken(self._watch.broken)

    def next(self, trial_id: str) -> Job | None:
        """A job for a trial id; None if every slot is taken, or there is no more to do."""
        if self.full or self.over:
            return None
        job: Job | None = None
        with self._keeping_errors():
            job = next(self._jobs, None)
        if job is not None:
            self._by_trial[trial_id] = job
        return job

    def newest(self) -> list[str]:
        """Trial ids of the jobs under way, the one handed out last first."""
        return list(reversed(self._by_trial))

    def started(self, trial_id: str) -> None:
        if trial_id in self._by_trial and trial_id not in self._started:
            self._started.add(trial_id)
            self._tell(self._by_trial[trial_id], "started", time.time())

    def reported(self, trial_id: str, report: Report, at: float) -> None:
        if trial_id in self._by_trial:
            self._tell(self._by_trial[trial_id], report, at)

    def ended(self, trial_id: str, ended: Ended, at: float) -> None:
        """The attempt ended; its slot is free."""
        job = self._by_trial.pop(trial_id, None)
        if job is not None:
            self._started.discard(trial_id)
            self._tell(job, ended, at)

    def died(self, trial_id: str, reason: str) -> None:
        self.started(trial_id)
        self.ended(trial_id, Ended(state="killed", reason=reason, died=True), time.time())

    def lose(self, reason: str) -> None:
        """Every attempt is gone with its worker, also one whose worker was starting up."""
        for trial_id in list(self._by_trial):
            self.died(trial_id, reason)

    def finish(self) -> None:
        """What still runs was interrupted; what was only prepared gets no event.

        Raises:
            Exception: the driver's own error, if there was one.
        """
        if self._error is None:
            for trial_id in list(self._started):
                self.ended(trial_id, Ended(state="killed", reason="interrupted"), time.time())
        if self._error is not None:
            raise self._error

    def _tell(self, job: Job, event: Event, at: float) -> None:
        # Behind an error of the driver nothing more is told: what it would record may rest on the
        # record that failed.
        if self._error is None:
            with self._keeping_errors():
                self._on_event(job, event, at)

    @contextlib.contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._error = error
