"""Student's t with any degrees of freedom: standard library only, Python 3.9 or later.

P(|T| > t) = I_x(df/2, 1/2) with x = df / (df + t^2), by the continued fraction of the incomplete
beta function (Abramowitz and Stegun 26.5.8, by Lentz's method). The inverse is Newton's method on
the logarithms of both, where the tail is concave: it comes to the root from every start.
"""

from __future__ import annotations

import math

FARTHEST = 1e150
"""A t beyond it is infinite: its square leaves the range of numbers."""
_MOST_TERMS = 20_000
_MOST_STEPS = 400
_RATIO = (1.0, -1 / 8, 1 / 128, 5 / 1024, -21 / 32768, -399 / 262144, 869 / 4194304)
"""Of gamma(a + 1/2) / gamma(a) / sqrt(a), by powers of 1 / a."""


def log_tail(t: float, df: float) -> float:
    """Log P(|T| > t)."""
    if t <= 0:
        return 0.0
    square, a = min(t, FARTHEST) ** 2, df / 2
    y = square / (df + square)
    front = -a * math.log1p(square / df) + math.log(y) / 2 - _log_beta(a)
    # The fraction converges fast on one side of the beta's mean; on the other, one minus the rest.
    if df / (df + square) < (a + 1) / (a + 2.5):
        return front + math.log(_fraction(a, 0.5, df / (df + square)) / a)
    return math.log1p(-math.exp(front) * _fraction(0.5, a, y) / 0.5)


def log_density(t: float, df: float) -> float:
    """Log of the density at t."""
    return -_log_beta(df / 2) - math.log(df) / 2 - (df + 1) / 2 * math.log1p(t * t / df)


def quantile(df: float, log_alpha: float) -> float:
    """The t with P(|T| > t) = alpha; infinite where it leaves the range of numbers."""
    if log_alpha >= 0:
        return 0.0
    place, most = 0.0, math.log(FARTHEST)
    for _ in range(_MOST_STEPS):
        t = math.exp(place)
        here = log_tail(t, df)
        if place >= most and here > log_alpha:
            return math.inf
        slope = 2 * math.exp(place + log_density(t, df) - here)
        moved = (here - log_alpha) / slope if slope > 0 else most
        place = min(most, place + moved)
        if abs(moved) <= 1e-14 * max(1.0, abs(place)):
            break
    return math.exp(place)


def _log_beta(a: float) -> float:
    """Log B(a, 1/2)."""
    if a < 100:
        return math.lgamma(a) + math.lgamma(0.5) - math.lgamma(a + 0.5)
    # The difference of two large lgammas would lose the digits that a small tail needs.
    ratio = math.fsum(part / a**power for power, part in enumerate(_RATIO))
    return math.log(math.pi) / 2 - math.log(a) / 2 - math.log(ratio)


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction, for x < (a + 1) / (a + b + 2)."""
    tiny = 1e-300
    c, d = 1.0, 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > tiny else tiny)
    found = d
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for part in (even, odd):
            d, c = 1.0 + part * d, 1.0 + part / c
            d, c = 1.0 / (d if abs(d) > tiny else tiny), (c if abs(c) > tiny else tiny)
            found *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return found
