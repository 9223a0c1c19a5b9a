"""Effects in a fraction of a two-level design: least squares, each with what it is confounded with.

No cell of a fraction holds two arms that differ in one factor only, so matching finds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness.analyse.effects import (
    Factors,
    InteractionContrast,
    LevelContrast,
    Weights,
    reference_levels,
)
from harness.planning.least_squares import estimate
from harness.planning.planned import Confounded
from harness.trial import Arm


def level_contrasts(arms: Sequence[Arm], factors: Factors) -> list[LevelContrast]:
    """The second level of every factor against the reference level, where the arms determine it."""
    found = []
    for factor, reference in reference_levels(arms, factors).items():
        for level in factors[factor]:
            if level == reference:
                continue
            made = estimate(arms, factors, {factor: level}, {factor: reference})
            if made is not None:
                found.append(
                    LevelContrast(factor, level, reference, (), made.weights, tuple(made.aliases))
                )
    return found


def main_effects(
    arms: Sequence[Arm], factors: Factors
) -> list[tuple[str, str, list[Weights], tuple[str, ...]]]:
    """(factor, level, cells, aliases) of each level against the mean of both."""
    found = []
    for contrast in level_contrasts(arms, factors):
        for level, sign in ((contrast.reference, -0.5), (contrast.level, 0.5)):
            weights = {arm: sign * weight for arm, weight in contrast.weights.items()}
            found.append((contrast.factor, level, [weights], contrast.aliases))
    names = list(factors)
    return sorted(found, key=lambda e: (names.index(e[0]), list(factors[e[0]]).index(e[1])))


def interactions(
    arms: Sequence[Arm], factors: Factors, fraction: Confounded
) -> list[InteractionContrast]:
    """Interactions clear of main effects, one a confounded set; none where arms are missing."""
    if len(arms) < fraction.arms:
        return []
    reference = reference_levels(arms, factors)
    other = {f: next(v for v in own if v != reference[f]) for f, own in factors.items()}
    found = []
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
        found.append(pair)
    return found


def _turned(
    aliases: Sequence[str], factors: Factors, reference: dict[str, str], effect: str
) -> tuple[str, ...]:
    """Signs of an alias table are of second against first levels; here, against the reference."""

    def sign(product: str) -> int:
        names = product.lstrip("-").split("*")
        odd = sum(reference[name] != factors[name][0] for name in names) % 2
        return -1 if odd else 1

    found = []
    for alias in aliases:
        flipped = sign(alias) * sign(effect) < 0
        bare = alias.lstrip("-")
        found.append(bare if alias.startswith("-") == flipped else f"-{bare}")
    return tuple(found)
