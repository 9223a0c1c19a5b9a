"""What a contrast of each kind is about, drawn: levels, lines, curves and rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from harness.analysis import sentences
from harness.analysis.model import Answer, ArmRow, Verdict
from harness.analysis.observed import Observed
from harness.planning.crossing import crossing
from harness.planning.plan import Plan
from harness.report.plots import Axis, IntervalPlot, PlotGroup, Tick, better_words, row_mark
from harness.study.kinds import ContrastKind
from harness.study.planned_contrast import PlannedContrast

Places = dict[int, float]
"""Replicate (or cycle) to value."""
MOST_LINES = 6
"""Lines that can still be told apart."""


@dataclass(frozen=True)
class FigureLine:
    """A polyline; its look says what it is (`k0` to `k5`, `fit`, `level`, `loss`, `faint`)."""

    look: str
    points: list[tuple[str, str]]
    label: str = ""

    @property
    def segments(self) -> list[tuple[str, str, str, str]]:
        """Straight pieces between neighbouring points."""
        return [(*one, *two) for one, two in itertools.pairwise(self.points)]


@dataclass(frozen=True)
class Figure:
    """A small chart: lines and points over one axis each."""

    label: str
    x_title: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[FigureLine]
    dots: list[tuple[str, str, str]] = field(default_factory=list)
    """(x, y, look)."""
    legend: list[tuple[str, str]] = field(default_factory=list)
    """(look, words)."""


@dataclass(frozen=True)
class _Inputs:
    """A verdict and the arms it was asked of."""

    verdict: Verdict
    contrast: PlannedContrast
    rows: Mapping[str, ArmRow]
    plan: Plan
    observed: Observed
    better: bool | None
    """Whether higher is better."""

    def cells(self) -> list[list[str]]:
        """Arms of each matched cell: those of all parts, which go cell by cell together."""
        arms: list[dict[str, None]] = []
        for part in self.contrast.parts:
            for i, cell in enumerate(part.cells):
                if i == len(arms):
                    arms.append({})
                arms[i] |= dict.fromkeys(cell)
        return [list(cell) for cell in arms]

    def varied(self, arms: Iterable[str], most: int) -> list[str]:
        """The factors that differ within a cell, those that the sentence names first."""
        levels = [self.rows[arm].levels for arm in arms if arm in self.rows]
        names = [f for f in self.plan.factors if len({own.get(f) for own in levels}) > 1]
        in_sentence = [f for f in names if f in f"{self.verdict.a} {self.verdict.b}"]
        return [*in_sentence, *(f for f in names if f not in in_sentence)][:most]

    def value(self, arm: str) -> Places:
        row = self.rows.get(arm)
        cell = row.cells.get(self.contrast.metric) if row else None
        return dict(cell.values) if cell else {}

    def curve(self, arms: Sequence[str]) -> dict[int, Places]:
        """Replicate to cycle to the mean over the arms that were measured there."""
        by_replicate: dict[int, Places] = {}
        for step, rows in sorted(self.observed.curves.get(self.contrast.metric, {}).items()):
            listed = [rows.get(arm, {}) for arm in arms]
            for r in sorted({r for row in listed for r in row}):
                by_replicate.setdefault(r, {})[step] = fmean(row[r] for row in listed if r in row)
        return by_replicate


def _trend(inputs: _Inputs) -> Figure | None:
    """Level means at their scores, and the fitted line.

    Scores are read back off the slope's weights: (x - mean) / sum of squares at each level.
    """
    cells = inputs.cells()
    factor = next(iter(inputs.varied(cells[0], 1)), "") if cells else ""
    slope = inputs.verdict.difference
    if not factor or slope is None:
        return None
    weights = inputs.contrast.parts[0].cells[0]
    level_of = {arm: inputs.rows[arm].levels[factor] for arm in itertools.chain(*cells)}
    score: dict[str, float] = {}
    for arm in cells[0]:
        score[level_of[arm]] = score.get(level_of[arm], 0.0) + weights.get(arm, 0.0)
    # Of weights w = (x - mean) / SS the squares add up to 1 / SS: divided by that, w is x - mean.
    squares = sum(w * w for w in score.values())
    score = {level: w / squares for level, w in score.items()} if squares else score
    means, dots = _levels(inputs, cells, level_of)
    measured = [level for level in score if level in means]
    if len(measured) < 2:
        return None
    middle = fmean(means[level] for level in measured) - slope * fmean(score[v] for v in measured)
    ends = [min(score.values()), max(score.values())]
    fitted = [middle + slope * x for x in ends]
    x = Axis.over(list(score.values()), 0.08)
    y = Axis.over([*fitted, *(v for _, v in dots), *means.values()], 0.08, flip=True)
    line = FigureLine("fit", [(x.at(a), y.at(b)) for a, b in zip(ends, fitted, strict=True)])
    ticks = _thinned([(score[level], Tick(x.at(score[level]), level)) for level in score], x)
    return Figure(
        f"{inputs.contrast.metric} by {factor}",
        factor,
        ticks,
        y.ticks(4),
        [line],
        [(x.at(score[level]), y.at(v), "faint") for level, v in dots if level in score]
        + [(x.at(score[level]), y.at(means[level]), "tone") for level in measured],
        [("tone", "mean of a level"), ("faint", "its replicates"), ("fit", "fitted line")],
    )


def _levels(
    inputs: _Inputs, cells: list[list[str]], level_of: Mapping[str, str]
) -> tuple[dict[str, float], list[tuple[str, float]]]:
    """Level to its mean over arms and replicates; (level, mean of a replicate)."""
    values: dict[str, dict[int, list[float]]] = {}
    for arm in itertools.chain(*cells):
        for r, value in inputs.value(arm).items():
            values.setdefault(level_of[arm], {}).setdefault(r, []).append(value)
    dots = [(level, fmean(own)) for level, rows in values.items() for own in rows.values()]
    means = {
        level: fmean(itertools.chain.from_iterable(rows.values())) for level, rows in values.items()
    }
    return means, dots


def _thinned(placed: list[tuple[float, Tick]], axis: Axis, apart: float = 0.11) -> list[Tick]:
    """Labels that do not print over one another, the first and the last among them."""
    ordered = sorted(placed, key=lambda item: item[0])
    labels = [ordered[0]]
    for item in ordered[1:-1]:
        room = min(
            abs(axis.share(item[0]) - axis.share(v)) for v in (labels[-1][0], ordered[-1][0])
        )
        if room >= apart:
            labels.append(item)
    return [tick for _, tick in [*labels, *ordered[1:][-1:]]]


def _interaction(inputs: _Inputs) -> Figure | None:
    """A line for each level of one factor over the levels of the other."""
    cells = inputs.cells()
    varied = inputs.varied(cells[0], 2) if cells else []
    if len(varied) < 2:
        return None
    along, lines_of = varied
    pairs = {arm: inputs.rows[arm].levels for arm in itertools.chain(*cells) if arm in inputs.rows}
    values: dict[tuple[str, str], list[float]] = {}
    for arm, own in pairs.items():
        values.setdefault((own[lines_of], own[along]), []).extend(inputs.value(arm).values())
    means = {at: fmean(own) for at, own in values.items() if own}
    xs = [v for v in inputs.plan.factors[along] if any(at[1] == v for at in means)]
    kinds = [v for v in inputs.plan.factors[lines_of] if any(at[0] == v for at in means)]
    if len(xs) < 2 or not kinds:
        return None
    x = Axis(-0.25, len(xs) - 0.75)
    y = Axis.over(means.values(), 0.1, flip=True)
    lines = [
        FigureLine(
            f"k{i % MOST_LINES}",
            [(x.at(n), y.at(means[kind, v])) for n, v in enumerate(xs) if (kind, v) in means],
            f"{lines_of}={kind}",
        )
        for i, kind in enumerate(kinds)
    ]
    return Figure(
        f"{inputs.contrast.metric} by {along} and {lines_of}",
        along,
        [Tick(x.at(n), v) for n, v in enumerate(xs)],
        y.ticks(4),
        lines,
        [(*point, line.look) for line in lines for point in line.points],
        [(line.look, line.label) for line in lines],
    )


def _collapse(inputs: _Inputs) -> Figure | None:
    """The curve over training, and what is lost from the cycle that shows most."""
    arms = list(dict.fromkeys(itertools.chain(*inputs.cells())))
    curves = inputs.curve(arms)
    mean = _mean(curves)
    if len(mean) < 2:
        return None
    x = Axis.over([float(s) for s in mean], 0.05)
    extra: list[float] = []
    last, since = max(mean), inputs.verdict.step
    if since in mean and inputs.verdict.margin:
        down = 1.0 if inputs.better is False else -1.0
        extra = [mean[since] + down * inputs.verdict.margin]
    values = [v for curve in curves.values() for v in curve.values()]
    y = Axis.over([*values, *extra], 0.08, flip=True)
    lines = [FigureLine("faint", _points(x, y, curve)) for curve in curves.values()]
    lines.append(FigureLine("tone", _points(x, y, mean)))
    legend = [("tone", "mean"), ("faint", "replicates")]
    if since in mean and since != last:
        held = [(x.at(since), y.at(mean[since])), (x.at(last), y.at(mean[since]))]
        lines.append(FigureLine("level", held))
        lines.append(FigureLine("loss", [held[1], (x.at(last), y.at(mean[last]))]))
        legend.append(("loss", f"lost since cycle {since}"))
    for level in extra:
        ends = [(x.at(min(mean)), y.at(level)), (x.at(last), y.at(level))]
        lines.append(FigureLine("level", ends))
        legend.append(("level", f"value at cycle {since}, and the margin from it"))
    dots = [(*point, "tone") for point in _points(x, y, mean)]
    return _over_training(inputs, x, y, mean, lines, dots, legend)


def _sooner(inputs: _Inputs) -> Figure | None:
    """Both curves, the value that is timed, and where the means cross it."""
    threshold = inputs.contrast.threshold
    sides = [
        list(dict.fromkeys(itertools.chain(*part.cells))) for part in inputs.contrast.parts[:2]
    ]
    means = [_mean(inputs.curve(arms)) for arms in sides]
    if threshold is None or len(means) < 2 or min(map(len, means)) < 2:
        return None
    steps = sorted({step for mean in means for step in mean})
    x = Axis.over([float(s) for s in steps], 0.05)
    y = Axis.over([threshold, *(v for mean in means for v in mean.values())], 0.08, flip=True)
    rising = (inputs.better is not False) != inputs.contrast.falls
    names = (inputs.verdict.a, inputs.verdict.b)
    lines = [
        FigureLine("level", [(x.at(steps[0]), y.at(threshold)), (x.at(steps[-1]), y.at(threshold))])
    ]
    dots, legend = [], []
    for i, (mean, name) in enumerate(zip(means, names, strict=True)):
        lines.append(FigureLine(f"k{i + 1}", _points(x, y, mean), name))
        legend.append((f"k{i + 1}", name))
        at = crossing(mean, threshold, rising=rising)
        if at is not None and _reached(mean, threshold, rising=rising):
            first = mean[min(mean)] if at <= min(mean) else threshold  # there from the first cycle
            dots.append((x.at(at), y.at(first), f"k{i + 1}"))
    legend.append(("level", f"{threshold:g}"))
    return _over_training(inputs, x, y, dict.fromkeys(steps, 0.0), lines, dots, legend)


def _reached(mean: Places, threshold: float, *, rising: bool) -> bool:
    return any(v >= threshold if rising else v <= threshold for v in mean.values())


def _over_training(
    inputs: _Inputs,
    x: Axis,
    y: Axis,
    steps: Iterable[int],
    lines: list[FigureLine],
    dots: list[tuple[str, str, str]],
    legend: list[tuple[str, str]],
) -> Figure:
    placed = [(float(s), Tick(x.at(s), str(s))) for s in steps]
    ticks = _thinned(placed, x)
    return Figure(
        f"{inputs.contrast.metric} by cycle", "cycle", ticks, y.ticks(4), lines, dots, legend
    )


def _mean(curves: Mapping[int, Places]) -> Places:
    """The mean over the replicates that were measured at every cycle."""
    steps = sorted({step for curve in curves.values() for step in curve})
    # Where one that ends early leaves, the mean of all would jump.
    whole = [curve for curve in curves.values() if len(curve) == len(steps)]
    return {step: fmean(curve[step] for curve in whole) for step in steps} if whole else {}


def _points(x: Axis, y: Axis, curve: Places) -> list[tuple[str, str]]:
    return [(x.at(step), y.at(value)) for step, value in sorted(curve.items())]


def _best(
    verdict: Verdict, contrast: PlannedContrast, answer: Answer, level: float
) -> IntervalPlot | None:
    """The levels among which the best is sought."""
    arms = {row.arm: row for row in answer.arms if row.kind == "arm"}
    levels: list[tuple[str, dict[int, float]]] = []
    for part in contrast.parts:
        listed = [arms[arm].cells for arm in itertools.chain(*part.cells) if arm in arms]
        values = [cells[verdict.metric].values for cells in listed if verdict.metric in cells]
        whole = set.intersection(*(set(v) for v in values)) if values else set()
        levels.append((part.level, {r: fmean(v[r] for v in values) for r in sorted(whole)}))
    numbers = [v for _, own in levels for v in own.values()]
    if not numbers:
        return None
    axis = Axis.over(numbers, 0.08)
    places = sentences.decimals((max(numbers) - min(numbers)) / 20 or None, max(map(abs, numbers)))
    marks = []
    for name, own in levels:
        in_set = name in verdict.best
        mean = fmean(own.values()) if own else None
        tag = "may be the best" if in_set else "beaten"
        marks.append(
            row_mark(
                axis,
                name,
                sentences.number(mean, places),
                mean,
                None,
                None,
                list(own.values()),
                kind="arm" if in_set else "beaten",
                tag=tag,
                why="" if own else "no replicate has all of its arms",
            )
        )
    better = better_words(answer, verdict.metric)
    return IntervalPlot(verdict.metric, better, [PlotGroup("", marks)], axis.ticks(4))


def _more(
    verdict: Verdict, contrast: PlannedContrast, answer: Answer, level: float
) -> IntervalPlot | None:
    """The two effects that are compared, each by itself."""
    sides = list(zip((verdict.a, verdict.b), verdict.parts, strict=False))
    if len(sides) < 2:
        return None
    axis = Axis.over([0.0, *(v for _, p in sides for v in (p.difference, p.lo, p.hi))])
    marks = []
    for name, part in sides:
        width = (part.hi - part.lo) / 2 if part.hi is not None and part.lo is not None else None
        text = sentences.number(
            part.difference, sentences.decimals(width, part.difference or 0.0), signed=True
        )
        marks.append(row_mark(axis, name, text, part.difference, part.lo, part.hi, why="no number"))
    title = f"Each by itself, at {sentences.percent(level)}"
    return IntervalPlot(verdict.metric, "", [PlotGroup(title, marks)], axis.ticks(4), axis.at(0.0))


@dataclass(frozen=True)
class _Drawn:
    """What is drawn of a kind beside its interval."""

    figure: Callable[[_Inputs], Figure | None] | None = None
    rows: Callable[[Verdict, PlannedContrast, Answer, float], IntervalPlot | None] | None = None


_DRAWN: Mapping[ContrastKind, _Drawn] = {
    "trend": _Drawn(figure=_trend),
    "interaction": _Drawn(figure=_interaction),
    "more": _Drawn(rows=_more),
    "best": _Drawn(rows=_best),
    "collapse": _Drawn(figure=_collapse),
    "sooner": _Drawn(figure=_sooner),
}
"""Kinds with more than their interval to draw."""


def figure(
    verdict: Verdict, contrast: PlannedContrast, answer: Answer, plan: Plan, observed: Observed
) -> Figure | None:
    """The chart of a trend, an interaction, a collapse or what is sooner; None where none fits."""
    made = _DRAWN.get(verdict.kind, _Drawn()).figure
    rows = {row.arm: row for row in answer.arms if row.kind == "arm"}
    better = answer.metrics.get(verdict.metric, {}).get("higher_is_better")
    higher = None if better is None else bool(better)
    inputs = _Inputs(verdict, contrast, rows, plan, observed, higher)
    return made(inputs) if made else None


def rows(
    verdict: Verdict, contrast: PlannedContrast, answer: Answer, level: float
) -> IntervalPlot | None:
    """The levels among which the best is sought, or the two effects that are compared."""
    made = _DRAWN.get(verdict.kind, _Drawn()).rows
    return made(verdict, contrast, answer, level) if made else None
