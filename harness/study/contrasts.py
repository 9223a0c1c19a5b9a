"""A contrast resolved to arms: matched cell by cell on every factor that it does not name.

A difference is the mean over pairs of arms; other kinds are made of parts, each one weighted sum of
arms in matched cells.

A cell is one combination of all factors that the contrast does not name. Only cells in which every
arm is planned count; the arms of the others are listed. Where a fraction has no whole cell, parts
are estimated by least squares. Under design zip a factor cannot be changed alone: a cell is then
all rows, and what else advances is told.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from harness.frozen_model import FrozenModel
from harness.study.arms import Combination, Layout, baseline_of, named_levels
from harness.study.fractions import (
    Factors,
    LeastSquares,
    estimate,
    estimate_interaction,
    estimate_side,
)
from harness.study.model import Contrast, Study
from harness.study.resolver import nested
from harness.study.scores import scores_of, unit_of


class ContrastPart(FrozenModel):
    """One weighted sum of arms that a contrast is made of, in matched cells of equal weight."""

    name: str = Field(
        description="difference, interaction: empty. trend: slope, quadratic, neighbour. more: "
        "first, second. best: level. collapse: arm. sooner: a, b."
    )
    cells: list[dict[str, float]] = Field(
        description="Arm -> weight, one for each matched cell; cell by cell the same in all parts "
        "of a contrast, except for the two of `more`. Least squares: one cell."
    )
    level: str = Field("", description="Label of a part of `best`; both, of neighbours of a trend.")


def difference_of(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The cell of one less another, without arms that cancel."""
    found = dict(one)
    for arm, weight in other.items():
        found[arm] = found.get(arm, 0.0) - weight
    return {arm: weight for arm, weight in found.items() if weight}


def differences_of(
    one: Iterable[Mapping[str, float]], other: Iterable[Mapping[str, float]]
) -> list[dict[str, float]]:
    """Cell by cell one side less the other; without cells in which they are the same arms."""
    return [cell for a, b in zip(one, other, strict=True) if (cell := difference_of(a, b))]


def weights_of(pairs: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Weights over arms of the mean of (a - b) over matched pairs, without arms that cancel."""
    listed = list(pairs)
    found: dict[str, float] = {}
    for a, b in listed:
        found[a] = found.get(a, 0.0) + 1.0 / len(listed)
        found[b] = found.get(b, 0.0) - 1.0 / len(listed)
    return {arm: w for arm, w in found.items() if abs(w) > 1e-12}


def mean_of(cells: Sequence[dict[str, float]]) -> dict[str, float]:
    """Weights over arms of the mean over cells, without arms that cancel."""
    found: dict[str, float] = {}
    for cell in cells:
        for arm, weight in cell.items():
            found[arm] = found.get(arm, 0.0) + weight / len(cells)
    most = max((abs(w) for w in found.values()), default=0.0)
    # What is left of arms that cancel is rounding (thirds, sixths).
    return {arm: w for arm, w in found.items() if abs(w) > 1e-12 * most}


MOST_PAIRS = 500


@dataclass(frozen=True)
class Matched:
    """Pairs of arms, one a cell, all of equal weight."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    """Arms of one side whose cell lacks the other; dropped."""
    same: list[str] = field(default_factory=list)
    """Arms that are both sides of a cell: the two combinations resolve to one recipe."""
    estimated: LeastSquares | None = None
    """In a fraction none of whose cells holds both sides: the difference by least squares."""
    parts: list[ContrastPart] = field(default_factory=list)
    """Of other kinds than a difference: its weighted sums of arms."""
    aliases: list[str] = field(default_factory=list)
    """Of those kinds, what least squares cannot tell them from."""
    fitted: int = 0
    """Of those kinds, arms of a least-squares estimate; 0 where cells were matched."""

    @property
    def comparable(self) -> bool:
        """Whether the arms say anything about the contrast."""
        return bool(self.pairs or self.parts) or self.estimated is not None

    def compared(self) -> list[tuple[str, str]]:
        """Pairs of arms that differ in what the contrast is about."""
        if not self.parts or self.fitted:
            return self.pairs
        arms = [list(cell) for part in self.parts if part.name != "arm" for cell in part.cells]
        if self.parts[0].name in ("level", "a"):  # a cell's arms stand in different parts
            arms = [
                [arm for cell in cells for arm in cell]
                for cells in zip(*(part.cells for part in self.parts), strict=True)
            ]
        return list(dict.fromkeys((cell[0], arm) for cell in arms for arm in cell[1:]))


def sides(study: Study, contrast: Contrast) -> tuple[dict[str, str], dict[str, str]]:
    """Factor -> label of both sides. A factor only one side names is at the baseline on the other.

    Raises:
        KeyError: if a side leaves a factor open and the study has no baseline.
    """
    a, b = (named_levels(study, side) for side in contrast.sides)
    baseline = baseline_of(study) or {}
    full_a = a | {factor: baseline[factor] for factor in b if factor not in a}
    full_b = b | {factor: baseline[factor] for factor in a if factor not in b}
    return full_a, full_b


def match(study: Study, layout: Layout, contrast: Contrast) -> Matched:
    """Resolve a checked contrast to pairs of arms, or to the parts of its kind."""
    if contrast.kind != "difference":
        made = resolve(study, layout, contrast, lambda: sides(study, contrast))
        return Matched(
            parts=made.parts,
            unmatched=made.unmatched,
            same=made.same,
            aliases=made.aliases,
            fitted=made.fitted,
        )
    a, b = sides(study, contrast)
    pins = named_levels(study, contrast.at)
    found: tuple[dict[tuple[str, ...], str], dict[tuple[str, ...], str]] = ({}, {})
    for combination, arm in layout.cells:
        if any(combination[factor] != label for factor, label in pins.items()):
            continue
        # Under design zip no cell holds both sides unless the contrast names every factor: to name
        # one alone would hide that the others changed, too.
        cell = tuple(label for factor, label in combination.items() if factor not in a)
        for side, arms in zip((a, b), found, strict=True):
            if all(combination[factor] == label for factor, label in side.items()):
                arms[cell] = arm
    arms_a, arms_b = found
    if study.design == "fractional" and not arms_a.keys() & arms_b.keys():
        factors = {factor: list(levels) for factor, levels in study.levels().items()}
        return Matched(estimated=estimate(layout.arms, factors, a, b, pins))
    both = [cell for cell in arms_a if cell in arms_b]
    alone = [arms_a[c] for c in arms_a if c not in arms_b]
    alone += [arms_b[c] for c in arms_b if c not in arms_a]
    return Matched(
        pairs=[(arms_a[c], arms_b[c]) for c in both if arms_a[c] != arms_b[c]],
        unmatched=alone,
        same=[arms_a[c] for c in both if arms_a[c] == arms_b[c]],
    )


def undeclared(
    study: Study,
    contrast: Contrast,
    pairs: Sequence[tuple[str, str]],
    recipes: Mapping[str, Mapping[str, Any]],
    mixtures: Collection[str],
) -> list[str]:
    """A sentence where the recipes of matched arms differ in what no factor of the contrast sets.

    A recipe model may derive one field from another; then the difference has two causes. Only the
    first `MOST_PAIRS` pairs are compared: what a model derives, it derives everywhere.
    """
    levels = study.levels()
    sets = [
        path
        for factor in contrast.factors
        for level in levels[factor].values()
        for path in level.assignments
    ]
    # One share of a mixture moves the others.
    sets += [mixture for mixture in mixtures if any(nested(mixture, path) for path in sets)]
    found: dict[str, None] = {}
    for a, b in pairs[:MOST_PAIRS]:
        for path in _differing(recipes[a], recipes[b]):
            if not any(nested(path, own) for own in sets):
                found[path] = None
    if not found:
        return []
    shown = ", ".join(list(found)[:5]) + (", ..." if len(found) > 5 else "")
    return [f"the sides' recipes also differ in {shown}, which no factor of the contrast sets"]


def _differing(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted path of every part that differs."""
    for key in {**a, **b}:
        one, two = a.get(key), b.get(key)
        if one == two:
            continue
        path = f"{prefix}.{key}" if prefix else key
        if isinstance(one, Mapping) and isinstance(two, Mapping):
            yield from _differing(one, two, path)
        else:
            yield path


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
    # The square of the score less its mean and less its part along the line (Gram-Schmidt).
    tilt = math.fsum(z**3 for z in centred) / squares
    bent = [z * z - squares / len(centred) - tilt * z for z in centred]
    size = math.fsum(q * q for q in bent)
    if size < FLAT or not math.isfinite(1 / size / span / span):
        return None
    return [q / size / span / span for q in bent]


def _centred(scores: Sequence[float]) -> tuple[list[float], float]:
    """Scores less their mean, in units of their range; the range."""
    span = max(scores) - min(scores)
    # In units of the range, as scores may be as large as 1e100 and their cubes are summed.
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


SHOWN = 8
"""Levels and cycles shown before the rest is only counted."""


def asked_in_words(study: Study, contrast: Contrast) -> str:
    """E.g. `slope over edit_share 0, 0.1, 0.5, per unit of edit_share`; empty for sides.

    Args:
        study: the study, checked.
        contrast: one of its contrasts.
    """
    if contrast.kind == "difference":
        return ""
    phrase = _PHRASES[contrast.kind](study, contrast)
    pins = named_levels(study, contrast.at)
    return f"{phrase}, at {_levels(pins)}" if pins else phrase


def _asked_trend(study: Study, contrast: Contrast) -> str:
    name = contrast.trend
    factor = study.factors[name]
    labels = scores_of(factor, study.levels()[name])
    return f"slope over {name} {_listed(labels)}, per {unit_of(factor, name)}"


def _asked_interaction(study: Study, contrast: Contrast) -> str:
    """Of two levels each a difference of differences; of slopes their product."""
    one, other = (_range(study, contrast, name) for name in contrast.interaction)
    return f"whether {one} acts otherwise along {other}"


def _asked_more(study: Study, contrast: Contrast) -> str:
    one, other = (_range(study, contrast, name) for name in contrast.more)
    return f"whether {one} moves it more than {other}"


def _asked_best(study: Study, contrast: Contrast) -> str:
    labels = study.levels()[contrast.best]
    return f"which of {contrast.best} {_listed(labels)} is best"


def _collapse(study: Study, contrast: Contrast) -> str:
    arm = _levels(named_levels(study, contrast.collapse))
    cycles = [str(cycle) for cycle in sorted(set(study.measure_at))]
    along = f"cycles {_listed(cycles)}" if cycles else "the measured cycles"
    return f"whether {arm} loses more than {contrast.margin:g} along {along}"


def _sooner(study: Study, contrast: Contrast) -> str:
    given = contrast.sooner
    assert given is not None, "checked"
    a, b = (_levels(named_levels(study, side)) for side in contrast.sides)
    does = "loses" if given.falls else "reaches"
    return f"which {does} {given.threshold:g} sooner, {a} or {b or 'the baseline'}"


_PHRASES = {
    "trend": _asked_trend,
    "interaction": _asked_interaction,
    "more": _asked_more,
    "best": _asked_best,
    "collapse": _collapse,
    "sooner": _sooner,
}


def _range(study: Study, contrast: Contrast, factor: str) -> str:
    low, high = steps_of(study, contrast, factor).ends
    return f"{factor} ({low} to {high})"


def _levels(levels: Mapping[str, str]) -> str:
    return ", ".join(f"{factor}={label}" for factor, label in levels.items())


def _listed(labels: Iterable[str]) -> str:
    shown = list(labels)
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more
