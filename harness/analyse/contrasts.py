"""Contrasts over replicates: differences, interval and p, multiplicity, and the verdict rule.

The replicate is the unit of every claim about recipes. A contrast is a set of weights over arms;
its observation in a replicate is the weighted sum of that replicate's values (for a matched
contrast: the mean of a - b over matched cells). From `PAIRED_FROM` replicates the observations'
own spread decides (paired t); below that the residual variance of the additive arm x replicate
model, fitted to all arms of the study, stands in for it and brings its degrees of freedom.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.analyse.answer import VerdictName

PAIRED_FROM = 6
"""Fewest replicates whose own spread decides: the first n at which a sign-flip reaches 0.05."""
SIGN_FLIP_EXACT = 20
"""Up to this many replicates all sign flips are enumerated; above, 200,000 seeded draws."""
_SIGN_FLIP_DRAWS = 200_000
_EQUAL = 1e-12
"""Spread below this share of the values' size is rounding, not variation."""

Values = Mapping[str, Mapping[int, float]]
"""Arm to replicate to finite value, for one metric."""


@dataclass(frozen=True)
class Residual:
    """Residual variance of the additive arm x replicate model and its degrees of freedom."""

    variance: float
    df: int


@dataclass(frozen=True)
class Inference:
    """What the replicates say about one contrast. Interval and p are not adjusted for others."""

    n: int
    difference: float | None = None
    se: float | None = None
    df: int | None = None
    lo: float | None = None
    hi: float | None = None
    p: float | None = None
    p_sign_flip: float | None = None
    method: str = ""
    per_replicate: dict[int, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def observations(values: Values, weights: Mapping[str, float]) -> dict[int, float]:
    """Replicate to weighted sum, where every arm of the contrast has a value."""
    if not weights:
        return {}
    rows = [values.get(arm, {}) for arm in weights]
    complete = sorted(set.intersection(*(set(row) for row in rows)))
    return {
        r: math.fsum(w * row[r] for w, row in zip(weights.values(), rows, strict=True))
        for r in complete
    }


def residual(values: Values) -> Residual | None:
    """Residual variance of `y = arm + replicate + e` by least squares; None without freedom left.

    Arms are eliminated first, so the system solved has one row per replicate, however many arms
    there are; missing cells are allowed. Equals statsmodels' `ols("y ~ C(arm) + C(replicate)")`.
    """
    arms = [a for a in values if values[a]]
    replicates = sorted({r for a in arms for r in values[a]})
    if not arms:
        return None
    place = {r: j for j, r in enumerate(replicates)}
    mask = np.zeros((len(arms), len(replicates)))
    y = np.zeros_like(mask)
    for i, arm in enumerate(arms):
        for r, value in values[arm].items():
            mask[i, place[r]] = 1.0
            y[i, place[r]] = value
    count = mask.sum(axis=1, keepdims=True)
    centred = (y - (y * mask).sum(axis=1, keepdims=True) / count) * mask
    system = np.diag(mask.sum(axis=0)) - mask.T @ (mask / count)
    effect = np.linalg.pinv(system, hermitian=True) @ centred.sum(axis=0)
    left = centred - (effect[None, :] - (mask @ effect)[:, None] / count) * mask
    df = int(mask.sum()) - len(arms) - int(np.linalg.matrix_rank(system, hermitian=True))
    if df < 1:
        return None
    scale = float(np.abs(y).max())
    spread = float((left**2).sum()) / df
    return Residual(0.0 if spread <= (_EQUAL * scale) ** 2 else spread, df)


def infer(
    per_replicate: Mapping[int, float],
    weights: Mapping[str, float],
    pooled: Residual | None,
    level: float = 0.95,
    scale: float = 0.0,
) -> Inference:
    """Mean, interval and two-sided p of one contrast from its observations.

    Args:
        per_replicate: replicate to observation.
        weights: the contrast's weights over arms (needed with the pooled variance only).
        pooled: residual variance of the study's arms; used below `PAIRED_FROM` replicates.
        level: coverage of the interval.
        scale: size of the values behind the differences, to tell rounding from variation.
    """
    d = np.array([per_replicate[r] for r in sorted(per_replicate)])
    n = len(d)
    kept = {r: float(per_replicate[r]) for r in sorted(per_replicate)}
    if n == 0:
        return Inference(0, method="none", notes=("no replicate has both sides",))
    mean = float(d.mean())
    if n == 1:
        why = "one replicate: nothing says how much another would differ"
        return Inference(1, mean, method="none", per_replicate=kept, notes=(why,))
    spread = float(d.std(ddof=1))
    scale = max(scale, float(np.abs(d).max()))
    if spread <= _EQUAL * scale:
        spread = 0.0
    if n >= PAIRED_FROM:
        se, df, method = spread / math.sqrt(n), n - 1, f"paired t, {n - 1} df"
    elif pooled is None:
        why = "the arm x replicate model has no residual degrees of freedom"
        return Inference(n, mean, method="none", per_replicate=kept, notes=(why,))
    else:
        se = math.sqrt(pooled.variance * sum(w * w for w in weights.values()) / n)
        df, method = pooled.df, f"residual variance of arm x replicate (OLS), {pooled.df} df"
    notes: tuple[str, ...] = ()
    if se == 0.0:
        notes = ("the difference is the same in every replicate: no spread to judge it by",)
    lo, hi, p = _t_interval(mean if abs(mean) > _EQUAL * scale else 0.0, se, df, level)
    return Inference(n, mean, se, df, lo, hi, p, sign_flip(d), method, kept, notes)


def _t_interval(mean: float, se: float, df: int, level: float) -> tuple[float, float, float]:
    from scipy.special import stdtr, stdtrit

    if se == 0.0:
        return mean, mean, 1.0 if mean == 0.0 else 0.0
    half = float(stdtrit(df, 0.5 + level / 2)) * se
    return mean - half, mean + half, min(1.0, 2.0 * float(stdtr(df, -abs(mean) / se)))


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float] | None:
    """T interval of a mean over replicates; None below two values."""
    if len(values) < 2:
        return None
    array = np.asarray(values, dtype=float)
    se = float(array.std(ddof=1)) / math.sqrt(len(array))
    lo, hi, _ = _t_interval(float(array.mean()), se, len(array) - 1, level)
    return lo, hi


def sign_flip(differences: Sequence[float] | np.ndarray) -> float:
    """Two-sided p of the sign-flip test of a zero mean; exact up to `SIGN_FLIP_EXACT` values.

    Its smallest value is 2 / 2**n, so below six replicates it cannot reach 0.05.
    """
    d = np.asarray(differences, dtype=float)
    observed = abs(float(d.sum())) - 1e-9 * float(np.abs(d).sum())
    if len(d) <= SIGN_FLIP_EXACT:
        sums = d[:1].copy()  # the first sign is fixed: flipping all signs changes no absolute sum
        for value in d[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float((np.abs(sums) >= observed).mean())
    flips = np.random.default_rng(0).integers(0, 2, size=(_SIGN_FLIP_DRAWS, len(d)), dtype=np.int8)
    extreme = int((np.abs((2.0 * flips - 1.0) @ d) >= observed).sum())
    return (extreme + 1) / (_SIGN_FLIP_DRAWS + 1)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment; contrasts without a p stay None but count in the family."""
    order = sorted((v, i) for i, v in enumerate(p) if v is not None)
    out: list[float | None] = [None] * len(p)
    worst = 0.0
    for rank, (value, i) in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - rank) * value))
        out[i] = worst
    return out


def benjamini_hochberg(p: Sequence[float | None]) -> list[float | None]:
    """Benjamini-Hochberg's step-up adjustment over the tests that have a p."""
    order = sorted(((v, i) for i, v in enumerate(p) if v is not None), reverse=True)
    out: list[float | None] = [None] * len(p)
    best = 1.0
    for rank, (value, i) in enumerate(order):
        best = min(best, len(order) / (len(order) - rank) * value)
        out[i] = best
    return out


def decide(
    p_adjusted: float | None,
    lo: float | None,
    hi: float | None,
    *,
    margin: float | None,
    alpha: float,
    higher_is_better: bool | None,
) -> VerdictName:
    """The verdict table: adjusted p, and where the interval lies against the margin.

    | adjusted p | interval | verdict |
    |---|---|---|
    | < alpha | beyond +-margin | improves / harms |
    | any | inside +-margin | equivalent |
    | < alpha | straddles the margin | improves / harms (below margin) |
    | >= alpha | otherwise | undecided |

    Without a margin (None or 0) nothing is equivalent and every interval counts as beyond it. A
    metric without a better direction can be equivalent, but neither improves nor harms.
    """
    if p_adjusted is None or lo is None or hi is None:
        return "undecided"
    inside = bool(margin) and -(margin or 0.0) <= lo and hi <= (margin or 0.0)
    if inside:
        return "equivalent"
    if p_adjusted >= alpha or higher_is_better is None:
        return "undecided"
    better = ((lo + hi) > 0) == higher_is_better
    beyond = not margin or lo > margin or hi < -margin
    if beyond:
        return "improves" if better else "harms"
    return "improves (below margin)" if better else "harms (below margin)"
