"""Recorded numbers beside new ones: bit-equal, noise, a new replicate, or not reproduced."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from harness.frozen_model import FrozenModel
from harness.journal.attempts import ReportLine, measurements
from harness.journal.history import TrialHistory
from harness.journal.trial import Kind
from harness.reproduce.bands import (
    FALSE_RATE,
    FEWEST_REPLICATES,
    Band,
    coverage_for,
    replicate_band,
    rerun_band,
)
from harness.reproduce.recorded import Recorded

Decision = Literal[
    "bit-equal",
    "same digits",
    "as recorded",
    "within rerun noise",
    "consistent with a new replicate",
    "not reproduced",
    "not judged",
]
"""`as recorded`: nothing was computed, and what stands here is what ran."""
ORDER: tuple[Decision, ...] = (
    "bit-equal",
    "same digits",
    "as recorded",
    "within rerun noise",
    "consistent with a new replicate",
    "not judged",
    "not reproduced",
)
"""From the strongest claim to the weakest; of several numbers the last one counts."""
EXIT_CODES: dict[Decision, int] = {
    "bit-equal": 0,
    "same digits": 0,
    "as recorded": 0,
    "within rerun noise": 0,
    "consistent with a new replicate": 0,
    "not reproduced": 1,
    "not judged": 3,
}


@dataclass(frozen=True)
class Judgement:
    """A decision, the numbers it rests on, and why."""

    decision: Decision
    reason: str
    values: list[Compared]


def weakest(decisions: Collection[Decision]) -> Decision:
    """What several decisions come to."""
    return max(decisions, key=ORDER.index)


def judge(
    values: Sequence[Compared],
    recorded: Recorded,
    metrics: Collection[str],
    differences: Sequence[str],
    family: int = 1,
) -> Judgement:
    """Decide on the reported numbers of the last step; all others count only if those are equal.

    Args:
        values: from `compare`, not empty.
        recorded: the trial; its arm's replicates and the study's reruns give the scales.
        metrics: those that the study reports.
        differences: what differs from then, in words; named where the numbers do not come out.
        family: trials judged together; the false rate is that of all of them.
    """
    equal = sum(v.equal for v in values)
    share = f"{equal} of {len(values)} measured numbers are bit-equal"
    if equal == len(values):
        return Judgement("bit-equal", share, [_marked(v, metrics, values) for v in values])
    chosen = _chosen(values, metrics)
    coverage = coverage_for(len(chosen) * family)
    scales = [scaled(v, recorded, coverage) if v in chosen else v for v in values]
    judged = [v for v in scales if v.judged]
    decisions = {id(v): decision_of(v) for v in judged}
    decision = weakest(decisions.values())
    deciding = [v for v in judged if decisions[id(v)] == decision]
    words = _words(decision, deciding, len(judged), differences)
    return Judgement(decision, f"{share}; {words}", scales)


def _last(values: Sequence[Compared]) -> int:
    return max(v.step for v in values)


def _marked(value: Compared, metrics: Collection[str], values: Sequence[Compared]) -> Compared:
    reported = value.metric in metrics and value.step == _last(values)
    return value.model_copy(update={"judged": reported})


def _chosen(values: Sequence[Compared], metrics: Collection[str]) -> list[Compared]:
    """Reported numbers of the last step; where those are all equal, every one that is not."""
    reported = [v for v in values if v.metric in metrics and v.step == _last(values)]
    if any(not v.equal for v in reported):
        return reported
    return [v for v in values if not v.equal]


def decision_of(value: Compared) -> Decision:
    """The strongest scale on which one judged number reproduced."""
    if value.equal:
        return "bit-equal"
    if not value.measured or value.recorded is None or value.now is None:
        return "not reproduced"  # a finite number then, none now, or the other way round
    if value.noise is not None and value.noise.holds(value.now):
        return "within rerun noise"
    if value.replicates is None:
        return "not judged"
    return "consistent with a new replicate" if _holds(value) else "not reproduced"


def _holds(value: Compared) -> bool:
    assert value.replicates is not None
    assert value.now is not None
    return value.replicates.holds(value.now)


def _words(
    decision: Decision, deciding: Sequence[Compared], judged: int, differences: Sequence[str]
) -> str:
    names = ", ".join(dict.fromkeys(v.metric for v in deciding))
    share = f"{len(deciding)} of {judged} judged ({names})"
    if decision == "within rerun noise":
        worst = max(deciding, key=_in_noise)
        assert worst.noise is not None
        return (
            f"{share} moved no more than same-seed reruns of the baseline do: at most "
            f"{_in_noise(worst):.2g} of the band's half width, {worst.noise.df} df"
        )
    if decision == "consistent with a new replicate":
        return f"{share} fall where a new replicate would. {_weak(deciding)}"
    if decision == "not judged":
        return (
            f"{share} moved, and nothing recorded says how far such a number moves by itself: it "
            f"takes {FEWEST_REPLICATES} replicates of the arm, or `reruns:` in the study"
        )
    cause = "; ".join(differences) or "nothing that is recorded"
    lost = [v.metric for v in deciding if v.now is None or v.recorded is None]
    note = f" ({', '.join(dict.fromkeys(lost))}: no number then or now)" if lost else ""
    return f"{share} fall outside of what a new replicate may give{note}. What differs: {cause}"


def _in_noise(value: Compared) -> float:
    assert value.noise is not None
    assert value.now is not None
    assert value.recorded is not None
    half = value.noise.width / 2
    return abs(value.now - value.recorded) / half if half else math.inf


def _weak(deciding: Sequence[Compared]) -> str:
    """How much the interval lets pass: the reader decides what it is worth."""
    widths = []
    for value in deciding:
        band = value.replicates
        if band is not None:
            widths.append(f"{value.metric} [{band.low:.4g}, {band.high:.4g}] is {band.width:.3g}")
    rate = f"{100 * FALSE_RATE:g} %"
    return (
        f"This is weak evidence: a wide interval lets much pass. Width ({rate} false alarms over "
        f"all judged numbers): {'; '.join(widths)}"
    )


NOT_JUDGED_PREFIXES = ("train/", "cost/")
"""Logs such as times and losses that a measuring report may carry along; they are not compared."""


class Compared(FrozenModel):
    """One number, then and now."""

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


def compare(recorded: Recorded, depth: str, reports: Sequence[ReportLine]) -> list[Compared]:
    """Every recorded number beside its new one; with depth measure only those of the last step.

    A number that is measured today but was not recorded has nothing to compare with: left out.
    """
    then = {at.step: at.metrics for at in recorded.values()}
    today = {at.step: at.metrics for at in measurements(reports)}
    if depth == "measure" and then and today:
        last = max(then)
        then, today = {last: then[last]}, {last: today[max(today)]}
    compared = []
    for step in sorted(then):
        old, new = then[step], today.get(step, {})
        for metric in sorted(old):
            if metric.startswith(NOT_JUDGED_PREFIXES):
                continue
            one, two = old[metric], new.get(metric)
            same = one == two and metric in new
            compared.append(
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
    return compared


def scaled(value: Compared, recorded: Recorded, coverage: float) -> Compared:
    """The number as one that is judged: with the bands it may fall into at that coverage."""
    if value.recorded is None:
        return value.model_copy(update={"judged": True})
    groups = rerun_groups(recorded, value.metric, value.step)
    others = replicates_of(recorded, value.metric, value.step)
    return value.model_copy(
        update={
            "judged": True,
            "noise": rerun_band(value.recorded, groups, coverage),
            "replicates": replicate_band([*others.values()], coverage),
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
        # Reruns are of the baseline: their noise is lent to all arms, as nothing says that it
        # depends on the arm, and running every arm again would cost another study.
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
    numbers = replicates_of(recorded, metric, step).values()
    return statistics.stdev(numbers) if len(numbers) > 1 else None


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
