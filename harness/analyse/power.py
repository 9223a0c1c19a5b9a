"""Power of the paired t test: what a contrast can detect, and how many replicates it needs.

The noncentral t distribution is integrated here, with `math` alone, because `plan` shows these
numbers in well under a second and importing numpy and scipy.special takes most of one. The tests
hold it against scipy's `nctdtr` and against simulation.
"""

from __future__ import annotations

import math
from functools import lru_cache

POWER = 0.8
MAX_REPLICATES = 1000
_PANELS = 240
_SQRT2 = math.sqrt(2.0)


def power(effect: float, n: int, alpha: float = 0.05, df: int | None = None) -> float:
    """Power of the two-sided paired t test.

    Args:
        effect: true mean of the paired differences over their standard deviation (d_z).
        n: replicates, at least 2.
        alpha: error rate of this one test, in (0, 1).
        df: degrees of freedom of the variance, where it is pooled; default n - 1.

    Returns:
        Probability in [alpha, 1] of p < alpha. The chance of the wrong sign is included, as in
        every table of this test.

    Raises:
        ValueError: if n < 2 or alpha is outside (0, 1).
    """
    if n < 2:
        raise ValueError(f"{n} replicate(s) have no paired t test; at least 2 are needed")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha {alpha} must lie strictly between 0 and 1")
    freedom = df or n - 1
    critical = _critical(freedom, alpha)
    shift = abs(effect) * math.sqrt(n)
    return _survival(critical, freedom, shift) + _survival(critical, freedom, -shift)


@lru_cache(maxsize=4096)
def detectable(n: int, alpha: float = 0.05, target: float = POWER, df: int | None = None) -> float:
    """Smallest d_z that n replicates find with the target power; `df` as for `power`.

    Raises:
        ValueError: as `power`.
    """
    high = 1.0
    while power(high, n, alpha, df) < target:
        high *= 2
    low = 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, n, alpha, df) < target else (low, middle)
    return high


def replicates_needed(effect: float, alpha: float = 0.05, target: float = POWER) -> int | None:
    """Fewest replicates that find d_z = `effect`; None if `MAX_REPLICATES` do not."""
    if effect <= 0 or power(effect, MAX_REPLICATES, alpha) < target:
        return None
    low, high = 1, MAX_REPLICATES  # `low` is not enough, `high` is
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(effect, middle, alpha) >= target else (middle, high)
    return high


def sign_flip_floor(n: int) -> float:
    """Smallest two-sided p that an exact sign-flip test of n differences can reach: 2 / 2^n."""
    return 1.0 if n < 1 else 2.0 / 2.0**n


@lru_cache(maxsize=4096)
def _critical(df: int, alpha: float) -> float:
    """The t with upper tail alpha / 2 under no effect."""
    high = 2.0
    while _survival(high, df, 0.0) > alpha / 2:
        high *= 2
    low = 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _survival(middle, df, 0.0) > alpha / 2 else (low, middle)
    return high


def _survival(t: float, df: int, shift: float) -> float:
    """P(T > t) of the noncentral t, for t >= 0.

    T > t exactly if Z + shift > t s with s = sqrt(chi2_df / df) independent of Z ~ N(0, 1), so the
    probability is the integral of Phi(shift - t s) over the density of s, here by Simpson's rule.
    """
    nodes = _density(df)
    return sum(weight * 0.5 * math.erfc((t * s - shift) / _SQRT2) for s, weight in nodes)


@lru_cache(maxsize=1024)
def _density(df: int) -> tuple[tuple[float, float], ...]:
    """Nodes and weights over the density of s = sqrt(chi2_df / df), in u = log s.

    Equal steps in u resolve both the long left tail at small df and the narrow peak at large df.
    """
    width = 9.0 / math.sqrt(2.0 * df)
    low = -max(width, 22.0 / df)
    high = math.log1p(width) if df > 2 else math.log(9.0)
    panels = 2 * _PANELS if df < 3 else _PANELS
    step = (high - low) / panels
    constant = math.log(2.0) + df / 2 * math.log(df / 2) - math.lgamma(df / 2)
    rows = []
    for i in range(panels + 1):
        u = low + i * step
        log_density = constant + df * u - df / 2 * math.exp(2 * u)
        simpson = 1 if i in (0, panels) else 4 if i % 2 else 2
        rows.append((math.exp(u), simpson * step / 3 * math.exp(log_density)))
    return tuple(rows)
