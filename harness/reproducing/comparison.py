"""Recorded numbers beside new ones: bit-equal or not, and the gap in spreads of the replicates."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from harness.reproducing.recorded import Recorded
from harness.running.attempts import Line, measurements

NOT_JUDGED_PREFIXES = ("train/", "cost/")
"""Logs such as times and losses that a measuring report may carry along; they are not compared."""


class Compared(BaseModel):
    """One number, then and now."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    metric: str
    recorded: float | None = Field(description="None where it was not finite, or not measured.")
    now: float | None
    equal: bool = Field(description="Bit for bit.")
    spread: float | None = Field(
        None, description="Standard deviation of this number over the arm's replicates."
    )


def compare(recorded: Recorded, level: str, reports: Sequence[Line]) -> list[Compared]:
    """Every recorded number beside its new one; with level measure only those of the last step."""
    then = {at.step: at.metrics for at in recorded.values()}
    today = {at.step: at.metrics for at in measurements(reports)}
    if level == "measure" and then and today:
        last = max(then)
        then, today = {last: then[last]}, {last: today[max(today)]}
    found = []
    for step in sorted(then.keys() | today.keys()):
        old, new = then.get(step, {}), today.get(step, {})
        for metric in sorted(old.keys() | new.keys()):
            if metric.startswith(NOT_JUDGED_PREFIXES):
                continue
            one, two = old.get(metric), new.get(metric)
            found.append(
                Compared(
                    step=step,
                    metric=metric,
                    recorded=one,
                    now=two,
                    equal=one == two and (metric in old) == (metric in new),
                    spread=_spread(recorded, metric, step) if one != two else None,
                )
            )
    return found


def _spread(recorded: Recorded, metric: str, step: int) -> float | None:
    """Standard deviation over the replicates of the same arm at the same step."""
    found = []
    for history in recorded.history.trials.values():
        latest = history.complete
        if latest is None or latest.opened.trial.arm != recorded.trial.arm:
            continue
        if latest.opened.trial.recipe != recorded.trial.recipe:
            continue
        for at in history.measured(recorded.measured_by.opened.protocol):
            value = at.metrics.get(metric)
            if at.step == step and value is not None and math.isfinite(value):
                found.append(value)
    return statistics.stdev(found) if len(found) > 1 else None


def side_by_side(values: Sequence[Compared]) -> list[str]:
    """A text table: step, metric, recorded, now, difference."""
    if not values:
        return []
    width = max(len(v.metric) for v in values)
    out = [f"{'step':>8}  {'metric':<{width}}  {'recorded':>22}  {'now':>22}"]
    for v in values:
        then, today = (_number(x) for x in (v.recorded, v.now))
        out.append(f"{v.step:>8}  {v.metric:<{width}}  {then:>22}  {today:>22}  {_difference(v)}")
    return out


def _number(value: float | None) -> str:
    return "-" if value is None else repr(value)


def _difference(v: Compared) -> str:
    if v.equal:
        return "equal"
    if v.recorded is None or v.now is None:
        return "missing"
    text = f"{v.now - v.recorded:+.3g}"
    if v.spread:
        text += f" ({abs(v.now - v.recorded) / v.spread:.2g} SD of the arm's replicates)"
    return text
