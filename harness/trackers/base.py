"""What the driver tells a tracker. Every call returns at once; a tracker never stalls a trial."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from harness.analyse.answer import Answer
from harness.contract import Report
from harness.journal import Closed, History, Opened
from harness.plan import Plan


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

    def start(self, plan: Plan, history: History) -> None:
        """Do nothing."""

    def settle(self, seconds: float) -> None:
        """Do nothing."""

    def opened(self, record: Opened) -> None:
        """Do nothing."""

    def report(self, key: str, attempt: int, report: Report, folder: Path, at: float) -> None:
        """Do nothing."""

    def closed(self, record: Closed, folder: Path) -> None:
        """Do nothing."""

    def answer(self, answer: Answer, report_html: Path | None) -> None:
        """Do nothing."""

    def complete(self, history: History, stamp: str) -> None:
        """Do nothing."""

    def close(self, timeout: float = 60.0) -> list[str]:
        """Do nothing."""
        return []
