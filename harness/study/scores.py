"""Where the levels of an ordered factor stand: a number each, from how the factor is ordered."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.study.model import Level

if TYPE_CHECKING:
    from harness.study.model import Factor


MOST, LEAST = 1e100, 1e-100
"""Largest score, and smallest step between two, whose slopes a computer still tells from 0."""


class ScoresError(ValueError):
    """Levels that the declared order says no numbers for; `level` is the first of them."""

    def __init__(self, message: str, level: Level | None = None, number: int = 0) -> None:
        super().__init__(message)
        self.level = level
        self.number = number
        """Position of the level among all."""


def scores_of(factor: Factor, levels: Mapping[str, Level]) -> dict[str, float]:
    """Label -> score, ascending; empty for a factor that is not ordered.

    Raises:
        ScoresError: if the levels have no such scores.
    """
    order = factor.ordered
    if order is False:
        return {}
    if order == "rank":
        return {label: float(number) for number, label in enumerate(levels, start=1)}
    if order is True or order == "log":
        found = {label: _own(level, order) for label, level in levels.items()}
    else:
        found = _given(order.scores, levels)
    ascending = sorted(found.items(), key=lambda item: item[1])
    for (_, low), (label, high) in itertools.pairwise(ascending):
        if high - low < LEAST or max(abs(low), abs(high)) > MOST:
            number = list(levels).index(label)
            said = "is that of two levels" if high == low else f"is beside {low:g} out of bounds"
            raise ScoresError(f"score {high:g} {said}: no slope has it", levels[label], number)
    return dict(ascending)


def unit_of(factor: Factor, name: str) -> str:
    """What a slope over the factor is per: `unit of edit_share`, `doubling of guidance.scale`."""
    if factor.ordered == "log":
        return f"doubling of {name}"
    if factor.ordered == "rank":
        return f"step of {name}"
    return f"unit of {name}" if factor.ordered is True else f"unit of the scores of {name}"


def _own(level: Level, order: bool | str) -> float:
    """The level's own number, or its logarithm."""
    values = list(level.assignments.values())
    value = values[0] if len(values) == 1 else level.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        said = "log" if order == "log" else "true"
        raise ScoresError(
            f"`ordered: {said}` needs levels that are numbers, and {level.label!r} is none: write "
            "`ordered: rank` for the order listed, or `ordered: {scores: [...]}`",
            level,
        )
    if order is True:
        return float(value)
    if value <= 0:
        raise ScoresError(
            f"`ordered: log` needs levels above 0, given {value}: write `ordered: true`, "
            "`ordered: rank`, or `ordered: {scores: [...]}`",
            level,
        )
    return math.log2(value)


def _given(scores: list[float], levels: Mapping[str, Level]) -> dict[str, float]:
    if len(scores) != len(levels):
        raise ScoresError(f"{len(scores)} scores for {len(levels)} levels: give one for each")
    return dict(zip(levels, scores, strict=True))
