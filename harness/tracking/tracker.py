"""What the driver tells a tracker, and the guard that keeps a failing one from hurting the run.

Every call returns at once; a tracker never stalls a trial. Its first exception switches it off and
becomes a warning.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from harness.analysis.model import Answer
from harness.contract import Report
from harness.journal.history import History
from harness.journal.records import Closed, Opened
from harness.planning.plan import Plan
from harness.tracking.ownership import ElsewhereError


class Tracker(Protocol):
    """A projection of the journal, fed by the driver alone."""

    def start(self, plan: Plan, history: History) -> None:
        """A run of the study begins (or `sync`): make sure everything recorded is there."""

    def settle(self, seconds: float) -> None:
        """Wait a while for the server's word on whether the study may be written there.

        Raises:
            ElsewhereError: if it may not; a server that does not answer stops nobody.
        """

    def opened(self, record: Opened) -> None:
        """An attempt began."""

    def report(self, key: str, attempt: int, report: Report, folder: Path, at: float) -> None:
        """A report arrived from the attempt in `folder` at Unix time `at`."""

    def closed(self, record: Closed, folder: Path) -> None:
        """An attempt ended and its closing record is on disk."""

    def answer(self, answer: Answer, report_html: Path | None) -> None:
        """The study was analysed; replaces what was said before."""

    def complete(self, history: History, stamp: str) -> None:
        """All of the history is told with this, and the stamp is left once it is written."""

    def close(self, timeout: float = 60.0) -> list[str]:
        """Flush and stop; returns warnings: what could not be written, and `sync` as the remedy."""


class NullTracker:
    """Tracks nothing."""

    def start(self, plan: Plan, history: History) -> None: ...

    def settle(self, seconds: float) -> None: ...

    def opened(self, record: Opened) -> None: ...

    def report(self, key: str, attempt: int, report: Report, folder: Path, at: float) -> None: ...

    def closed(self, record: Closed, folder: Path) -> None: ...

    def answer(self, answer: Answer, report_html: Path | None) -> None: ...

    def complete(self, history: History, stamp: str) -> None: ...

    def close(self, timeout: float = 60.0) -> list[str]:
        return []


class GuardedTracker(Tracker):
    """Passes every call on. The tracker may be given as a function that makes it at `start`."""

    def __init__(
        self,
        tracker: Tracker | Callable[[], Tracker] | None,
        remedy: str = "",
    ) -> None:
        """Take the tracker, and what to say beside the exception that switches it off."""
        self._wanted = tracker
        self._remedy = remedy
        self._tracker: Tracker = NullTracker()
        self.warnings: list[str] = []

    def start(self, plan: Plan, history: History) -> None:
        """Makes the tracker first."""
        tracker = self._wanted
        if tracker is None:
            return
        trackers: list[Tracker] = []
        self._guard(lambda: trackers.append(tracker() if callable(tracker) else tracker))
        if trackers:
            self._tracker = trackers[0]
            self._guard(lambda: self._tracker.start(plan, history))

    def settle(self, seconds: float) -> None:
        """What it raises is for the user to decide, and passes."""
        refused: list[ElsewhereError] = []

        def settled() -> None:
            try:
                self._tracker.settle(seconds)
            except ElsewhereError as error:
                refused.append(error)

        self._guard(settled)
        if refused:
            raise refused[0]

    def opened(self, record: Opened) -> None:
        self._guard(lambda: self._tracker.opened(record))

    def report(self, key: str, attempt: int, report: Report, folder: Path, at: float) -> None:
        self._guard(lambda: self._tracker.report(key, attempt, report, folder, at))

    def closed(self, record: Closed, folder: Path) -> None:
        self._guard(lambda: self._tracker.closed(record, folder))

    def answer(self, answer: Answer, report_html: Path | None) -> None:
        self._guard(lambda: self._tracker.answer(answer, report_html))

    def complete(self, history: History, stamp: str) -> None:
        self._guard(lambda: self._tracker.complete(history, stamp))

    def close(self, timeout: float = 60.0) -> list[str]:
        """Adds what went wrong before."""
        tracker, self._tracker = self._tracker, NullTracker()
        self._guard(lambda: self.warnings.extend(tracker.close(timeout)))
        return self.warnings

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # whatever a tracker does, the trials go on
            self._tracker = NullTracker()
            self.warnings.append(
                f"tracking stopped ({type(error).__name__}: {error})"
                + (f"; {self._remedy}" if self._remedy else "")
            )
