"""Exploratory comparisons: p adjusted by Benjamini and Hochberg, and intervals that agree with it.

Of m comparisons with R found at level alpha, the found ones get intervals at 1 - alpha R / m, which
keep the share of intervals that miss below alpha (Benjamini and Yekutieli 2005). The others get
1 - alpha (R + 1) / m, at which none of them excludes 0: an interval and its adjusted p never say
different things.
"""

from __future__ import annotations

from collections.abc import Sequence


def benjamini_hochberg(p: Sequence[float | None]) -> list[float | None]:
    """Benjamini-Hochberg's step-up adjustment over the tests that have a p."""
    order = sorted(((v, i) for i, v in enumerate(p) if v is not None), reverse=True)
    out: list[float | None] = [None] * len(p)
    best = 1.0
    for rank, (value, i) in enumerate(order):
        best = min(best, len(order) / (len(order) - rank) * value)
        out[i] = best
    return out


def error_rates(adjusted: Sequence[float | None], alpha: float) -> list[float]:
    """The error rate at which each comparison's interval is read."""
    tests = sum(v is not None for v in adjusted)
    found = sum(v is not None and v <= alpha for v in adjusted)
    if not tests:
        return [alpha] * len(adjusted)
    left = alpha * min(1.0, (found + 1) / tests)
    return [alpha * found / tests if v is not None and v <= alpha else left for v in adjusted]
