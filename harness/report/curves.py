"""Learning curves: arm means of headline metrics where a protocol was run at several cycles."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.analysis import sentences
from harness.analysis.inference import ByPrompt, estimate, one_group
from harness.analysis.kinds import band
from harness.analysis.model import Answer
from harness.analysis.observed import Observed
from harness.report import tables
from harness.report.plots import Axis, Tick

MOST_COLOURED = 6
ONE_CYCLE = "Everything was measured at one cycle, so there is no curve to draw."
"""`measure_at` of a study file names several cycles."""
NOTHING = "Nothing has been measured yet."


@dataclass(frozen=True)
class Curve:
    """One arm's means over replicates by cycle."""

    arm: str
    colour: int | None
    """Index of the colour, None for the grey background lines."""
    points: list[tuple[str, str]]
    band: str = ""
    """Corners of the band around it, as a path in percent of the plot; empty without replicates."""

    @property
    def segments(self) -> list[tuple[str, str, str, str]]:
        """Straight pieces between neighbouring points."""
        return [(*one, *two) for one, two in itertools.pairwise(self.points)]


@dataclass(frozen=True)
class Chart:
    """Curves of one metric."""

    metric: str
    title: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    curves: list[Curve]
    over: str = ""
    """What the bands reach over; empty without bands."""


@dataclass(frozen=True)
class Curves:
    """Small multiples with one legend, or the reason why there are none."""

    charts: list[Chart]
    legend: list[tuple[int, str]]
    notes: list[str] = field(default_factory=list)
    """What is not drawn, and why."""


def curves(answer: Answer, observed: Observed) -> Curves:
    """Charts of the headline metrics, and what there is none of.

    Args:
        answer: the study's answer.
        observed: the values by cycle behind it, and by prompt where they are read.
    """
    arms = {row.arm for row in answer.arms if row.kind == "arm"}
    steps = sorted(
        {s for by in observed.curves.values() for s, rows in by.items() if arms & rows.keys()}
    )
    if len(steps) < 2:
        return Curves([], [], [ONE_CYCLE if steps else NOTHING])
    coloured = _coloured(answer)
    charts, lacking = [], []
    for metric in sorted(tables.headline_metrics(answer), key=lambda m: m != answer.primary):
        means = _means(answer, observed, metric)
        rows = {arm: row for arm, row in means.items() if len(row) > 1}
        if rows:
            charts.append(_chart(answer, observed, metric, rows, coloured, steps))
        else:
            lacking.append(metric)
    notes = []
    if lacking:
        notes.append(f"Without a curve, measured at fewer than two cycles: {', '.join(lacking)}.")
    alone = sum(row.kind == "arm" and row.n_done == 0 for row in answer.arms)
    if alone and charts:
        notes.append(f"{alone} arms have no finished replicate and no curve.")
    return Curves(charts, list(enumerate(coloured)) if charts else [], notes)


def _chart(
    answer: Answer,
    observed: Observed,
    metric: str,
    rows: Mapping[str, Mapping[int, float]],
    coloured: list[str],
    steps: list[int],
) -> Chart:
    bands_over = {a: _band(answer, observed, metric, a) for a in rows if a in coloured}
    bands = {arm: own for arm, (own, _) in bands_over.items()}
    ends = [v for own in bands.values() for interval in own.values() for v in interval]
    values = [v for row in rows.values() for v in row.values()]
    room = 0.5 * (max(values) - min(values)) or None
    # A band of two replicates may be wider than everything; the means have to stay legible.
    near = [v for v in ends if room is None or min(values) - room <= v <= max(values) + room]
    x = Axis.over([float(s) for s in steps], 0.04)
    y = Axis.over([*values, *near], 0.06, flip=True)
    drawn = [
        Curve(
            arm,
            coloured.index(arm) if arm in coloured else None,
            [(x.at(s), y.at(row[s])) for s in sorted(row)],
            _outline(x, y, bands.get(arm, {})),
        )
        for arm, row in rows.items()
    ]
    # In the order of drawing: grey ones lie below all others, the baseline above.
    drawn.sort(key=lambda c: -1 if c.colour is None else MOST_COLOURED - c.colour)
    ticks = [Tick(x.at(s), str(s)) for s in _few(steps)]
    reached = [(2, n) for own, n in bands_over.values() if own]  # a band is over several seeds
    over = sentences.reach(reached) if any(bands.values()) else ""
    return Chart(metric, tables.with_arrow(answer, metric), ticks, y.ticks(4), drawn, over)


def _few(steps: list[int], most: int = 6) -> list[int]:
    stride = -(-len(steps) // most)
    # Counted from the end: the last cycle, which verdicts are of, keeps its label.
    return steps[::-1][::stride][::-1]


def _coloured(answer: Answer) -> list[str]:
    """The baseline and the arms that differ most from one another on the primary metric."""
    rows = [row for row in answer.arms if row.kind == "arm"]
    chosen = [row.arm for row in rows if row.baseline]
    scored = [
        (mean, row.arm)
        for row in rows
        if not row.baseline
        and answer.primary in row.cells
        and (mean := row.cells[answer.primary].mean) is not None
    ]
    scored.sort()
    if len(scored) + len(chosen) > MOST_COLOURED:
        want = MOST_COLOURED - len(chosen)
        places = [round(i * (len(scored) - 1) / (want - 1)) for i in range(want)]
        scored = [scored[i] for i in dict.fromkeys(places)]
    return chosen + [arm for _, arm in reversed(scored)]


def _means(answer: Answer, observed: Observed, metric: str) -> dict[str, dict[int, float]]:
    """Arm to cycle to the mean over the replicates, where all that are done were measured."""
    means: dict[str, dict[int, float]] = {}
    for row in answer.arms:
        if row.kind != "arm":
            continue
        by_step = {s: v for s, v in _values(observed, metric, row.arm).items()}
        means[row.arm] = {
            s: sum(own.values()) / len(own) for s, own in by_step.items() if len(own) == row.n_done
        }
    return means


def _values(observed: Observed, metric: str, arm: str) -> dict[int, dict[int, float]]:
    """Cycle to replicate to value of one arm."""
    steps = observed.curves.get(metric, {})
    return {s: rows[arm] for s, rows in sorted(steps.items()) if rows.get(arm)}


def _band(
    answer: Answer, observed: Observed, metric: str, arm: str
) -> tuple[dict[int, tuple[float, float]], int]:
    """The simultaneous band over the measured cycles, and over how many prompts (0: seeds alone).

    It reaches over prompts only where every cycle has values by prompt.
    """
    by_step = _values(observed, metric, arm)
    if not by_step:
        return {}, 0
    arrays: dict[int, ByPrompt] = {}
    for step, own in by_step.items():
        by_trial = {(arm, r): observed.table(arm, r, metric, step) for r in own}
        complete = {trial: table for trial, table in by_trial.items() if table is not None}
        if len(complete) < len(own):
            arrays = {}
            break
        arrays[step] = ByPrompt.of(complete)
    group = one_group([{arm: 1.0}])
    estimates = {s: estimate({arm: own}, group, arrays.get(s)) for s, own in by_step.items()}
    if not all(e.prompts for e in estimates.values()):
        estimates = {s: estimate({arm: own}, group) for s, own in by_step.items()}
    over = min(e.prompts.n if e.prompts else 0 for e in estimates.values())
    return band(estimates, answer.alpha), over


def _outline(x: Axis, y: Axis, intervals: Mapping[int, tuple[float, float]]) -> str:
    """Points of a polygon in hundredths of the plot: along the upper ends, back along the lower."""
    steps = sorted(intervals)
    if len(steps) < 2:
        return ""
    ends = [(s, intervals[s][1]) for s in steps] + [(s, intervals[s][0]) for s in reversed(steps)]
    return " ".join(f"{100 * x.share(s):.3f},{100 * y.share(v):.3f}" for s, v in ends)
