"""A contrast resolved to arms, matched cell by cell on every factor that it does not name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.design import Layout, baseline_of, named_levels
from harness.planning.cells import resolve
from harness.planning.least_squares import Estimated, estimate
from harness.planning.planned import ContrastPart, PlannedContrast
from harness.study import Contrast, Study
from harness.study_file.resolve import nested

MOST_PAIRS = 500


@dataclass(frozen=True)
class Matched:
    """Pairs of arms, one a cell, all of equal weight."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    """Arms of one side whose cell lacks the other; dropped."""
    same: list[str] = field(default_factory=list)
    """Arms that are both sides of a cell: the two combinations resolve to one recipe."""
    estimated: Estimated | None = None
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


def bare(contrast: Contrast, matched: Matched, about: str = "") -> PlannedContrast:
    """The contrast with its arms, before anything is said of what it can detect."""
    least = matched.estimated
    return PlannedContrast(
        id=contrast.id,
        claim=contrast.claim,
        metric=contrast.metric,
        kind=contrast.kind,
        about=about,
        expect=contrast.expect,
        margin=contrast.margin,
        threshold=contrast.sooner.threshold if contrast.sooner else None,
        falls=contrast.sooner.falls if contrast.sooner else False,
        pairs=matched.pairs,
        parts=matched.parts,
        unmatched=matched.unmatched,
        weights=least.weights if least else {},
        aliases=least.aliases if least else matched.aliases,
        fitted=len(least.weights) if least else matched.fitted,
    )


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
