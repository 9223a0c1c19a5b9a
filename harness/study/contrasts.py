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
from dataclasses import dataclass
from typing import Any

from harness.study.arms import Combination, Layout, baseline_of, named_levels
from harness.study.fractions import (
    Factors,
    estimate,
    estimate_interaction,
    estimate_side,
)
from harness.study.kinds import ContrastKind
from harness.study.model import Contrast, Study
from harness.study.planned_contrast import ContrastPart, PlannedContrast
from harness.study.resolver import nested
from harness.study.scores import scores_of, unit_of

MOST_PAIRS = 500


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


def match(study: Study, layout: Layout, contrast: Contrast) -> PlannedContrast:
    """Resolve a checked contrast to its arms: to pairs, or to the parts of its kind."""
    cells = Cells(study, layout, contrast)
    return _KINDS[contrast.kind].arms(study, cells, contrast)


def _difference(study: Study, cells: Cells, contrast: Contrast) -> PlannedContrast:
    """Pairs of arms; in a fraction none of whose cells holds both sides, least squares."""
    a, b = sides(study, contrast)
    found: tuple[dict[tuple[str, ...], str], dict[tuple[str, ...], str]] = ({}, {})
    for combination, arm in cells.planned:
        # Under design zip no cell holds both sides unless the contrast names every factor: to name
        # one alone would hide that the others changed, too.
        cell = tuple(label for factor, label in combination.items() if factor not in a)
        for side, arms in zip((a, b), found, strict=True):
            if all(combination[factor] == label for factor, label in side.items()):
                arms[cell] = arm
    arms_a, arms_b = found
    if cells.fraction and not arms_a.keys() & arms_b.keys():
        least = estimate(cells.arms, cells.factors, a, b, cells.pins)
        if least is None:
            return cells.resolved()
        return cells.resolved(
            weights=least.weights, aliases=least.aliases, fitted=len(least.weights)
        )
    both = [cell for cell in arms_a if cell in arms_b]
    alone = [arms_a[c] for c in arms_a if c not in arms_b]
    alone += [arms_b[c] for c in arms_b if c not in arms_a]
    return cells.resolved(
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


class Cells:
    """The planned combinations of a study at the levels that a contrast's `at` pins."""

    def __init__(self, study: Study, layout: Layout, contrast: Contrast) -> None:
        pins = named_levels(study, contrast.at)
        self.contrast = contrast
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

    def resolved(
        self, parts: Sequence[ContrastPart] = (), unmatched: Sequence[str] = (), **others: Any
    ) -> PlannedContrast:
        """The contrast with arms among these, or with none."""
        return PlannedContrast.of(
            self.contrast, parts=list(parts), unmatched=list(unmatched), **others
        )

    def present(self, factor: str, labels: Iterable[str]) -> list[str]:
        """Those of a factor's levels that some planned arm has."""
        there = {combination[factor] for combination, _ in self.planned}
        return [label for label in labels if label in there]

    def parted(
        self, rows: Sequence[Combination], parts: Sequence[tuple[str, str, Sequence[float]]]
    ) -> PlannedContrast:
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
        return self.resolved(made if kept else [], list(dict.fromkeys(lone)), same=same)

    def along(
        self, factor: str, labels: Sequence[str], parts: Sequence[tuple[str, str, Sequence[float]]]
    ) -> PlannedContrast:
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
        return self.resolved(made if len(set(itertools.chain(*arms.values()))) > 1 else [])


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


def _trend(study: Study, cells: Cells, contrast: Contrast) -> PlannedContrast:
    """Slope, curvature and neighbours over the levels that are planned, at least three."""
    factor = contrast.trend
    scores = scores_of(study.factors[factor], study.levels()[factor])
    labels = cells.present(factor, scores)
    if len(labels) < 3:
        return cells.resolved()
    values = [scores[label] for label in labels]
    parts: list[tuple[str, str, Sequence[float]]] = [("slope", "", slope_weights(values))]
    bent = quadratic_weights(values)
    parts += [("quadratic", "", bent)] if bent else []
    for n, (low, high) in enumerate(itertools.pairwise(labels)):
        step = [0.0] * n + [-1.0, 1.0] + [0.0] * (len(labels) - n - 2)
        parts.append(("neighbour", f"{low} to {high}", step))
    return cells.along(factor, labels, parts)


def _interaction(study: Study, cells: Cells, contrast: Contrast) -> PlannedContrast:
    """Corners +1 -1 -1 +1, or slope by slope."""
    f, g = (steps_of(study, contrast, name) for name in contrast.interaction)
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
    part = ContrastPart(name="", cells=[weights])
    return cells.resolved([part], aliases=aliases, fitted=len(weights))


def _negative(alias: str) -> str:
    return alias[1:] if alias.startswith("-") else f"-{alias}"


def _more(study: Study, cells: Cells, contrast: Contrast) -> PlannedContrast:
    """Each factor's effect between its two ends: a difference, or a slope times their distance."""
    found, aliases, fitted = [], [], 0
    both = [steps_of(study, contrast, name) for name in contrast.more]
    for name, steps in zip(("first", "second"), both, strict=True):
        rows = [{steps.factor: label} for label in steps.weights]
        weights = [w * (steps.span if len(rows) > 2 else 1.0) for w in steps.weights.values()]
        made = cells.parted(rows, [(name, "", weights)])
        if not made.parts and cells.fraction:
            low, high = ({steps.factor: label} for label in steps.ends)
            least = estimate(cells.arms, cells.factors, high, low, cells.pins)
            if least is not None:
                part = ContrastPart(name=name, cells=[least.weights])
                made = cells.resolved([part], made.unmatched, same=made.same)
                aliases += [alias for alias in least.aliases if alias not in aliases]
                fitted = max(fitted, len(least.weights))
        found.append(made)
    return cells.resolved(
        [part for made in found for part in made.parts] if all(m.parts for m in found) else [],
        list(dict.fromkeys(arm for made in found for arm in made.unmatched)),
        same=list(dict.fromkeys(arm for made in found for arm in made.same)),
        aliases=aliases,
        fitted=fitted,
    )


def _best(study: Study, cells: Cells, contrast: Contrast) -> PlannedContrast:
    """One part a level, over the levels that are planned, at least two."""
    factor = contrast.best
    labels = cells.present(factor, study.levels()[factor])
    if len(labels) < 2:
        return cells.resolved()
    units = [
        ("level", label, [1.0 if n == m else 0.0 for m in range(len(labels))])
        for n, label in enumerate(labels)
    ]
    found = cells.along(factor, labels, units)
    return _means(found, cells, {("level", label): {factor: label} for label in labels})


def _collapse(study: Study, cells: Cells, contrast: Contrast) -> PlannedContrast:
    """The arm, in every cell that has it."""
    return cells.parted([named_levels(study, contrast.collapse)], [("arm", "", [1.0])])


def _sooner(study: Study, cells: Cells, contrast: Contrast) -> PlannedContrast:
    """One part a side, with the baseline where one leaves a factor open."""
    a, b = sides(study, contrast)
    found = cells.parted([a, b], [("a", "", [1.0, 0.0]), ("b", "", [0.0, 1.0])])
    return _means(found, cells, {("a", ""): a, ("b", ""): b})


def _means(
    found: PlannedContrast, cells: Cells, sides: Mapping[tuple[str, str], Combination]
) -> PlannedContrast:
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
    aliases = whole.aliases if whole else []
    return cells.resolved(parts, aliases=aliases, fitted=len(parts[0].cells[0]))


SHOWN = 8
"""Levels and cycles shown before the rest is only counted."""


def asked_in_words(study: Study, contrast: Contrast) -> str:
    """E.g. `slope over edit_share 0, 0.1, 0.5, per unit of edit_share`; empty for sides.

    Args:
        study: the study, checked.
        contrast: one of its contrasts.
    """
    asked = _KINDS[contrast.kind].asked
    if asked is None:
        return ""
    phrase = asked(study, contrast)
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


def _asked_collapse(study: Study, contrast: Contrast) -> str:
    arm = _levels(named_levels(study, contrast.collapse))
    cycles = [str(cycle) for cycle in sorted(set(study.measure_at))]
    along = f"cycles {_listed(cycles)}" if cycles else "the measured cycles"
    return f"whether {arm} loses more than {contrast.margin:g} along {along}"


def _asked_sooner(study: Study, contrast: Contrast) -> str:
    given = contrast.sooner
    assert given is not None, "checked"
    a, b = (_levels(named_levels(study, side)) for side in contrast.sides)
    does = "loses" if given.falls else "reaches"
    return f"which {does} {given.threshold:g} sooner, {a} or {b or 'the baseline'}"


@dataclass(frozen=True)
class _ResolvedKind:
    """What a kind of contrast is in a design."""

    arms: Callable[[Study, Cells, Contrast], PlannedContrast]
    """Finds its arms."""
    asked: Callable[[Study, Contrast], str] | None = None
    """Says what it asks; None: its sides say it."""


_KINDS: dict[ContrastKind, _ResolvedKind] = {
    "difference": _ResolvedKind(_difference),
    "trend": _ResolvedKind(_trend, _asked_trend),
    "interaction": _ResolvedKind(_interaction, _asked_interaction),
    "more": _ResolvedKind(_more, _asked_more),
    "best": _ResolvedKind(_best, _asked_best),
    "collapse": _ResolvedKind(_collapse, _asked_collapse),
    "sooner": _ResolvedKind(_sooner, _asked_sooner),
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
