"""A trial's log.txt: how each attempt began, how it went and how it ended, between its output."""

from __future__ import annotations

import contextlib
import io
import os
import time
from pathlib import Path

from harness.contract import Estimate, Report
from harness.executors.base import Ended, Job
from harness.journal import environment

EVERY_SECONDS = 5.0
"""Least time between two lines of progress; measurements are always told."""
MOST_METRICS = 6
"""Training metrics shown in a line; all of them are in reports.jsonl."""


class LogStream(io.TextIOBase):
    """A trial's log as a stream that never fails: a full disk loses its lines, not the trial."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)  # as files have it: where programs may write what they start
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, flags, 0o644)
        except OSError:
            self._descriptor = os.open(os.devnull, os.O_WRONLY)

    def write(self, text: str) -> int:
        """Write at once."""
        with contextlib.suppress(OSError):
            os.write(self._descriptor, text.encode(errors="replace"))
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """For native code and processes that write to it, too."""
        return self._descriptor

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


class TrialLog:
    """Writes the lines of one attempt among whatever else goes to the log."""

    def __init__(self, job: Job, stream: LogStream, device: str) -> None:
        self._stream = stream
        self._next = 0.0
        stream.write(
            f"== {job.short}  attempt {job.attempt}  {job.mode}  {_stamp(time.time())}\n"
            f"== key {job.key}  replicate {job.replicate}  {device}  host {environment.host()}  "
            f"pid {os.getpid()}  code {job.code[:12] or '-'}\n"
        )

    def report(self, report: Report, at: float) -> None:
        """A line for a measurement, or for progress if the last one was a while ago."""
        if not report.measured and at < self._next:
            return
        self._next = at + EVERY_SECONDS
        self._stream.write(line_of(report, at) + "\n")

    def ended(self, ended: Ended) -> None:
        """The end, unless killed: whoever noticed that says so, with `note_end`."""
        self._stream.write(ended.traceback)
        if ended.state != "killed":
            self._stream.write(_end(ended.state, ended.reason, ended.seconds))


def line_of(report: Report, at: float) -> str:
    """`12:03:44  step 120/200  train/loss 0.1234`; measurements in full, with their intervals."""
    step = f"step {report.step}" + (f"/{report.total}" if report.total else "")
    parts = [_stamp(at).split()[1], step]
    if report.measured:
        spans = {e.name: _span(e) for e in report.estimates}
        numbers = (
            f"{name} {value:.4g}{spans.get(name, '')}" for name, value in report.metrics.items()
        )
        parts += ["measured", *numbers]
    else:
        parts += [f"{k} {v:.4g}" for k, v in list(report.metrics.items())[:MOST_METRICS]]
    parts += [f"{name}: {fact}" for name, fact in report.info.items()]
    if report.outcome is not None and report.outcome.reason:
        parts.append(report.outcome.reason)
    return "  ".join(parts)


def note_end(log: Path, state: str, reason: str, seconds: float) -> None:
    """The end of an attempt whose worker could not write it, or was not let."""
    with LogStream(log) as stream:
        stream.write(_end(state, reason, seconds))


def _span(estimate: Estimate) -> str:
    if estimate.lo is None or estimate.hi is None:
        return ""
    return f" [{estimate.lo:.4g}, {estimate.hi:.4g}]"


def _end(state: str, reason: str, seconds: float) -> str:
    return f"== {state}  {reason + '  ' if reason else ''}{seconds:.1f} s\n"


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
