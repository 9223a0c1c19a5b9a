"""Main effects and two-way interactions as weights over arms, matched or by least squares.

A cell is one combination of the levels of all *other* factors. Only cells in which every compared
level has an arm count, so a factor's effect never borrows from another factor's.

In a fraction of a two-level design no cell holds two arms that differ in one factor only, so
matching finds nothing: there effects are fitted by least squares, each with what it is confounded
with.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.journal.trial import Arm
from harness.planning.plan import Confounded
from harness.study.fractions import estimate
from harness.study.planned_contrast import weights_of

Factors = Mapping[str, Sequence[str]]
"""Factor to its level labels, in order."""
Weights = dict[str, float]


@dataclass(frozen=True)
class LevelContrast:
    """One level of a factor against its reference level, over matched cells."""

    factor: str
    level: str
    reference: str
    pairs: tuple[tuple[str, str], ...]
    weights: Weights = field(default_factory=dict)
    """Arm to weight where it is estimated by least squares, in a fraction."""
    aliases: tuple[str, ...] = ()

    def cells(self) -> list[Weights]:
        """Arm to weight, a matched cell each."""
        return [self.weights] if self.weights else [{a: 1.0, b: -1.0} for a, b in self.pairs]

    def arm_weights(self) -> Weights:
        """Arm to weight of the difference."""
        return dict(self.weights) or weights_of(self.pairs)


@dataclass(frozen=True)
class InteractionContrast:
    """Does changing two factors together do more than the sum of the single changes?"""

    factors: tuple[str, str]
    levels: tuple[str, str]
    references: tuple[str, str]
    cells: tuple[Weights, ...]
    """Arm to weight, a matched cell each."""
    aliases: tuple[str, ...] = ()
    """Interactions it cannot be told from, in a fraction."""


def cells(arms: Sequence[Arm], varied: Sequence[str]) -> list[dict[tuple[str, ...], str]]:
    """Groups of arms that agree on all factors but the varied ones: varied levels to arm name.

    Arms that do not have the varied factors among their levels are left out.
    """
    groups: dict[tuple[tuple[str, str], ...], dict[tuple[str, ...], str]] = {}
    for arm in arms:
        if not all(f in arm.levels for f in varied):
            continue
        others = tuple(sorted((f, v) for f, v in arm.levels.items() if f not in varied))
        groups.setdefault(others, {})[tuple(arm.levels[f] for f in varied)] = arm.name
    return list(groups.values())


def reference_levels(arms: Sequence[Arm], factors: Factors) -> dict[str, str]:
    """The level each factor is compared with: the baseline arm's, else the first one declared."""
    baseline = next((a.levels for a in arms if a.baseline), {})
    return {f: baseline.get(f, levels[0]) for f, levels in factors.items() if levels}


MOST_LEVELS = 8
"""Levels of a factor up to which every pair of them is compared, where all pairs are asked for."""


def level_contrasts(
    arms: Sequence[Arm], factors: Factors, *, every: bool = False
) -> list[LevelContrast]:
    """Every level against its factor's reference level, where a matched cell holds both.

    Args:
        arms: all arms.
        factors: factor to level labels.
        every: every pair of levels, of factors with at most `MOST_LEVELS`.
    """
    contrasts = []
    for factor, reference in reference_levels(arms, factors).items():
        groups = cells(arms, [factor])
        others = [level for level in factors[factor] if level != reference]
        compared = [(level, reference) for level in others]
        if every and len(factors[factor]) <= MOST_LEVELS:
            compared += [(two, one) for one, two in itertools.combinations(others, 2)]
        for level, other in compared:
            pairs = tuple(
                (group[(level,)], group[(other,)])
                for group in groups
                if (level,) in group and (other,) in group
            )
            if pairs:
                contrasts.append(LevelContrast(factor, level, other, pairs))
    return contrasts


def main_effects(arms: Sequence[Arm], factors: Factors) -> list[tuple[str, str, list[Weights]]]:
    """(factor, level, cells) of each level against the mean of the factor's levels.

    Only cells that hold every level count; a factor without such a cell, or with a single level,
    has no main effect.
    """
    effects = []
    for factor, levels in factors.items():
        full = [g for g in cells(arms, [factor]) if all((v,) in g for v in levels)]
        if not full or len(levels) < 2:
            continue
        for level in levels:
            weighted = []
            for group in full:
                weights: Weights = {}
                for other in levels:  # two levels may be one arm
                    arm = group[(other,)]
                    share = float(other == level) - 1.0 / len(levels)
                    weights[arm] = weights.get(arm, 0.0) + share
                weighted.append(weights)
            effects.append((factor, level, weighted))
    return effects


def interactions(arms: Sequence[Arm], factors: Factors) -> list[InteractionContrast]:
    """Differences of differences for every pair of factors and pair of non-reference levels."""
    reference = reference_levels(arms, factors)
    contrasts = []
    for f, g in itertools.combinations(reference, 2):
        groups = cells(arms, [f, g])
        for i, j in itertools.product(factors[f], factors[g]):
            if i == reference[f] or j == reference[g]:
                continue
            corners = ((i, j), (i, reference[g]), (reference[f], j), (reference[f], reference[g]))
            full = [group for group in groups if all(c in group for c in corners)]
            if not full:
                continue
            weighted = []
            for group in full:
                weights: Weights = {}
                for corner, sign in zip(corners, (1.0, -1.0, -1.0, 1.0), strict=True):
                    weights[group[corner]] = weights.get(group[corner], 0.0) + sign
                weighted.append(weights)
            contrasts.append(
                InteractionContrast((f, g), (i, j), (reference[f], reference[g]), tuple(weighted))
            )
    return contrasts


def fitted_level_contrasts(arms: Sequence[Arm], factors: Factors) -> list[LevelContrast]:
    """The second level of every factor against the reference level, where the arms determine it."""
    contrasts = []
    for factor, reference in reference_levels(arms, factors).items():
        for level in factors[factor]:
            if level == reference:
                continue
            fit = estimate(arms, factors, {factor: level}, {factor: reference})
            if fit is not None:
                contrasts.append(
                    LevelContrast(factor, level, reference, (), fit.weights, tuple(fit.aliases))
                )
    return contrasts


def fitted_main_effects(
    arms: Sequence[Arm], factors: Factors
) -> list[tuple[str, str, list[Weights], tuple[str, ...]]]:
    """(factor, level, cells, aliases) of each level against the mean of both."""
    effects = []
    for contrast in fitted_level_contrasts(arms, factors):
        for level, sign in ((contrast.reference, -0.5), (contrast.level, 0.5)):
            weights = {arm: sign * weight for arm, weight in contrast.weights.items()}
            effects.append((contrast.factor, level, [weights], contrast.aliases))
    names = list(factors)
    return sorted(effects, key=lambda e: (names.index(e[0]), list(factors[e[0]]).index(e[1])))


def fitted_interactions(
    arms: Sequence[Arm], factors: Factors, fraction: Confounded
) -> list[InteractionContrast]:
    """Interactions clear of main effects, one a confounded set; none where arms are missing."""
    if len(arms) < fraction.arms:
        return []
    reference = reference_levels(arms, factors)
    other = {f: next(v for v in own if v != reference[f]) for f, own in factors.items()}
    contrasts = []
    for effect, aliases in fraction.aliases.items():
        if "*" not in effect:
            continue
        f, g = effect.split("*")
        # x_f x_g has weight 4 / N in a difference of differences of a balanced fraction.
        weights = {
            arm.name: (4.0 if (arm.levels[f] == other[f]) == (arm.levels[g] == other[g]) else -4.0)
            / len(arms)
            for arm in arms
        }
        turned = _turned(aliases, factors, reference, effect)
        pair = InteractionContrast(
            (f, g), (other[f], other[g]), (reference[f], reference[g]), (weights,), turned
        )
        contrasts.append(pair)
    return contrasts


def _turned(
    aliases: Sequence[str], factors: Factors, reference: dict[str, str], effect: str
) -> tuple[str, ...]:
    """Signs of an alias table are of second against first levels; here, against the reference."""

    def sign(product: str) -> int:
        names = product.lstrip("-").split("*")
        odd = sum(reference[name] != factors[name][0] for name in names) % 2
        return -1 if odd else 1

    turned = []
    for alias in aliases:
        flipped = sign(alias) * sign(effect) < 0
        bare = alias.lstrip("-")
        turned.append(bare if alias.startswith("-") == flipped else f"-{bare}")
    return tuple(turned)
