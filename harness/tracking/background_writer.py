"""The thread between the driver and a tracking server: merges news per run, retries, never blocks.

The driver only puts events into a queue. What waits for the same run merges, so a trial that ends
quickly costs one create, one batch and one closing call. While the server is away everything keeps
merging in memory; the journal stays the truth.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from harness.journal import gc_pauses
from harness.text.identifiers import ForeignError
from harness.text.secrets import without_credentials
from harness.tracking.names import MOST_NAMES
from harness.tracking.ownership import ElsewhereError
from harness.tracking.run_write import (
    STUDY,
    TAG,
    WRITTEN,
    KnownRun,
    Point,
    RefusedError,
    RunWrite,
    Store,
    fresh_points,
    is_trial,
    remember,
)

LINGER_SECONDS = 0.5
"""How long news may wait for more news about the same runs."""
FIRST_DELAY, LONGEST_DELAY = 0.5, 15.0
"""Seconds between attempts to reach the server; doubled after each failure."""
MOST_REFUSALS = 20
"""Single values a server may refuse of a run before the rest of them is given up."""
MAX_WAITING_POINTS = 500_000
"""Beyond this, points wait in the journal only; such runs are marked for `sync`."""
CLOSING_GRACE, ABSENT_GRACE = 10.0, 2.0
"""Seconds a server gets to come back, at the end or after its last answer then: one that worked
before, one that never did."""


Action = Callable[["BackgroundWriter"], None]


class BackgroundWriter:
    """Owns the store: no other thread touches it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.pending: dict[str, RunWrite] = {}
        self.experiment_tags: dict[str, str] = {}
        self.experiment_defaults: dict[str, str] = {}
        self.stamp = ""
        """Left on the experiment at the end, if everything could be written."""
        self.known: dict[str, KnownRun] | None = None
        self.replays: Iterator[RunWrite] = iter(())
        """What the journal holds and the server may lack; written before anything newer."""
        self.warnings: list[str] = []
        self.remarks: list[str] = []
        self.connected = threading.Event()
        """Set once the server was asked for the first time, whatever came of it."""
        self.elsewhere: ElsewhereError | None = None
        """Why nothing was written, where somebody went on with the study from elsewhere."""
        self._queue: queue.SimpleQueue[Action | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._reached = False
        self._dead = False
        self._delay = FIRST_DELAY
        self._retry_at = 0.0
        self._closing_at = self._moved_at = 0.0
        self._uncertain: set[str] = set()
        self._doubtful: set[str] = set()
        self._refused: dict[str, RunWrite] = {}
        self._points = 0
        self._short = False
        self._replaying: RunWrite | None = None
        self._problem = ""
        self._no_files = False
        # A daemon: a call that hangs must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="stillhouse-mlflow", daemon=True)
        self._started = False

    def put(self, action: Action) -> None:
        """Queue work for the thread; returns at once."""
        if self._dead:
            return
        if not self._started:
            self._started = True
            self._thread.start()
        self._queue.put(action)

    def add(self, *writes: RunWrite) -> None:
        """Merge writes into what waits. Called by actions, in the thread."""
        for write in writes:
            self._points += len(write.points)
            if self._points > MAX_WAITING_POINTS and write.points:
                write.points = [p for p in write.points if p.measured]
                write.tags[TAG + "attempt"] = "incomplete"
                self._short = True
            if write.ident in self.pending:
                self.pending[write.ident].merge(write)
            else:
                self.pending[write.ident] = write

    def close(self, timeout: float) -> list[str]:
        """Flush, stop, and say what could not be written.

        Args:
            timeout: seconds to wait after the last write that worked.
        """
        if self._started and self._thread.is_alive():
            self._closing_at = self._moved_at = time.monotonic()
            self._closing.set()
            self._queue.put(None)
            while self._thread.is_alive() and time.monotonic() < self._moved_at + timeout:
                self._thread.join(min(1.0, timeout))
        warnings = list(self.warnings)
        if self._started and (self._thread.is_alive() or self._work_waits()):
            unwritten = (
                "nothing was written" if self.known is None else f"{len(self.pending)} run(s) wait"
            )
            warnings.append(f"MLflow: {unwritten} ({self._problem or 'still writing'})")
        return warnings

    def _run(self) -> None:
        stopping = False
        try:
            while not (stopping or self._dead):
                stopping = self._absorb() or self._closing.is_set()
                self._flush()
            while self._work_waits() and not (self._dead or self._patience_ended()):
                time.sleep(max(0.0, min(self._retry_at - time.monotonic(), 1.0)))
                self._flush()
        finally:
            self.store.close()

    def _patience_ended(self) -> bool:
        grace = CLOSING_GRACE if self._reached else ABSENT_GRACE
        return time.monotonic() > max(self._closing_at, self._moved_at) + grace

    def _absorb(self) -> bool:
        """Wait for news, linger for more, apply all; True when asked to stop."""
        wait = max(0.0, self._retry_at - time.monotonic()) if self._work_waits() else None
        try:
            actions = [self._queue.get(timeout=wait)]
        except queue.Empty:
            return False
        if not self._closing.is_set():
            # No sleep, as closing cuts it short.
            self._closing.wait(LINGER_SECONDS)
        while not self._queue.empty():
            actions.append(self._queue.get())
        for action in actions:
            if action is not None:
                action(self)
        return None in actions

    def _work_waits(self) -> bool:
        waits = bool(self.pending or self.experiment_tags or self._replaying)
        at_end = self._closing.is_set() and bool(self._refused or self._doubtful)
        return waits or at_end or self.known is None

    def _flush(self) -> None:
        if time.monotonic() < self._retry_at and not self._closing.is_set():
            return
        try:
            if self.known is None:
                self.known = self.store.connect()
                gc_pauses.settle()
                self._reached, self._moved_at = True, time.monotonic()
                self.connected.set()
            self._write_all()
            # Last of all, and only where nothing was refused: a run with nothing to do believes it.
            if self._closing.is_set() and self.stamp and not (self.warnings or self._short):
                self.experiment_tags[WRITTEN] = self.stamp
                self.stamp = ""
            if self.experiment_tags:
                self.store.experiment(self.experiment_tags, self.experiment_defaults)
                self.experiment_tags = {}
            self._delay, self._retry_at, self._problem = FIRST_DELAY, 0.0, ""
        except RefusedError as error:
            self._problem = str(error)
            if isinstance(error, ElsewhereError):
                self.elsewhere = error
            if self.known is None:  # the server cannot be used at all: nothing to wait for
                self._dead = True
            else:
                if not isinstance(error, ElsewhereError):
                    error = RefusedError(f"refused the experiment's tags: {error}")
                self.warnings.append(f"MLflow: {error}")
                self.experiment_tags = {}
        except Exception as error:
            self._problem = f"{type(error).__name__}: {_first_line(error)}"
            self._retry_at = time.monotonic() + self._delay
            self._delay = min(2 * self._delay, LONGEST_DELAY)
        finally:
            self.connected.set()

    def _write_all(self) -> None:
        if STUDY in self.pending:  # trials name it as their parent
            self._write_or_drop(STUDY)
        while True:
            if self._replaying is None:
                self._replaying = next(self.replays, None)
            if self._replaying is None:
                break
            self._guarded(self._replaying)
            self._replaying = None
        while self.pending:
            self._write_or_drop(next(iter(self.pending)))
        if self._closing.is_set():
            self._settle()

    def _settle(self) -> None:
        """At the end: offer what was refused once more, and look for runs that were made twice."""
        assert self.known is not None
        while self._refused:
            ident = next(iter(self._refused))
            write = self._refused[ident]
            try:
                self._write(write, piecewise=True)
            except RefusedError as error:
                self.warnings.append(f"MLflow refused run {write.name or write.ident}: {error}")
            del self._refused[ident]
        while self._doubtful:
            ident = next(iter(self._doubtful))
            if ident in self.known:
                self.store.only(ident, self.known[ident].run_id)
            self._doubtful.discard(ident)

    def _guarded(self, write: RunWrite) -> None:
        if write.ident in self._refused:  # in order: what comes later is said later
            self._refused[write.ident].merge(write)
            return
        try:
            self._write(write)
        except RefusedError:  # a database in trouble says so, too: a second chance at the end
            self._refused[write.ident] = write
        self._delay, self._moved_at = FIRST_DELAY, time.monotonic()  # the server answers

    def _write_or_drop(self, ident: str) -> None:
        write = self.pending[ident]
        self._guarded(write)
        del self.pending[ident]
        self._points = max(0, self._points - len(write.points))

    def look_for(self, idents: Iterable[str]) -> None:
        """Search these on the server before making them: another driver may have made them."""
        self._uncertain.update(idents)

    def _write(self, write: RunWrite, *, piecewise: bool = False) -> None:
        """Write what the server lacks; `piecewise` leaves out what it refuses, and says so."""
        assert self.known is not None
        known = self.known.get(write.ident)
        if known is None and write.ident in self._uncertain:
            known = self.store.find(write.ident)  # an earlier create may have arrived after all
        if known is None:
            known = self._create(write)
        self.known[write.ident] = known
        self._cut_names(write, known)
        self._learn_steps(write, known)
        attempted = known.tags.get(TAG + "attempt") != write.tags.get(TAG + "attempt")
        if known.ended and write.status and (write.status == "RUNNING" or attempted):
            self.store.set_status(known.run_id, "RUNNING", None)
            known.status = "RUNNING"
        points = fresh_points(write, known)
        # MLflow refuses another value for a param it has, and the call fails with it.
        params = {k: v for k, v in write.params.items() if k not in known.params}
        tags = {k: v for k, v in write.tags.items() if known.tags.get(k, "") != v}
        if points or params or tags:
            if piecewise:
                points, params, tags = self._taken(write, known, points, params, tags)
            else:
                self.store.log(known.run_id, points, params, tags)
            remember(known, points)
            known.params.update(params)
            known.tags.update(tags)
        if write.files or write.pictures:
            self._put(known, write)
        # After everything else: a run that has ended is taken for whole, and not replayed.
        if write.status is not None and write.status != known.status:
            self.store.set_status(known.run_id, write.status, write.end_ms)
            known.status = write.status
        if known.ended and is_trial(write.ident):
            self._forget(write.ident)

    def _put(self, known: KnownRun, write: RunWrite) -> None:
        """Store files; that none may go where the server says is told once, the rest goes on."""
        try:
            self.store.put(known, write)
        except ForeignError as error:
            if not self._no_files:
                self.warnings.append(f"MLflow: {error}")
            self._no_files = True

    def _taken(
        self,
        write: RunWrite,
        known: KnownRun,
        points: list[Point],
        params: dict[str, str],
        tags: dict[str, str],
    ) -> tuple[list[Point], dict[str, str], dict[str, str]]:
        """Write what the server takes of it; the run is marked, so that it is offered again."""
        refused: list[str] = []
        why = ""
        parts = deque([points[i : i + 1000] for i in range(0, len(points), 1000)])
        points_written: list[Point] = []
        while parts:
            part = parts.popleft()
            if len(refused) >= MOST_REFUSALS:
                refused += [p.name for p in part]
                continue
            try:
                self.store.log(known.run_id, part, {}, {})
                points_written += part
            except RefusedError as error:
                why = str(error)
                # Halved until the value that is refused stands alone.
                half = len(part) // 2
                parts.extendleft([part[half:], part[:half]] if half else [])
                refused += [] if half else [part[0].name]
        taken: list[dict[str, str]] = [{}, {}]
        for number, values in enumerate((params, tags)):
            for name, value in values.items():
                one = {name: value}
                try:
                    self.store.log(known.run_id, (), *((one, {}) if not number else ({}, one)))
                    taken[number] |= one
                except RefusedError as error:
                    why = str(error)
                    refused.append(name)
        if refused:
            names = ", ".join(repr(name) for name in dict.fromkeys(refused[:5]))
            run = write.name or write.ident
            self.warnings.append(f"MLflow refused {len(refused)} values of {run} ({names}): {why}")
            if is_trial(write.ident):
                mark = {TAG + "attempt": "incomplete"}
                self.store.log(known.run_id, (), {}, mark)
                taken[1] |= mark
        return points_written, taken[0], taken[1]

    def _cut_names(self, write: RunWrite, known: KnownRun) -> None:
        """Of names without end only so many get into a run: measured ones first."""
        fresh = {p.name: p.measured for p in write.points if p.name not in known.latest}
        room = MOST_NAMES - len(known.latest)
        if len(fresh) <= room:
            return
        measured = {name for name, is_measured in fresh.items() if is_measured}
        others = sorted(fresh.keys() - measured)
        shown_names = measured | set(others[: max(0, room - len(measured))])
        if len(measured) > MOST_NAMES:
            shown_names = set(sorted(measured)[:MOST_NAMES])
        write.points = [p for p in write.points if p.name in known.latest or p.name in shown_names]
        if not self.remarks:
            self.remarks.append(
                f"MLflow: {write.name or write.ident} reports more names than the {MOST_NAMES} "
                "that one run shows there; the others are in its reports.jsonl"
            )

    def _forget(self, ident: str) -> None:
        """Let go of what is known of a trial that ended; should more come, the server is asked."""
        # Or the driver would grow with every trial; the price is a search for each one retried.
        if ident not in self._doubtful and self.known is not None:
            del self.known[ident]
            self._uncertain.add(ident)

    def _learn_steps(self, write: RunWrite, known: KnownRun) -> None:
        """Ask for the steps of a metric only where the write could repeat one of them."""
        unclear = []
        for name in {p.name for p in write.points} - set(known.steps):
            newest = known.latest.get(name)
            if newest is None:
                known.steps[name] = {}
            elif all(p.step >= newest.step for p in write.points if p.name == name):
                known.steps[name] = {newest.step: newest.value}
            else:
                unclear.append(name)
        if unclear:
            known.steps |= self.store.history(known.run_id, sorted(unclear))

    def _create(self, write: RunWrite) -> KnownRun:
        assert self.known is not None
        tags = {k: v for k, v in write.tags.items() if v}
        if write.nested and STUDY in self.known:
            tags["mlflow.parentRunId"] = self.known[STUDY].run_id
        doubtful = write.ident in self._uncertain
        # A request that is not answered may have made the run all the same: until it is, a second
        # try searches first.
        self._uncertain.add(write.ident)
        known = self.store.create(write, tags)
        self._uncertain.discard(write.ident)
        if doubtful:  # an earlier request may still be on its way
            self._doubtful.add(write.ident)
        if write.datasets:
            self.known[write.ident] = known
            self.store.inputs(known.run_id, write.datasets)
        return known


def _first_line(error: Exception) -> str:
    text = without_credentials(str(error).strip())
    return text.splitlines()[0][:200] if text else ""
