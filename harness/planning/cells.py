"""The parts of a contrast that is no plain difference: weighted sums of arms in matched cells.

A cell is one combination of all factors that the contrast does not name. Only cells in which every
arm is planned count; the arms of the others are listed. Where a fraction has no whole cell, parts
are estimated by least squares. Under design zip a factor cannot be changed alone: a cell is then
all rows, and what else advances is told.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.design import Layout, baseline_of, named_levels
from harness.planning.enumeration import Combination
from harness.planning.least_squares import (
    Factors,
    estimate,
    estimate_interaction,
    estimate_side,
)
from harness.planning.planned import ContrastPart
from harness.study import Contrast, Study
from harness.study_file.scores import scores_of

FLAT = 1e-12
"""Share of curvature below which scores are on a line: two of three are as good as one."""


@dataclass(frozen=True)
class Resolved:
    """What a contrast's kind compares."""

    parts: list[ContrastPart] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    """Arms with the levels it names, in cells that lack another arm; dropped."""
    same: list[str] = field(default_factory=list)
    """Arms that are the whole of a cell: all its combinations resolve to one recipe."""
    aliases: list[str] = field(default_factory=list)
    fitted: int = 0
    """Arms of a least-squares estimate; 0 where cells were matched."""


@dataclass(frozen=True)
class Steps:
    """A factor's levels with the weights of what is asked of it."""

    factor: str
    weights: dict[str, float]
    """Label -> weight: -1 and +1, or those of a slope per unit of score."""
    span: float = 1.0
    """Units between its two ends."""

    @property
    def ends(self) -> tuple[str, str]:
        """Labels of its lowest and its highest level."""
        labels = list(self.weights)
        return labels[0], labels[-1]


def resolve(
    study: Study,
    layout: Layout,
    contrast: Contrast,
    sides: Callable[[], tuple[Combination, Combination]],
) -> Resolved:
    """Resolve a checked contrast of another kind than `difference` to its parts.

    Args:
        study: the study.
        layout: its arms.
        contrast: the contrast.
        sides: both sides of `sooner`, with the baseline where one leaves a factor open.
    """
    cells = Cells(study, layout, named_levels(study, contrast.at))
    if contrast.kind == "trend":
        return _trend(study, cells, contrast.trend)
    if contrast.kind == "interaction":
        f, g = (steps_of(study, contrast, name) for name in contrast.interaction)
        return _interaction(cells, f, g)
    if contrast.kind == "more":
        return _more(cells, [steps_of(study, contrast, name) for name in contrast.more])
    if contrast.kind == "best":
        return _best(study, cells, contrast.best)
    if contrast.kind == "collapse":
        rows = [named_levels(study, contrast.collapse)]
        return cells.parted(rows, [("arm", "", [1.0])])
    a, b = sides()
    found = cells.parted([a, b], [("a", "", [1.0, 0.0]), ("b", "", [0.0, 1.0])])
    return _means(found, cells, {("a", ""): a, ("b", ""): b})


class Cells:
    """The planned combinations of a study at the levels that `at` pins."""

    def __init__(self, study: Study, layout: Layout, pins: Combination) -> None:
        self.arms = layout.arms
        self.pins = pins
        self.factors: Factors = {f: list(own) for f, own in study.levels().items()}
        self.fraction = study.design == "fractional"
        self.zipped = study.design == "zip"
        self.planned = [
            (combination, arm)
            for combination, arm in layout.cells
            if all(combination[f] == label for f, label in pins.items())
        ]

    def present(self, factor: str, labels: Iterable[str]) -> list[str]:
        """Those of a factor's levels that some planned arm has."""
        there = {combination[factor] for combination, _ in self.planned}
        return [label for label in labels if label in there]

    def parted(
        self, rows: Sequence[Combination], parts: Sequence[tuple[str, str, Sequence[float]]]
    ) -> Resolved:
        """Match `rows`, combinations of the same factors, cell by cell.

        Args:
            rows: factor -> label each.
            parts: name, level and a weight for each row.
        """
        named = list(rows[0]) if rows else []
        place = {tuple(row[f] for f in named): n for n, row in enumerate(rows)}
        found: dict[tuple[str, ...], dict[int, str]] = {}
        for combination, arm in self.planned:
            number = place.get(tuple(combination[f] for f in named))
            if number is not None:
                cell = tuple(v for f, v in combination.items() if f not in named)
                found.setdefault(cell, {})[number] = arm
        whole = [cell for cell in found.values() if len(cell) == len(rows)]
        lone = [arm for cell in found.values() if len(cell) < len(rows) for arm in cell.values()]
        same = [c[0] for c in whole if len(rows) > 1 and len(set(c.values())) == 1]
        kept = [c for c in whole if len(rows) == 1 or len(set(c.values())) > 1]
        made = [
            ContrastPart(name=name, level=level, cells=[summed(cell, weights) for cell in kept])
            for name, level, weights in parts
        ]
        return Resolved(made if kept else [], list(dict.fromkeys(lone)), same)

    def along(
        self, factor: str, labels: Sequence[str], parts: Sequence[tuple[str, str, Sequence[float]]]
    ) -> Resolved:
        """As `parted` over one factor's levels; under design zip all rows are one cell."""
        if not self.zipped:
            return self.parted([{factor: label} for label in labels], parts)
        arms = {
            label: list(dict.fromkeys(a for c, a in self.planned if c[factor] == label))
            for label in labels
        }
        made = []
        for name, level, weights in parts:
            cell: dict[str, float] = {}
            for label, weight in zip(labels, weights, strict=True):
                for arm in arms[label] if weight else ():
                    cell[arm] = cell.get(arm, 0.0) + weight / len(arms[label])
            made.append(ContrastPart(name=name, level=level, cells=[cell]))
        return Resolved(made if len(set(itertools.chain(*arms.values()))) > 1 else [])


def summed(cell: Mapping[int, str], weights: Sequence[float]) -> dict[str, float]:
    """Arm -> weight of one cell; rows that are the same recipe count together."""
    found: dict[str, float] = {}
    for number, arm in sorted(cell.items()):
        found[arm] = found.get(arm, 0.0) + weights[number]
    return {arm: weight for arm, weight in found.items() if weight}


def steps_of(study: Study, contrast: Contrast, factor: str) -> Steps:
    """What a factor of `interaction` or `more` is: two levels, the higher one +1, or a slope.

    Of two levels that are not ordered, the higher is the one that is not the baseline's, so that
    the order they are listed in says nothing; without a baseline, the second.
    """
    levels = study.levels()[factor]
    picked = contrast.levels.get(factor)
    scores = scores_of(study.factors[factor], levels)
    if picked:
        low, high = (named_levels(study, {factor: value})[factor] for value in picked)
    elif len(levels) > 2:
        labels = list(scores)
        slope = slope_weights(list(scores.values()))
        span = scores[labels[-1]] - scores[labels[0]]
        return Steps(factor, dict(zip(labels, slope, strict=True)), span)
    else:
        low, high = scores or levels
        start = (baseline_of(study) or {}).get(factor)
        if not scores and start == high:
            low, high = high, low
    return Steps(factor, {low: -1.0, high: 1.0})


def slope_weights(scores: Sequence[float]) -> list[float]:
    """Weights of the least-squares slope per unit of score: centred scores over their squares."""
    centred, span = _centred(scores)
    squares = math.fsum(z * z for z in centred)
    return [z / squares / span for z in centred]


def quadratic_weights(scores: Sequence[float]) -> list[float] | None:
    """Weights of the coefficient of score squared, next to a line; None where there is none."""
    centred, span = _centred(scores)
    squares = math.fsum(z * z for z in centred)
    tilt = math.fsum(z**3 for z in centred) / squares
    bent = [z * z - squares / len(centred) - tilt * z for z in centred]
    size = math.fsum(q * q for q in bent)
    if size < FLAT or not math.isfinite(1 / size / span / span):
        return None
    return [q / size / span / span for q in bent]


def _centred(scores: Sequence[float]) -> tuple[list[float], float]:
    """Scores less their mean, in units of their range; the range."""
    span = max(scores) - min(scores)
    scaled = [(score - min(scores)) / span for score in scores]
    mean = math.fsum(scaled) / len(scaled)
    return [z - mean for z in scaled], span


def _trend(study: Study, cells: Cells, factor: str) -> Resolved:
    """Slope, curvature and neighbours over the levels that are planned, at least three."""
    scores = scores_of(study.factors[factor], study.levels()[factor])
    labels = cells.present(factor, scores)
    if len(labels) < 3:
        return Resolved()
    values = [scores[label] for label in labels]
    parts: list[tuple[str, str, Sequence[float]]] = [("slope", "", slope_weights(values))]
    bent = quadratic_weights(values)
    parts += [("quadratic", "", bent)] if bent else []
    for n, (low, high) in enumerate(itertools.pairwise(labels)):
        step = [0.0] * n + [-1.0, 1.0] + [0.0] * (len(labels) - n - 2)
        parts.append(("neighbour", f"{low} to {high}", step))
    return cells.along(factor, labels, parts)


def _interaction(cells: Cells, f: Steps, g: Steps) -> Resolved:
    """Corners +1 -1 -1 +1, or slope by slope."""
    corners = list(itertools.product(f.weights.items(), g.weights.items()))
    rows = [{f.factor: one, g.factor: two} for (one, _), (two, _) in corners]
    found = cells.parted(rows, [("", "", [v * w for (_, v), (_, w) in corners])])
    if found.parts or not cells.fraction:
        return found
    made = estimate_interaction(cells.arms, cells.factors, (f.factor, g.factor), cells.pins)
    if made is None:
        return found
    # Coded by the order of the file; turned to what is the higher level of each factor here.
    turned = [steps.ends[0] != cells.factors[steps.factor][0] for steps in (f, g)]
    sign = -1.0 if turned[0] != turned[1] else 1.0
    weights = {arm: sign * weight for arm, weight in made.weights.items()}
    aliases = made.aliases if sign > 0 else [_negative(alias) for alias in made.aliases]
    return Resolved([ContrastPart(name="", cells=[weights])], aliases=aliases, fitted=len(weights))


def _negative(alias: str) -> str:
    return alias[1:] if alias.startswith("-") else f"-{alias}"


def _more(cells: Cells, both: Sequence[Steps]) -> Resolved:
    """Each factor's effect between its two ends: a difference, or a slope times their distance."""
    found, aliases, fitted = [], [], 0
    for name, steps in zip(("first", "second"), both, strict=True):
        rows = [{steps.factor: label} for label in steps.weights]
        weights = [w * (steps.span if len(rows) > 2 else 1.0) for w in steps.weights.values()]
        made = cells.parted(rows, [(name, "", weights)])
        if not made.parts and cells.fraction:
            low, high = ({steps.factor: label} for label in steps.ends)
            least = estimate(cells.arms, cells.factors, high, low, cells.pins)
            if least is not None:
                part = ContrastPart(name=name, cells=[least.weights])
                made = Resolved([part], made.unmatched, made.same)
                aliases += [alias for alias in least.aliases if alias not in aliases]
                fitted = max(fitted, len(least.weights))
        found.append(made)
    return Resolved(
        [part for made in found for part in made.parts] if all(m.parts for m in found) else [],
        list(dict.fromkeys(arm for made in found for arm in made.unmatched)),
        list(dict.fromkeys(arm for made in found for arm in made.same)),
        aliases,
        fitted,
    )


def _best(study: Study, cells: Cells, factor: str) -> Resolved:
    """One part a level, over the levels that are planned, at least two."""
    labels = cells.present(factor, study.levels()[factor])
    if len(labels) < 2:
        return Resolved()
    units = [
        ("level", label, [1.0 if n == m else 0.0 for m in range(len(labels))])
        for n, label in enumerate(labels)
    ]
    found = cells.along(factor, labels, units)
    return _means(found, cells, {("level", label): {factor: label} for label in labels})


def _means(found: Resolved, cells: Cells, sides: Mapping[tuple[str, str], Combination]) -> Resolved:
    """In a fraction none of whose cells is whole: the means of two sides by least squares."""
    if found.parts or not cells.fraction:
        return found
    a, b = sides.values()
    whole = estimate(cells.arms, cells.factors, a, b, cells.pins)
    parts = []
    for (name, level), side in sides.items():
        mean = estimate_side(cells.arms, cells.factors, side, cells.pins)
        if mean is None or whole is None:
            return found
        parts.append(ContrastPart(name=name, level=level, cells=[mean.weights]))
    return Resolved(parts, aliases=whole.aliases if whole else [], fitted=len(parts[0].cells[0]))
