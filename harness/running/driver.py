"""The driver of one run: it alone opens and closes attempts and tells tracker and display."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.contract import Fingerprints, Measurement, Report
from harness.errors import WorkspaceError
from harness.executors import trial_log
from harness.executors.base import DEADLINE, Deadline, Ended, Event, Executor, Job
from harness.journal import attempts, claims, environment
from harness.journal.claims import Claim
from harness.journal.history import Attempt, History, TrialHistory
from harness.journal.records import Closed, Opened, Record
from harness.journal.states import OVER
from harness.journal.trial import Trial
from harness.journal.workspace import Workspace
from harness.journal.writer import Journal
from harness.planning.plan import PlannedTrial
from harness.planning.reuse import ReuseCheck
from harness.running.display import Display
from harness.subjects.settings import CommandSettings, SubjectSpec
from harness.tracking.tracker import Tracker

RETRIES = 1
"""Further attempts, within one run, of a trial whose worker died or ran out of GPU memory."""
WAIT_SECONDS = 1.0
"""Between looks at trials that another driver runs."""


@dataclass
class UnderWay:
    """An attempt of this driver: its folder exists, and its trial is claimed."""

    planned: PlannedTrial
    claim: Claim
    job: Job
    opened: Opened
    carried: int
    """Step of the checkpoint it continues from; 0 for a fresh start."""
    started: bool = False
    began: float = 0.0
    """`time.monotonic()` when it started."""
    told: float = 0.0
    """Unix time of its last report that arrived."""


@dataclass
class Tally:
    """What happened in this run, by trial key; the last attempt of a trial counts."""

    ended: dict[str, Ended] = field(default_factory=dict)
    elsewhere: set[str] = field(default_factory=set)
    expired: bool = False
    """True if the deadline left something to run."""

    def count(self, state: str) -> int:
        """Trials that ended so."""
        return sum(e.state == state for e in self.ended.values())

    @property
    def incomplete(self) -> bool:
        """True if some trials have no result, or were not started before the deadline."""
        return bool(self.count("failed") + self.count("killed")) or self.expired


class Driver:
    """Feeds an executor with attempts of the missing trials and records what comes back."""

    def __init__(
        self,
        settings: RunSettings,
        missing: list[PlannedTrial],
        *,
        workspace: Workspace,
        journal: Journal,
        read_history: Callable[[], History],
        tracker: Tracker,
        display: Display,
        stop: Callable[[], bool],
        more: Callable[[], list[PlannedTrial]] | None = None,
    ) -> None:
        """Take what is to run first; `more` says, once all of that has ended, what comes next."""
        self.settings = settings
        self.workspace = workspace
        self.tally = Tally()
        self._journal = journal
        self._read_history = read_history
        self._tracker = tracker
        self._display = display
        self._stop = stop
        self._more = more
        self._queue = deque(missing)
        self._waiting: deque[PlannedTrial] = deque()
        self._running: dict[str, UnderWay] = {}
        self._retried: dict[str, int] = {}
        self._whole_gpu: set[str] = set()
        self._seen: dict[str, int] = {}
        self._read()
        self._full: WorkspaceError | None = None

    def run(self, executor: Executor) -> None:
        """Run everything missing, trials that another driver held included.

        Raises:
            WorkspaceError: if a record cannot be written (attempts under way are left open), or the
                disk is nearly full (those under way come to their end first).
        """
        try:
            while not self._over() and (self._queue or self._waiting or self._goes_on()):
                if self._queue:
                    executor.run(self._jobs(), self._on_event, self._stop)
                else:
                    self._await_others()
                if self._full is not None:
                    raise self._full
            cut = any(ended.reason == DEADLINE for ended in self.tally.ended.values())
            unfinished = bool(self._queue or self._waiting or cut or self._more is not None)
            self.tally.expired = self._expired() and unfinished
        finally:
            for running in list(self._running.values()):
                self._let_go(running)

    def _goes_on(self) -> bool:
        """Whether there is more to run, now that all that was given has ended."""
        if self._more is None:
            return False
        self._refresh()
        further = self._more()
        self._queue.extend(further)
        if not further:
            self._more = None
        return bool(further)

    def _expired(self) -> bool:
        return self.settings.deadline.past

    def _over(self) -> bool:
        return self._stop() or self._expired()

    def _jobs(self) -> Iterator[Job]:
        while self._queue and not self._over() and self._has_space():
            planned = self._queue.popleft()
            key = planned.trial.key
            with self._writing():
                # Claimed first, read afterwards: what another driver recorded before it let go is
                # seen then, and a trial that two studies share is run once.
                claim = claims.try_claim(self._lock(planned.trial), what=self.settings.study)
            if claim is None:
                self._waiting.append(planned)
                continue
            self._refresh()
            past = self.history.trials.get(key)
            planned = self._as_it_stands(planned)
            if planned.state == "reuse":
                claim.release()
                self.tally.elsewhere.add(key)
                self._display.skipped(planned.trial)
                continue
            gpus = 1.0 if key in self._whole_gpu else self.settings.gpus
            try:
                self._close_interrupted(past)
                with self._writing():
                    under_way = prepared(planned, claim, past, self.settings, self.workspace, gpus)
            except WorkspaceError:
                claim.release()
                raise
            self._running[key] = under_way
            yield under_way.job

    def _on_event(self, job: Job, event: Event, at: float) -> None:
        running = self._running[job.key]
        if event == "started":
            running.started, running.began = True, time.monotonic()
            running.opened = running.opened.model_copy(update={"at": self._after_others(job, at)})
            # The attempt is opened in the journal before MLflow or the display hear of it. Only
            # drivers open and close attempts; a worker writes inside its folder.
            self._record(running.opened)
            self._tracker.opened(running.opened)
            self._display.started(job, running.carried)
        elif isinstance(event, Report):
            running.told = at
            self._tracker.report(job.key, job.attempt, event, job.folder, at)
            self._display.reported(job, event)
        else:
            assert isinstance(event, Ended), event
            self._close(running, event, at)

    def _close(self, running: UnderWay, ended: Ended, at: float) -> None:
        job = running.job
        lines = attempts.read_reports(job.folder)
        closed = closing_record(running.opened, job, ended, at, running.began, lines)
        # On the disk before checkpoints go and before the claim is free: whoever takes the trial
        # next finds its result. MLflow comes last: whatever it loses, the journal has.
        self._record(closed)
        if closed.state == "killed":  # the worker could not write it, nor tell all it had written
            self._note_end(closed)
            for line in unheard_reports(lines, running.told):
                self._tracker.report(job.key, job.attempt, line.report, job.folder, line.at)
        del self._running[job.key]
        if closed.state in OVER:
            self._thin(job, lines)
        running.claim.release()
        self._tracker.closed(closed, job.folder)
        self.tally.ended[job.key] = ended
        again = self._again(job, ended)
        if again:
            self._retried[job.key] = self._retried.get(job.key, 0) + 1
            # At the front, or its replicate would stay incomplete to the end.
            self._queue.appendleft(running.planned)
        self._display.ended(job, closed, again)

    def _thin(self, job: Job, lines: list[attempts.ReportLine]) -> None:
        """Let go of a finished trial's resume points; what a trainer wrote only where told to."""
        root, spec = self.workspace.trial(job.key), self.settings.subject
        if not isinstance(spec, CommandSettings):
            attempts.drop_checkpoints(root, {job.folder: lines})
        elif spec.keep is not None:
            attempts.drop_earlier_checkpoints(root, job.folder)

    def _after_others(self, job: Job, at: float) -> float:
        """Not before earlier attempts of the trial ended, though a clock was set back."""
        past = self.history.trials.get(job.key)
        ends = (a.closed.at for a in past.ordered if a.closed) if past else ()
        return max(at, max(ends, default=at))

    def _has_space(self) -> bool:
        try:
            self.workspace.ensure_space()
        except WorkspaceError as error:
            self._full = error
        return self._full is None

    def _note_end(self, closed: Closed) -> None:
        log = self.workspace.trial(closed.key) / attempts.LOG
        trial_log.note_end(log, closed.state, closed.reason, closed.seconds)

    def _again(self, job: Job, ended: Ended) -> bool:
        """True where another attempt is worth it: dead worker, or out of memory beside others."""
        if self._retried.get(job.key, 0) >= RETRIES or self._over():
            return False
        if ended.state == "failed" and "OutOfMemory" in ended.reason and 0 < job.gpus < 1:
            self._whole_gpu.add(job.key)
            return True
        return ended.died or ended.reason.startswith("MemoryError")

    def _record(self, record: Record) -> None:
        with self._writing():
            self._journal.append(record)
        self.history.add(record)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise WorkspaceError(
                f"workspace {self.workspace.root} cannot be written any more: "
                f"{error.strerror or error}. What was recorded is safe: "
                "free some space, then run the same command again."
            ) from error

    def _close_interrupted(self, past: TrialHistory | None) -> None:
        """Under the trial's claim no other driver lives: attempts left open were interrupted."""
        for attempt in past.ordered if past else ():
            if attempt.closed is None:
                closed = interrupted_record(self.workspace, attempt)
                self._record(closed)
                self._note_end(closed)
                folder = attempts.folder_of(self.workspace, attempt)
                self._tracker.closed(closed, folder)

    def _as_it_stands(self, planned: PlannedTrial) -> PlannedTrial:
        """The trial, as what another driver recorded of it since the plan leaves it to be done."""
        prints = planned.fingerprints or self.settings.fingerprints
        judged = self._recorded.judge(planned.trial, prints)
        # stale: made by other code or data than this run's, which is to run it all the same
        return judged if judged.state in ("reuse", "measure") else planned

    def _await_others(self) -> None:
        holders = (claims.holder(self._lock(p.trial)) for p in self._waiting)
        who = sorted({f"{h.what or 'a study'} on {h}" for h in holders if h})
        self._display.waiting(len(self._waiting), "; ".join(who))
        self._pause()
        held, self._waiting = self._waiting, deque()
        for planned in held:
            taken = claims.is_claimed(self._lock(planned.trial))
            (self._waiting if taken else self._queue).append(planned)

    def _pause(self) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until and not self._stop():
            time.sleep(0.05)

    def _lock(self, trial: Trial) -> Path:
        return claims.trial_lock(self.workspace, trial.key)

    def _journal_sizes(self) -> dict[str, int]:
        own = self._journal.file.name
        files = self.workspace.journal.glob("*.jsonl")
        return {f.name: f.stat().st_size for f in files if f.name != own}

    def _read(self) -> None:
        """Read the history; sizes first, so that what is written meanwhile is seen next time."""
        self._seen = self._journal_sizes()
        self.history = self._read_history()
        settings = self.settings
        self._recorded = ReuseCheck(
            self.history,
            self.workspace,
            settings.study,
            settings.measures,
            settings.measurement.at,
        )

    def _refresh(self) -> None:
        """Read the history again if another driver wrote some of it."""
        if self._journal_sizes() != self._seen:
            self._read()

    def _let_go(self, running: UnderWay) -> None:
        """Undo a preparation that never started; an attempt that cannot be closed stays open."""
        if not running.started:
            attempts.remove_unstarted(running.job.folder)
        del self._running[running.job.key]
        running.claim.release()


@dataclass(frozen=True)
class RunSettings:
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


def prepared(
    planned: PlannedTrial,
    claim: Claim,
    past: TrialHistory | None,
    settings: RunSettings,
    workspace: Workspace,
    gpus: float,
) -> UnderWay:
    """Make the attempt folder, copy what it continues from, and describe the job.

    Args:
        planned: the trial as it stands.
        claim: of the trial.
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
    own_view = past.read_by(settings.study, planned.code or fingerprints.code) if past else None
    measured, student = _kept_student(planned, own_view, workspace)
    mode: Literal["train", "measure", "reference"] = "train"
    if trial.kind == "reference":
        mode = "reference"
    elif student is not None:
        mode = "measure"
    continued = _Continued()
    if mode == "train":
        continued = _continued(own_view, fingerprints, workspace, folder)
    job = Job.of(
        trial,
        folder,
        nonce,
        attempt=number,
        mode=mode,
        subject=settings.subject,
        log=workspace.trial(trial.key) / attempts.LOG,
        cache=workspace.cache,
        measurement=settings.measurement,
        resume_from=next((copy.path for copy in continued.copies), None),
        fallbacks=[copy.path for copy in continued.copies[1:]],
        student=student,
        gpus=gpus,
        cpus=settings.cpus,
        deadline=settings.deadline.planned,
        notice=settings.deadline.file,
        code=fingerprints.code,
        project=settings.project,
    )
    opened = _opening_record(job, trial, fingerprints, settings, workspace, measured, continued)
    return UnderWay(planned, claim, job, opened, continued.step)


@dataclass(frozen=True)
class _Continued:
    """What an attempt goes on from; nothing where it begins anew."""

    attempt: int | None = None
    copies: Sequence[attempts.Checkpoint] = ()
    """In the new attempt's folder, the one to try first at the front."""

    @property
    def step(self) -> int:
        return self.copies[0].step if self.copies else 0


def _continued(
    seen: TrialHistory | None, fingerprints: Fingerprints, workspace: Workspace, folder: Path
) -> _Continued:
    """Copy the checkpoints of the attempt that may be continued, if there is one."""
    previous = attempts.resumable(seen, fingerprints.code, fingerprints.protocol)
    if previous is None:
        return _Continued()
    try:
        # Marked before the first copy: see `attempts.next_number`.
        (folder / attempts.PREPARED).touch()
        copies = attempts.continue_from(attempts.folder_of(workspace, previous), folder)
    except OSError:  # half a copy only takes space
        attempts.remove_unstarted(folder)
        raise
    return _Continued(previous.opened.attempt if copies else None, copies)


def _opening_record(
    job: Job,
    trial: Trial,
    fingerprints: Fingerprints,
    settings: RunSettings,
    workspace: Workspace,
    measured: str,
    continued: _Continued,
) -> Opened:
    """The opening record of an attempt that is about to start; `measured` is whose student."""
    return Opened(
        at=time.time(),
        key=trial.key,
        attempt=job.attempt,
        nonce=job.nonce,
        study=settings.study,
        mode="measure" if job.mode == "measure" else "train",
        trial=trial,
        protocol=fingerprints.protocol,
        protocol_name=settings.measurement.protocol,
        code=fingerprints.code,
        code_files=fingerprints.code_files,
        data_files=fingerprints.data_files,
        invocation=fingerprints.invocation,
        student_of=measured,
        environment=environment.versions(),
        device=environment.device_model(job.gpus > 0),
        gpus=job.gpus,
        host=environment.host(),
        workspace=workspace.id,
        resumed_from=continued.attempt,
    )


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


def closing_record(
    opened: Opened,
    job: Job,
    ended: Ended,
    at: float,
    began: float,
    lines: list[attempts.ReportLine],
) -> Closed:
    """The closing record of an attempt that ended under this driver.

    Args:
        opened: its opening.
        job: what was executed.
        ended: how it ended.
        at: when, Unix time; not before it began, though a clock was set back.
        began: `time.monotonic()` of its start, for a worker that could not say how long it took.
        lines: what it reported.
    """
    info: dict[str, str] = {}
    for line in lines:
        info.update(line.report.info)
    if ended.device:
        info.setdefault("device", ended.device)
    return Closed(
        at=max(at, opened.at),
        key=job.key,
        attempt=job.attempt,
        nonce=job.nonce,
        state=ended.state,
        reason=ended.reason,
        seconds=ended.seconds or time.monotonic() - began,
        gpus=job.gpus,
        step=max((line.report.step for line in lines), default=0),
        measurements=attempts.measurements(lines),
        artifacts=attempts.kept_artifacts(lines),
        info=info,
    )


def unheard_reports(lines: list[attempts.ReportLine], last: float) -> list[attempts.ReportLine]:
    """Reports on disk after the one made at Unix time `last`; all where that is not among them.

    Reports travel in bundles: the last bundle of a worker that dies never arrives.
    """
    arrived = [number for number, line in enumerate(lines) if line.at == last]
    return lines[arrived[-1] + 1 :] if arrived else lines


def interrupted_record(workspace: Workspace, attempt: Attempt) -> Closed:
    """The closing record of an attempt whose driver vanished: killed, as far as it reported."""
    opened = attempt.opened
    lines = attempts.read_reports(attempts.folder_of(workspace, attempt))
    last = attempts.last_report_time(opened.at, lines)
    return Closed(
        at=last,
        key=opened.key,
        attempt=opened.attempt,
        nonce=opened.nonce,
        state="killed",
        reason="interrupted: its driver ended without closing it",
        seconds=last - opened.at,
        gpus=opened.gpus,
        step=max((line.report.step for line in lines), default=0),
        measurements=attempts.measurements(lines),
        artifacts=attempts.kept_artifacts(lines),
    )
