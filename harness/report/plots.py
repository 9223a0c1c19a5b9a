"""Geometry of the report's plots: axes, intervals, strips of arms, main effects, trade-off."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.analysis import sentences
from harness.analysis.model import Answer, ArmRow, Cell, Verdict
from harness.analysis.sentences import number
from harness.report import tables
from harness.report.kinds import KINDS


@dataclass(frozen=True)
class Mark:
    """One row of an interval plot; positions are SVG percentages."""

    label: str
    text: str
    at: str | None
    lo: str | None = None
    width: str | None = None
    dots: tuple[str, ...] = ()
    kind: str = "arm"
    tag: str = ""
    clipped: str = ""
    """`left` or `right` where the value lies beyond the axis."""
    why: str = ""
    """Why there is no value."""
    inner_lo: str | None = None
    inner_width: str | None = None
    """The narrower claim's interval."""


@dataclass(frozen=True)
class PlotGroup:
    """Rows under one heading, such as the levels of a factor."""

    title: str
    marks: list[Mark]


@dataclass(frozen=True)
class IntervalPlot:
    """Rows of intervals on one axis."""

    metric: str
    better: str
    groups: list[PlotGroup]
    ticks: list[Tick]
    zero: str | None = None
    over: str = ""
    """What the intervals reach over."""


@dataclass(frozen=True)
class VerdictPlot:
    """The intervals of one contrast, the wide and the narrow one, with zero and the margin."""

    mark: Mark
    zero: str
    margin: tuple[str, str] | None
    ticks: list[Tick]


@dataclass(frozen=True)
class Dot:
    """An arm or reference in the trade-off plot; numbered ones are listed in its legend."""

    x: str
    y: str
    label: str
    kind: str
    number: str | None = None
    """What is printed in the dot: a number for an arm, a letter for a reference."""
    text: str = ""
    opacity: float = 1.0


@dataclass(frozen=True)
class TradeOff:
    """Two metrics of every arm, and the steps of the Pareto front."""

    x_title: str
    y_title: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    dots: list[Dot]
    steps: list[tuple[str, str, str, str]] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)
    """References too far off to draw, with their values."""


def better_words(answer: Answer, metric: str) -> str:
    """`higher is better`, `lower is better`, or nothing."""
    higher = answer.metrics.get(metric, {}).get("higher_is_better")
    return "" if higher is None else ("higher is better" if higher else "lower is better")


def verdict_plots(verdicts: Sequence[Verdict]) -> dict[str, VerdictPlot]:
    """A plot per contrast that has an interval, each with zero and the margin on its axis.

    A margin of a collapse lies on the side of what is lost alone.
    """
    plots = {}
    for v in verdicts:
        if v.difference is None or v.lo is None or v.hi is None:
            continue
        kind = KINDS[v.kind]
        low = -(v.margin or 0.0) if kind.margin else 0.0
        margins = [low, v.margin] if v.margin else []
        inner = (v.narrow.lo, v.narrow.hi) if v.narrow else (None, None)
        replicates = list(v.per_replicate.values()) if kind.replicates else []
        axis = Axis.over([0.0, *margins, v.lo, v.hi, *inner, *replicates])
        band = (axis.at(low), axis.width(low, v.margin)) if v.margin else None
        mark = row_mark(axis, v.id, "", v.difference, v.lo, v.hi, replicates, inner=inner)
        plots[v.id] = VerdictPlot(mark, axis.at(0.0), band, axis.ticks())
    return plots


def arm_plot(answer: Answer, metric: str) -> IntervalPlot:
    """Every arm's replicates, mean and interval; references far off are arrows at the edge."""
    rows = [row for row in answer.arms if row.kind == "arm"]
    references = [row for row in answer.arms if row.kind == "reference"]
    values = [v for row in rows for v in _extent(row.cells[metric])]
    near = values
    if values:
        lo, hi = min(values), max(values)
        means = [row.cells[metric].mean for row in references]
        # One far off would press all arms into a few pixels.
        near = values + [m for m in means if m is not None and _near(m, (lo, hi))]
    near = near or [m for row in references if (m := row.cells[metric].mean) is not None]
    axis = Axis.over(near)
    places = tables.column_places(answer, metric)
    groups = [PlotGroup("", [_arm_mark(axis, row, metric, places) for row in rows])]
    measured = [row for row in references if row.cells[metric].mean is not None]
    if measured:
        groups.append(
            PlotGroup("References", [_arm_mark(axis, r, metric, places) for r in measured])
        )
    better, over = better_words(answer, metric), tables.over_words(answer, [metric])
    return IntervalPlot(metric, better, groups, axis.ticks() if near else [], over=over)


def _extent(cell: Cell) -> list[float]:
    return [v for v in (cell.lo, cell.hi, *cell.values.values()) if v is not None]


def _arm_mark(axis: Axis, row: ArmRow, metric: str, places: int) -> Mark:
    cell = row.cells[metric]
    tag = "baseline" if row.baseline else ""
    text = sentences.number(cell.mean, places)
    missing = f"{cell.n}/{row.n_planned}" if cell.n < row.n_planned else ""
    return row_mark(
        axis,
        row.arm,
        text,
        cell.mean,
        cell.lo,
        cell.hi,
        list(cell.values.values()) if row.kind == "arm" else [],
        kind=row.kind,
        tag=" ".join(t for t in (tag, missing) if t),
        why=tables.why_empty(row, metric),
    )


def row_mark(
    axis: Axis,
    label: str,
    text: str,
    middle: float | None,
    lo: float | None,
    hi: float | None,
    values: Sequence[float] = (),
    kind: str = "arm",
    tag: str = "",
    why: str = "",
    inner: tuple[float | None, float | None] = (None, None),
) -> Mark:
    """One row: a value with its interval, one inside it, and the values behind it.

    Args:
        axis: where values lie.
        label: name of the row.
        text: the value as printed.
        middle: the value; None: the row says why there is none.
        lo: lower end of the interval.
        hi: its upper end.
        values: those of the replicates.
        kind: how the mark looks.
        tag: beside the label.
        why: the reason where there is no value.
        inner: the interval of the narrower claim.
    """
    if middle is None:
        return Mark(label, text, None, kind=kind, tag=tag, why=why or "no value")
    inner_lo, inner_hi = inner
    clipped = "" if axis.holds(middle) else ("left" if middle < axis.lo else "right")
    return Mark(
        label,
        text,
        axis.at(middle),
        None if lo is None else axis.at(lo),
        None if lo is None or hi is None else axis.width(lo, hi),
        tuple(axis.at(v) for v in values),
        kind,
        tag,
        clipped,
        "",
        None if inner_lo is None else axis.at(inner_lo),
        None if inner_lo is None or inner_hi is None else axis.width(inner_lo, inner_hi),
    )


def effect_plot(answer: Answer, metric: str) -> IntervalPlot | None:
    """Levels against the mean of their factor's levels, grouped by factor."""
    listed = [e for e in answer.effects if e.metric == metric]
    if not listed:
        return None
    axis = Axis.over([0.0, *(v for e in listed for v in (e.mean, e.lo, e.hi))])
    widths = sorted((e.hi - e.lo) / 2 for e in listed if e.hi is not None and e.lo is not None)
    means = [e.mean for e in listed if e.mean is not None]
    places = sentences.decimals(
        widths[len(widths) // 2] if widths else None, max(means, default=0.0)
    )
    groups = []
    for factor in dict.fromkeys(e.factor for e in listed):
        marks = []
        for e in (e for e in listed if e.factor == factor):
            text = sentences.number(e.mean, places, signed=True)
            tag = e.why if e.mean is not None else ""
            marks.append(row_mark(axis, e.level, text, e.mean, e.lo, e.hi, tag=tag, why=e.why))
        aliases = next(e.aliases for e in listed if e.factor == factor)
        title = f"{factor}, not to be told from {', '.join(aliases)}" if aliases else factor
        groups.append(PlotGroup(title, marks))
    ticks = axis.ticks() if means else []
    over = sentences.reach((e.n, e.n_prompts) for e in listed if e.lo is not None)
    zero = axis.at(0.0) if means else None
    return IntervalPlot(metric, better_words(answer, metric), groups, ticks, zero, over)


def trade_off(answer: Answer) -> TradeOff | None:
    """The trade-off of the answer's two Pareto metrics; None without points."""
    if answer.pareto_metrics is None or not answer.pareto:
        return None
    x_name, y_name = answer.pareto_metrics
    points = answer.pareto
    spots = {
        row.arm: (row.cells[x_name].mean, row.cells[y_name].mean)
        for row in answer.arms
        if row.kind == "reference"
    }
    xs, ys = [p.x for p in points], [p.y for p in points]
    near = {n: s for n, s in spots.items() if _near(s[0], xs, 0.5) and _near(s[1], ys, 0.5)}
    x_axis = Axis.over([*xs, *(s[0] for s in near.values())], 0.08)
    y_axis = Axis.over([*ys, *(s[1] for s in near.values())], 0.08, flip=True)
    baseline = {row.arm for row in answer.arms if row.baseline}
    dots: list[Dot] = []
    ordered = sorted(points, key=lambda p: (not p.on_front, p.x))
    for p in ordered:
        numbered = p.on_front or p.arm in baseline or len(points) <= 16
        kind = "front" if p.on_front else "arm"
        kind += " baseline" if p.arm in baseline else ""
        text = f"on the front in {100 * p.probability:.0f} % of draws"
        label = str(len(dots) + 1) if numbered else None
        dots.append(Dot(x_axis.at(p.x), y_axis.at(p.y), p.arm, kind, label, text))
    letters = iter("ABCDEFGHIJKLMNOPQRSTUVWXYZ" * len(near))
    for name, (x, y) in near.items():
        if x is not None and y is not None:
            dots.append(
                Dot(x_axis.at(x), y_axis.at(y), name, "reference", next(letters), "reference row")
            )
    corner = sorted((p for p in points if p.on_front), key=lambda p: p.x)
    steps = []
    for one, two in itertools.pairwise(corner):
        # Stairs, as no arm is known to reach what lies between two of the front. Their corner takes
        # the worse of both values: it is the edge of what the two dominate.
        keep_y = _worse(answer, y_name, one.y, two.y)
        bend = two.x if keep_y == one.y else one.x
        steps.append((x_axis.at(one.x), y_axis.at(one.y), x_axis.at(bend), y_axis.at(keep_y)))
        steps.append((x_axis.at(bend), y_axis.at(keep_y), x_axis.at(two.x), y_axis.at(two.y)))
    x_title, y_title = (f"{m} ({better_words(answer, m)})" for m in (x_name, y_name))
    beyond = [
        f"{name} ({sentences.number(x)}, {sentences.number(y)})"
        for name, (x, y) in spots.items()
        if name not in near and x is not None and y is not None
    ]
    return TradeOff(x_title, y_title, x_axis.ticks(), y_axis.ticks(), dots, steps, beyond)


def _near(value: float | None, others: Sequence[float], spans: float = 1.0) -> bool:
    room = spans * (max(others) - min(others))
    return value is not None and min(others) - room <= value <= max(others) + room


def _worse(answer: Answer, metric: str, one: float, two: float) -> float:
    higher = answer.metrics[metric].get("higher_is_better")
    return min(one, two) if higher else max(one, two)


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis."""

    at: str
    label: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Axis:
    """A linear scale from data to percent of the plot's width (or, upside down, of its height)."""

    lo: float
    hi: float
    flip: bool = False

    @classmethod
    def over(cls, values: Iterable[float | None], pad: float = 0.05, flip: bool = False) -> Axis:
        """Axis that covers all finite values with some room on both sides."""
        finite = [v for v in values if v is not None and math.isfinite(v)]
        lo, hi = min(finite, default=0.0), max(finite, default=1.0)
        # Where all values are one, the axis needs a width all the same: positions are divided by
        # it.
        room = (hi - lo) * pad or abs(hi) * 0.1 or 0.5
        return cls(lo - room, hi + room, flip)

    def share(self, value: float) -> float:
        """Position in [0, 1], clipped."""
        place = min(1.0, max(0.0, (value - self.lo) / (self.hi - self.lo)))
        return 1.0 - place if self.flip else place

    def at(self, value: float) -> str:
        """Position as an SVG percentage."""
        return percent(self.share(value))

    def width(self, lo: float, hi: float) -> str:
        """Distance between two values as an SVG percentage."""
        return percent(abs(self.share(hi) - self.share(lo)))

    def holds(self, value: float) -> bool:
        """Whether a value lies on the axis."""
        return self.lo <= value <= self.hi

    def ticks(self, most: int = 5) -> list[Tick]:
        """Round numbers inside the axis: steps of 1, 2 or 5 times a power of ten."""
        span = self.hi - self.lo
        power = 10.0 ** math.floor(math.log10(span / most))
        step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= most)
        places = max(0, -math.floor(math.log10(step) + 1e-9))
        # The 1e-9: 0.6 / 0.2 is a hair below 3 in floating point, and the tick at 0.6 would be
        # lost.
        first = math.ceil(self.lo / step - 1e-9)
        last = math.floor(self.hi / step + 1e-9)
        return [self._tick(k * step, places) for k in range(first, last + 1)]

    def _tick(self, value: float, places: int) -> Tick:
        share = self.share(value)
        anchor = "start" if share < 0.03 else "end" if share > 0.97 else "middle"
        return Tick(percent(share), number(value, places), anchor)


def percent(share: float) -> str:
    """`0.1234567` as `12.346%`."""
    return f"{100 * share:.3f}%"
