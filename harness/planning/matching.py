"""The two sides of a contrast, matched cell by cell on every factor that neither side names."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.design import Layout, baseline_of, named_levels
from harness.planning.least_squares import Estimated, estimate
from harness.study import Contrast, Study


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

    @property
    def comparable(self) -> bool:
        """Whether the arms say anything about the difference."""
        return bool(self.pairs) or self.estimated is not None


def sides(study: Study, contrast: Contrast) -> tuple[dict[str, str], dict[str, str]]:
    """Factor -> label of both sides. A factor only one side names is at the baseline on the other.

    Raises:
        KeyError: if a side leaves a factor open and the study has no baseline.
    """
    a, b = named_levels(study, contrast.a), named_levels(study, contrast.b)
    baseline = baseline_of(study) or {}
    full_a = a | {factor: baseline[factor] for factor in b if factor not in a}
    full_b = b | {factor: baseline[factor] for factor in a if factor not in b}
    return full_a, full_b


def match(study: Study, layout: Layout, contrast: Contrast) -> Matched:
    """Resolve a checked contrast to pairs of arms."""
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
