"""What the history holds for a plan, as tables: values by metric, states, time spent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from harness.contract import MetricSpec
from harness.journal.history import Attempt, History, TrialHistory
from harness.journal.prompt_values import PromptValues
from harness.journal.trial import Trial
from harness.planning.plan import Plan, PlannedTrial

if TYPE_CHECKING:
    from harness.analysis.inference import ByPrompt


class PromptReader(Protocol):
    """Where values by prompt are read."""

    def of(
        self, key: str, code: str | None, protocol: str, metric: str, step: int | None = None
    ) -> PromptValues | None:
        """Those of a trial's metric; None where there are none."""
        ...


@dataclass
class Observed:
    """Values and states of every planned trial under the plan's protocol fingerprint."""

    values: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    """Metric to arm (or reference) to replicate to finite value at the last measured step."""
    curves: dict[str, dict[int, dict[str, dict[int, float]]]] = field(default_factory=dict)
    """Metric to step to arm (or reference) to replicate to finite value."""
    reasons: dict[str, dict[int, str]] = field(default_factory=dict)
    """Arm to replicate to why it failed or diverged, its first line."""
    protocol: str = ""
    reader: PromptReader | None = None
    _tables: dict[tuple[str, int | None], dict[tuple[str, int], PromptValues]] = field(
        default_factory=dict
    )
    _arrays: dict[tuple[str, int | None], ByPrompt | None] = field(default_factory=dict)
    states: dict[str, dict[int, str]] = field(default_factory=dict)
    """Arm (or reference) to replicate to state; `unmeasured` is done under another protocol."""
    trials: dict[str, dict[int, Trial]] = field(default_factory=dict)
    """Arm (or reference) to replicate to planned trial."""

    def of(self, metric: str, names: Iterable[str]) -> dict[str, dict[int, float]]:
        """Values of one metric for some arms, empty rows included."""
        rows = self.values.get(metric, {})
        return {name: rows.get(name, {}) for name in names}

    def tables(
        self, metric: str, step: int | None = None
    ) -> dict[tuple[str, int], PromptValues] | None:
        """(arm, replicate) to values by prompt of every arm; None where no trial has any."""
        if self.reader is None:
            return None
        by_trial = self._tables.get((metric, step))
        if by_trial is None:
            at_step = self.curves.get(metric, {}).get(-1 if step is None else step, {})
            values = self.values.get(metric, {}) if step is None else at_step
            by_trial = {
                (arm, r): values_of
                for arm, row in values.items()
                for r in row
                if (values_of := self.table(arm, r, metric, step)) is not None
            }
            self._tables[metric, step] = by_trial
        return by_trial or None

    def by_prompt(self, metric: str, step: int | None = None) -> ByPrompt | None:
        """The same in arrays; None where no trial has any."""
        from harness.analysis.inference import ByPrompt  # numpy, which the driver does without

        if (metric, step) not in self._arrays:
            tables = self.tables(metric, step)
            self._arrays[metric, step] = ByPrompt.of(tables) if tables else None
        return self._arrays[metric, step]

    def table(self, arm: str, r: int, metric: str, step: int | None = None) -> PromptValues | None:
        """Values by prompt of one trial; None where there are none, or none are read."""
        if self.reader is None:
            return None
        return self.reader.of(self.trials[arm][r].key, None, self.protocol, metric, step)

    def keys(self, names: Iterable[str]) -> list[str]:
        """Keys of all planned trials of some arms, each once."""
        distinct = dict.fromkeys(names)
        return [t.key for name in distinct for t in self.trials.get(name, {}).values()]


def observe(plan: Plan, history: History, reader: PromptReader | None = None) -> Observed:
    """Read the plan's trials out of the history; nothing measured otherwise is mixed in."""
    protocol = plan.fingerprints.protocol
    observed = Observed(protocol=protocol, reader=reader)
    for planned in plan.trials:
        trial = planned.trial
        if trial.kind == "rerun":
            continue  # the same seeds again: no further replicate
        name = row_name(planned)
        record = history.trials.get(trial.key)
        state: str = record.state if record else "pending"
        if record and state == "done":
            measured = record.measured(protocol)
            if not measured:
                state = "unmeasured"
            for at in measured:
                for metric, value in at.metrics.items():
                    if value is not None and math.isfinite(value):
                        steps = observed.curves.setdefault(metric, {})
                        steps.setdefault(at.step, {}).setdefault(name, {})[trial.replicate] = value
                        if at is measured[-1]:
                            by_arm = observed.values.setdefault(metric, {})
                            by_arm.setdefault(name, {})[trial.replicate] = value
        elif record and state in ("failed", "diverged"):
            ended = record.latest.closed if record.latest else None
            why = ended.reason.strip().split("\n")[0] if ended else ""
            observed.reasons.setdefault(name, {})[trial.replicate] = why
        observed.states.setdefault(name, {})[trial.replicate] = state
        observed.trials.setdefault(name, {})[trial.replicate] = trial
    return observed


def row_name(planned: PlannedTrial) -> str:
    """Name of the table row of a trial; references cannot collide with arms."""
    reference = planned.trial.kind == "reference"
    return f"reference:{planned.trial.arm}" if reference else planned.trial.arm


def order_metrics(specs: Mapping[str, MetricSpec], observed: Observed) -> dict[str, MetricSpec]:
    """Specs of all metrics with values: headline ones first, then declared, then undeclared."""
    ordered = [m for m in specs if specs[m].headline]
    ordered += [m for m in specs if not specs[m].headline and m in observed.values]
    extra = sorted(m for m in observed.values if m not in specs)
    return {m: specs.get(m, MetricSpec()) for m in (*ordered, *extra)}


def contributing(record: TrialHistory, protocol: str) -> list[Attempt]:
    """Attempts behind a trial's numbers: the one that trained, and those that measured it later."""
    complete = record.complete_under(protocol)
    if complete is None:
        return []
    later = [
        a
        for a in record.ordered
        if a.opened.mode == "measure"
        and a.opened.attempt > complete.opened.attempt
        and a.opened.protocol == protocol
        and a.closed is not None
        and a.closed.measurements
    ]
    return [complete, *later]


@dataclass(frozen=True)
class Spent:
    """Time spent on a study's trials, failures and superseded attempts included."""

    seconds_all: float
    seconds_failed: float
    gpu_hours: float
    attempts: int
    attempts_failed: int
    cut_off: int
    trial_seconds: tuple[float, float, float] | None


def spent(plan: Plan, history: History) -> Spent:
    """Add up every attempt of the planned trials and of the orphans (once planned, no longer)."""
    total = failed = gpu_hours = 0.0
    attempts = without_use = cut_off = 0
    counted: list[float] = []
    for key in [t.trial.key for t in plan.trials] + plan.orphans:
        record, own_view = history.everything.get(key), history.trials.get(key)
        if record is None or own_view is None:
            continue
        useful = {id(a) for a in contributing(own_view, plan.fingerprints.protocol)}
        for place, attempt in record.attempts.items():
            if place not in own_view.attempts and attempt.opened.study != plan.study:
                continue  # what another study ran with other code
            attempts += 1
            closed = attempt.closed
            if closed is None:
                cut_off += 1
                continue
            total += closed.seconds
            gpu_hours += closed.seconds * closed.gpus / 3600
            if key in plan.orphans or id(attempt) not in useful:
                failed += closed.seconds
                without_use += 1
            elif attempt.opened.mode == "train" and attempt.opened.trial.kind == "trial":
                counted.append(closed.seconds)
    counted.sort()
    middle = (counted[0], counted[len(counted) // 2], counted[-1]) if counted else None
    return Spent(total, failed, gpu_hours, attempts, without_use, cut_off, middle)


def failures(plan: Plan, observed: Observed) -> dict[str, dict[str, int]]:
    """'factor=level' to {state: count} of the trials that ended without a result."""
    counts: dict[str, Counter[str]] = {}
    for arm in plan.arms:
        for state in observed.states.get(arm.name, {}).values():
            if state in ("failed", "diverged", "killed"):
                for factor, level in arm.levels.items():
                    counts.setdefault(f"{factor}={level}", Counter())[state] += 1
    return {level: dict(sorted(count.items())) for level, count in sorted(counts.items())}
