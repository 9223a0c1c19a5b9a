"""How far a reproduced number may lie from the recorded one: noise of reruns, of replicates.

Both scales are exact under normal noise. With the same seeds, `y' - y` has variance `2 s^2`, where
`s` is the standard deviation of same-seed repetitions: the band is `y +- t sqrt(2) s`. With other
seeds, or where the same seeds lead elsewhere, `y'` is one more draw of the recipe: the prediction
interval of `m` further replicates' mean is `mean +- t s sqrt(1/n + 1/m)`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from pydantic import Field

from harness.frozen_model import FrozenModel

# Simulated over numbers judged together, Bonferroni's correction gives 2 to 6.5 % false alarms.
FALSE_RATE = 0.05
"""Chance that a true reproduction is called none, over all numbers judged together."""
FEWEST_REPLICATES = 3
"""With two, an interval is some 15 of their standard deviations to either side: it excludes
nothing, so nothing is judged by it."""


class Band(FrozenModel):
    """Where a new number should fall, and what that rests on."""

    low: float
    high: float
    sd: float = Field(ge=0, description="Standard deviation behind the band, in metric units.")
    df: int = Field(ge=1, description="Its degrees of freedom.")
    level: float = Field(gt=0, lt=1, description="Coverage.")

    @property
    def width(self) -> float:
        """Distance between the ends, in metric units."""
        return self.high - self.low

    def holds(self, value: float) -> bool:
        """Whether a new number lies in it."""
        return self.low <= value <= self.high


def coverage_for(numbers: int) -> float:
    """Coverage of each band so that `FALSE_RATE` holds for all `numbers` together (Bonferroni)."""
    return 1.0 - FALSE_RATE / max(1, numbers)


def rerun_band(recorded: float, groups: Sequence[Sequence[float]], coverage: float) -> Band | None:
    """Band of a same-seed repetition around a recorded number; None without two in any group.

    Args:
        recorded: the number repeated.
        groups: numbers that share recipe and seeds, a trial's own and its reruns'; their variance
            is pooled over the groups.
        coverage: in (0, 1).
    """
    repeated = [group for group in groups if len(group) > 1]
    df = sum(len(group) - 1 for group in repeated)
    if not df:
        return None
    squares = sum(statistics.variance(group) * (len(group) - 1) for group in repeated)
    sd = math.sqrt(squares / df)
    half = _t(df, coverage) * math.sqrt(2.0) * sd
    return Band(low=recorded - half, high=recorded + half, sd=sd, df=df, level=coverage)


def replicate_band(values: Sequence[float], coverage: float, further: int = 1) -> Band | None:
    """Prediction interval of the mean of further replicates; None below `FEWEST_REPLICATES`.

    Args:
        values: one number a recorded replicate of the same recipe.
        coverage: in (0, 1).
        further: how many new replicates the mean is over.
    """
    n = len(values)
    if n < FEWEST_REPLICATES:
        return None
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    half = _t(n - 1, coverage) * sd * math.sqrt(1.0 / n + 1.0 / further)
    return Band(low=mean - half, high=mean + half, sd=sd, df=n - 1, level=coverage)


def _t(df: int, coverage: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, 0.5 + coverage / 2))
