"""Recorded numbers beside new ones, and what each is compared against: noise and replicates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field

from harness.journal import TrialHistory
from harness.reproducing.recorded import Recorded
from harness.reproducing.scales import Band, replicate_band, rerun_band
from harness.running.attempts import Line, measurements
from harness.trial import Kind

NOT_JUDGED_PREFIXES = ("train/", "cost/")
"""Logs such as times and losses that a measuring report may carry along; they are not compared."""


class Compared(BaseModel):
    """One number, then and now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    metric: str
    recorded: float | None = Field(description="None where it was not finite.")
    now: float | None = Field(description="None where it was not finite, or not measured.")
    equal: bool = Field(description="Bit for bit.")
    measured: bool = Field(True, description="False where the number was not measured now.")
    spread: float | None = Field(
        None, description="Standard deviation of this number over the arm's replicates."
    )
    judged: bool = Field(False, description="Whether the decision rests on it.")
    noise: Band | None = Field(None, description="Band of same-seed reruns; None if none ran.")
    replicates: Band | None = Field(None, description="Prediction interval of a new replicate.")


def compare(recorded: Recorded, level: str, reports: Sequence[Line]) -> list[Compared]:
    """Every recorded number beside its new one; with level measure only those of the last step.

    A number that is measured today but was not recorded has nothing to compare with: left out.
    """
    then = {at.step: at.metrics for at in recorded.values()}
    today = {at.step: at.metrics for at in measurements(reports)}
    if level == "measure" and then and today:
        last = max(then)
        then, today = {last: then[last]}, {last: today[max(today)]}
    found = []
    for step in sorted(then):
        old, new = then[step], today.get(step, {})
        for metric in sorted(old):
            if metric.startswith(NOT_JUDGED_PREFIXES):
                continue
            one, two = old[metric], new.get(metric)
            same = one == two and metric in new
            found.append(
                Compared(
                    step=step,
                    metric=metric,
                    recorded=one,
                    now=two,
                    equal=same,
                    measured=metric in new,
                    spread=None if same else _spread(recorded, metric, step),
                )
            )
    return found


def scaled(value: Compared, recorded: Recorded, level: float) -> Compared:
    """The number as one that is judged: with the bands it may fall into at that coverage."""
    if value.recorded is None:
        return value.model_copy(update={"judged": True})
    groups = rerun_groups(recorded, value.metric, value.step)
    others = replicates_of(recorded, value.metric, value.step)
    return value.model_copy(
        update={
            "judged": True,
            "noise": rerun_band(value.recorded, groups, level),
            "replicates": replicate_band([*others.values()], level),
        }
    )


def replicates_of(recorded: Recorded, metric: str, step: int) -> dict[int, float]:
    """Replicate -> recorded number of the trial's arm; a diverged one has none."""
    recipe = recorded.trial.recipe
    kind: Kind = "trial"
    return {
        history.ordered[0].opened.trial.replicate: value
        for history in recorded.history.trials.values()
        if _is(history, kind) and history.ordered[0].opened.trial.recipe == recipe
        for value in _values(history, recorded, metric, step)
    }


def rerun_groups(recorded: Recorded, metric: str, step: int) -> list[list[float]]:
    """Numbers with the same recipe and seeds: what each rerun repeats, and the reruns of it."""
    groups: dict[tuple[str, int], list[float]] = {}
    trials = list(recorded.history.trials.values())
    for history in (t for t in trials if _is(t, "rerun")):
        trial = history.ordered[0].opened.trial
        place = (trial.arm, trial.replicate)
        if place not in groups:
            groups[place] = [
                value
                for other in trials
                if _is(other, "trial")
                and other.ordered[0].opened.trial.replicate == trial.replicate
                and other.ordered[0].opened.trial.recipe == trial.recipe
                for value in _values(other, recorded, metric, step)
            ]
        groups[place] += _values(history, recorded, metric, step)
    return list(groups.values())


def _is(history: TrialHistory, kind: Kind) -> bool:
    return bool(history.attempts) and history.ordered[0].opened.trial.kind == kind


def _values(history: TrialHistory, recorded: Recorded, metric: str, step: int) -> Iterable[float]:
    """The finite number of that metric and step, if the trial has it under the protocol."""
    for at in history.measured(recorded.measured_by.opened.protocol):
        value = at.metrics.get(metric)
        if at.step == step and value is not None and math.isfinite(value):
            yield value


def _spread(recorded: Recorded, metric: str, step: int) -> float | None:
    found = replicates_of(recorded, metric, step).values()
    return statistics.stdev(found) if len(found) > 1 else None


def side_by_side(values: Sequence[Compared]) -> list[str]:
    """A text table: step, metric, recorded, now, difference; `*` marks what is judged."""
    if not values:
        return []
    width = max(len(v.metric) for v in values)
    out = [f"{'step':>8}  {'metric':<{width}}   {'recorded':>22}  {'now':>22}"]
    for v in values:
        then, today = (_number(x) for x in (v.recorded, v.now))
        mark = "*" if v.judged else " "
        out.append(f"{v.step:>8}  {v.metric:<{width}} {mark} {then:>22}  {today:>22}  {_gap(v)}")
    return out


def _number(value: float | None) -> str:
    return "-" if value is None else repr(value)


def _gap(v: Compared) -> str:
    if v.equal:
        return "equal"
    if v.recorded is None or v.now is None:
        return "missing"
    text = f"{v.now - v.recorded:+.3g}"
    if v.spread:
        text += f" ({abs(v.now - v.recorded) / v.spread:.2g} SD of the arm's replicates)"
    return text
