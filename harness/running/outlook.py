"""Where the declared contrasts point while the study still runs: mean differences, no judgement.

Cheap on purpose: no interval, no p, nothing imported beyond what the driver has.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

from harness.analyse.observed import ENDED, observe
from harness.journal import Closed, History
from harness.plan import Plan, PlannedContrast
from harness.planning.adaptive import Adaptive

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
        """A trial ended."""
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
            told = [text for c in self._plan.contrasts if (text := self._line(c))]
            more = [f"and {len(told) - SHOWN} more contrasts"] if len(told) > SHOWN else []
            self._lines = told[:SHOWN] + more
        return self._lines

    def _line(self, contrast: PlannedContrast) -> str:
        if contrast.id in self._ended:
            n, how = self._ended[contrast.id]
            return f"{contrast.id} {how} (after {n} of at most {self._plan.replicates})"
        values = self._values.get(contrast.metric, {})
        seen = [
            found
            for replicate in range(self._plan.replicates)
            if (found := _difference(contrast, values, replicate)) is not None
        ]
        if not seen:
            return ""
        mean = statistics.fmean(seen)
        still = ", interim" if self._open else ""
        return f"{contrast.id} {mean:+.3g} ({len(seen)}/{self._plan.replicates}{still})"


def _difference(
    contrast: PlannedContrast, values: Mapping[str, Mapping[int, float]], replicate: int
) -> float | None:
    """The contrast's weighted sum of arms; None unless every arm is there, as in the verdict."""
    weights = contrast.arm_weights()
    if not weights or any(replicate not in values.get(arm, {}) for arm in weights):
        return None
    return sum(weight * values[arm][replicate] for arm, weight in weights.items())
