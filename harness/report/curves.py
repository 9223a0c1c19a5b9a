"""Learning curves: arm means of headline metrics where a protocol was run at several cycles."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from harness.analyse import tables
from harness.analyse.answer import Answer
from harness.journal import History
from harness.plan import Plan
from harness.report.axis import Axis, Tick

MOST_COLOURED = 6


@dataclass(frozen=True)
class Curve:
    """One arm's means over replicates by cycle."""

    arm: str
    colour: int | None
    """Index of the colour, None for the grey background lines."""
    points: list[tuple[str, str]]

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


@dataclass(frozen=True)
class Curves:
    """Small multiples with one legend."""

    charts: list[Chart]
    legend: list[tuple[int, str]]


def curves(answer: Answer, plan: Plan, history: History) -> Curves | None:
    """Charts of the headline metrics, or None where everything was measured only once."""
    means = _means(answer, plan, history)
    steps = sorted({s for by_metric in means.values() for rows in by_metric.values() for s in rows})
    if len(steps) < 2:
        return None
    named = _coloured(answer)
    charts = []
    for metric in sorted(tables.headline_metrics(answer), key=lambda m: m != answer.primary):
        rows = {arm: by[metric] for arm, by in means.items() if len(by.get(metric, {})) > 1}
        if not rows:
            continue
        x = Axis.over([float(s) for s in steps], 0.04)
        y = Axis.over([v for row in rows.values() for v in row.values()], 0.06, flip=True)
        drawn = [
            Curve(
                arm,
                named.index(arm) if arm in named else None,
                [(x.at(s), y.at(row[s])) for s in sorted(row)],
            )
            for arm, row in rows.items()
        ]
        drawn.sort(key=lambda c: -1 if c.colour is None else MOST_COLOURED - c.colour)
        ticks = [Tick(x.at(s), str(s)) for s in _few(steps)]
        charts.append(Chart(metric, tables.with_arrow(answer, metric), ticks, y.ticks(4), drawn))
    return Curves(charts, list(enumerate(named))) if charts else None


def _few(steps: list[int], most: int = 6) -> list[int]:
    stride = -(-len(steps) // most)
    return steps[::-1][::stride][::-1]


def _coloured(answer: Answer) -> list[str]:
    """The baseline and the arms that differ most from one another on the primary metric."""
    rows = [row for row in answer.arms if row.kind == "arm"]
    named = [row.arm for row in rows if row.baseline]
    scored = [
        (mean, row.arm)
        for row in rows
        if not row.baseline and (mean := row.cells[answer.primary].mean) is not None
    ]
    scored.sort()
    if len(scored) + len(named) > MOST_COLOURED:
        want = MOST_COLOURED - len(named)
        places = [round(i * (len(scored) - 1) / (want - 1)) for i in range(want)]
        scored = [scored[i] for i in dict.fromkeys(places)]
    return named + [arm for _, arm in reversed(scored)]


def _means(answer: Answer, plan: Plan, history: History) -> dict[str, dict[str, dict[int, float]]]:
    """Arm to metric to cycle to the mean over the replicates that are complete."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for row in answer.arms:
        if row.kind != "arm":
            continue
        seen: dict[str, dict[int, list[float]]] = {}
        for replicate, key in row.keys.items():
            record = history.trials.get(key)
            if record is None or row.trial_states.get(replicate) != "done":
                continue
            for at in record.measured(plan.fingerprints.protocol):
                for metric, value in at.metrics.items():
                    if value is not None:
                        seen.setdefault(metric, {}).setdefault(at.step, []).append(value)
        full = row.n_done
        found[row.arm] = {
            metric: {s: sum(v) / len(v) for s, v in by.items() if len(v) == full}
            for metric, by in seen.items()
        }
    return found
