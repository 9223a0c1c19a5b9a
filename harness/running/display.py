"""What `run` shows: a live view on a terminal, one plain line per finished trial elsewhere.

Where contrasts point meanwhile is cheap on purpose: mean differences, no interval, no p.
"""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.analysis.observed import observe
from harness.contract import Report
from harness.executors.base import Job
from harness.journal.command_line import typed
from harness.journal.history import History
from harness.journal.item_table import NOT_USED
from harness.journal.records import Closed
from harness.journal.states import ENDED, OVER
from harness.journal.trial import SHORT, Trial
from harness.journal.workspace import Workspace
from harness.planning.plan import Adaptive, Plan
from harness.study.planned_contrast import PlannedContrast
from harness.text.printable import printable, shown
from harness.text.spelling import last_words
from harness.text.terminal import drawing

if TYPE_CHECKING:
    from rich.console import RenderableType


Echo = Callable[[str], None]
QUIET = 15.0
"""Seconds without a line after which plain lines say where the work stands."""


class Display:
    """Plain lines: one per finished trial. Also keeps the counts that the live view shows."""

    workspace: Workspace | None = None
    """Named in commands that would not find it."""

    def __init__(self, plan: Plan, to_run: int, echo: Echo) -> None:
        self.plan = plan
        self.to_run = to_run
        self.reused = max(0, len(plan.trials) - to_run)
        self.counts = {"done": 0, "failed": 0, "diverged": 0, "killed": 0}
        self.running: dict[str, tuple[Job, Report | None, float]] = {}
        self.durations: list[float] = []
        self.seconds = 0.0
        self.gpu_seconds = 0.0
        self.replicate = 0
        self.last_failure = ""
        self.began = time.monotonic()
        self._echo = echo
        self._told_waiting = ""
        self._noted: set[str] = set()
        self._said = self.began

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to restore."""

    def say(self, text: str) -> None:
        """Print a line of its own."""
        self._said = time.monotonic()
        self._echo(text)

    def skipped(self, trial: Trial) -> None:
        """Another driver completed the trial."""
        self.to_run -= 1
        self.reused += 1
        self.say(f"reuse   {trial.short}  done by another run")

    def looked(self, adaptive: Adaptive, fewer: int, text: str) -> None:
        """A look was taken: so many trials of those to run are not planned further."""
        self.to_run -= fewer
        if text:
            self.say(text)

    def waiting(self, count: int, who: str) -> None:
        """Nothing left but trials that another driver runs."""
        text = f"waiting for {count} trial(s) run by {who or 'another process'}"
        if text != self._told_waiting:
            self._told_waiting = text
            self.say(text)

    def started(self, job: Job, carried: int) -> None:
        """An attempt began; `carried` is the step it continues from."""
        self.running[job.key] = (job, None, time.monotonic())
        self.replicate = max(self.replicate, job.replicate + 1)
        if carried:
            self.say(f"resume  {job.short}  attempt {job.attempt} from step {carried}")

    def reported(self, job: Job, report: Report) -> None:
        if job.key in self.running:
            _, _, began = self.running[job.key]
            self.running[job.key] = (job, report, began)
        if "checkpoint_fallback" in report.info:
            self.say(f"note    {job.short}  {report.info['checkpoint_fallback']}")
        for fact in NOT_USED.values():
            if fact in report.info and fact not in self._noted:
                self._noted.add(fact)
                self.say(f"note    {job.short}  {fact}: {printable(report.info[fact])}")
        self._pulse()

    def _pulse(self) -> None:
        """Nothing ended for a while: say that the work goes on."""
        if not self.running or time.monotonic() - self._said < QUIET:
            return
        job, report, _ = max(self.running.values(), key=lambda entry: entry[2])
        more = f" and {len(self.running) - 1} more" if len(self.running) > 1 else ""
        self.say(f"running {job.short}  {_where(report)}{more}")

    def ended(self, job: Job, closed: Closed, again: bool) -> None:
        """An attempt ended; `again` if the trial will be tried once more."""
        self.running.pop(job.key, None)
        self.seconds += closed.seconds
        self.gpu_seconds += closed.seconds * closed.gpus
        if closed.state in OVER:
            self.durations.append(closed.seconds)
        if closed.state == "failed" or again:
            self.last_failure = f"{job.short} {last_words(closed.reason, 80)} -> {self._logs(job)}"
        if not again:
            self.counts[closed.state] += 1
        self._tell(self._line(job, closed, again), closed)

    def _tell(self, line: str, closed: Closed) -> None:
        self.say(line)

    def _line(self, job: Job, closed: Closed, again: bool) -> str:
        finished = sum(self.counts.values())
        state = "retry" if again else closed.state
        text = f"{state:<7} {job.short}  {closed.seconds:.1f} s  {finished}/{self.to_run}"
        if closed.state != "done" and closed.reason:
            text += f"  {last_words(closed.reason, 160)}"
        if closed.state == "failed" and not again:
            text += f"  -> {self._logs(job)}"
        return text

    def _logs(self, job: Job) -> str:
        return typed("logs", job.key[:SHORT], workspace=self.workspace)

    def left(self) -> tuple[float, float] | None:
        """Expected seconds left and half their spread, or None before anything finished."""
        finished = sum(self.counts.values())
        if not self.durations or finished >= self.to_run:
            return None
        elapsed = time.monotonic() - self.began
        rate = elapsed / max(1, finished)
        mean = sum(self.durations) / len(self.durations)
        sd = (sum((d - mean) ** 2 for d in self.durations) / len(self.durations)) ** 0.5
        missing = self.to_run - finished
        relative = (sd / mean if mean else 0.0) / len(self.durations) ** 0.5
        return rate * missing, rate * missing * min(1.0, 2 * relative + 0.05)


class LiveDisplay(Display):
    """A few lines at the bottom of the terminal, redrawn twice a second; notes scroll above."""

    def __init__(self, plan: Plan, to_run: int, echo: Echo, history: History) -> None:
        super().__init__(plan, to_run, echo)
        self._outlook = Outlook(plan, history)
        from rich.console import Console
        from rich.live import Live

        # bound to the terminal now: the inline executor lends sys.stdout to the trial's log
        self._console = Console(file=drawing(sys.stdout), highlight=False)
        self._live = Live(
            get_renderable=self.render,
            console=self._console,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> LiveDisplay:
        self._live.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self._live.__exit__(*details)

    def say(self, text: str) -> None:
        """Print a line above the live view."""
        self._console.print(shown(text), markup=False)

    def looked(self, adaptive: Adaptive, fewer: int, text: str) -> None:
        """As in plain lines; contrasts are told with what the look made of them."""
        self._outlook.looked(adaptive)
        super().looked(adaptive, fewer, text)

    def _tell(self, line: str, closed: Closed) -> None:
        self._outlook.add(closed)
        if closed.state != "done":  # what went well is in the counts
            self.say(line)

    def _pulse(self) -> None:
        """The view is redrawn anyway."""

    def render(self) -> RenderableType:
        """The live view as one text."""
        from rich.text import Text

        width = self._console.width
        return Text("\n".join(printable(line)[: width - 1] for line in self.lines()))

    def lines(self) -> list[str]:
        """Counts and time left; what each worker does; interim contrasts; the last failure."""
        counts = self.counts
        head = [f"{counts['done'] + self.reused}/{self.to_run + self.reused} done"]
        head.append(f"{len(self.running)} running")
        head += [f"{counts[s]} {s}" for s in ("failed", "diverged", "killed") if counts[s]]
        text = " \u00b7 ".join(head) + f"   replicate {self.replicate}/{self.plan.replicates}"
        if self.gpu_seconds:
            budget = self.plan.cost.gpu_hours
            of = f"/{budget:.1f}" if budget else ""
            text += f"   {self.gpu_seconds / 3600:.1f}{of} GPU-h"
        left = self.left()
        if left is not None:
            spread = f" (\u00b1{elapsed_in_words(left[1])})" if left[1] >= 1 else ""
            text += f"   left {elapsed_in_words(left[0])}{spread}"
        elif not self.running and not sum(counts.values()):
            text += "   starting workers"
        lines = [text]
        for job, report, began in list(self.running.values()):
            lines.append(
                f" {job.short}  {_where(report)}  {elapsed_in_words(time.monotonic() - began)}"
            )
        lines += [f" {text}" for text in self._outlook.lines()]
        if self.last_failure:
            lines.append(f" last failure: {self.last_failure}")
        return lines


def _where(report: Report | None) -> str:
    if report is None:
        return "starting"
    return f"step {report.step}" + (f"/{report.total}" if report.total else "")


def elapsed_in_words(seconds: float) -> str:
    """Short form of a time span: `42 s`, `3 min 20 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def make_display(
    plan: Plan,
    to_run: int,
    echo: Echo,
    history: History,
    *,
    live: bool,
    workspace: Workspace | None = None,
) -> Display:
    """The live view where `live` (a terminal), plain lines otherwise."""
    display = LiveDisplay(plan, to_run, echo, history) if live else Display(plan, to_run, echo)
    display.workspace = workspace
    return display


SHOWN = 6
"""Contrasts shown before the rest is only counted."""


class Outlook:
    """Takes in trials as they end; `lines` are made anew only after one did."""

    def __init__(self, plan: Plan, history: History) -> None:
        self._plan = plan
        observed = observe(plan, history)
        self._values = observed.values
        self._trials = {t.trial.key: t.trial for t in plan.trials if t.trial.kind == "trial"}
        self._ended: dict[str, tuple[int, str]] = {}
        # One that failed before is run again, so that its state says nothing yet.
        self._open = {
            key
            for key, trial in self._trials.items()
            if observed.states[trial.arm][trial.replicate] not in ("done", "diverged")
        }
        self._lines: list[str] | None = None

    def add(self, closed: Closed) -> None:
        trial = self._trials.get(closed.key)
        if closed.state in ENDED:
            self._open.discard(closed.key)
            self._lines = None
        if trial is None or closed.state != "done" or not closed.measurements:
            return
        for metric, value in closed.measurements[-1].metrics.items():
            if value is not None and math.isfinite(value):
                row = self._values.setdefault(metric, {}).setdefault(trial.arm, {})
                row[trial.replicate] = value
        self._lines = None

    def looked(self, adaptive: Adaptive) -> None:
        """A look was taken, or the study was looked at before."""
        self._ended = {c: (n, adaptive.how(c)) for c, (n, _) in adaptive.ended().items()}
        self._lines = None

    def lines(self) -> list[str]:
        """`H12 +0.006 (5/6, interim)` for each contrast with a complete replicate.

        Interim while a trial of the study is still to end, as in the answer's headline.
        """
        if self._lines is None:
            lines = [text for c in self._plan.contrasts if (text := self._line(c))]
            more = [f"and {len(lines) - SHOWN} more contrasts"] if len(lines) > SHOWN else []
            self._lines = lines[:SHOWN] + more
        return self._lines

    def _line(self, contrast: PlannedContrast) -> str:
        if contrast.id in self._ended:
            n, how = self._ended[contrast.id]
            return f"{contrast.id} {how} (after {n} of at most {self._plan.replicates})"
        values = self._values.get(contrast.metric, {})
        differences = [
            difference
            for replicate in range(self._plan.replicates)
            if (difference := _difference(contrast, values, replicate)) is not None
        ]
        if not differences:
            return ""
        mean = statistics.fmean(differences)
        still = ", interim" if self._open else ""
        return f"{contrast.id} {mean:+.3g} ({len(differences)}/{self._plan.replicates}{still})"


def _difference(
    contrast: PlannedContrast, values: Mapping[str, Mapping[int, float]], replicate: int
) -> float | None:
    """The contrast's weighted sum of arms; None unless every arm is there, as in the verdict."""
    weights = contrast.arm_weights()
    if not weights or any(replicate not in values.get(arm, {}) for arm in weights):
        return None
    return sum(weight * values[arm][replicate] for arm, weight in weights.items())
