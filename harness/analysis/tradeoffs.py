"""Trade-offs: the Pareto front of two metrics, and whether learned metrics rank like the truth.

Membership probability is the share of draws in which no other arm is at least as good on both
metrics and better on one. A draw moves each arm's means by a multivariate t of its own: with n
replicates, x_r the two values of replicate r, g_r standard normal, u chi-squared with n - 1 df,

    mean + sum_r g_r (x_r - mean) / sqrt(n (n - 1)) / sqrt(u / (n - 1))

whose scale is the arm's covariance of the two metrics over n. Arms are drawn apart: with draws that
all arms share, the differences of two replicates lie on one line, which may miss the quadrant where
the other arm is better. Simulated: an arm truly dominated by half an SD on both axes is called on
the front (probability .95) in .08 of studies with 2 replicates and .04 with 3; by drawing the
replicates themselves again in .31 and .20; by shared draws in .19 and .09. What it costs: the arm
that dominates is called in .29 and .39 of them (.72 and .70 before).

**Agreement** with the metric that reads the truth. Spearman's rank correlation over arm means,
reference rows left out: they span a range that no recipe does, and would lift every correlation.
Signed by direction of good, so that +1 says "the arm that is better on one is better on the other",
for distances as well.

The arms are the sample. The interval is Fisher's z with the standard error of Bonett and Wright
(2000, Psychometrika 65):

    atanh(rho) +- z sqrt((1 + rho^2 / 2) / (n - 3))

It is approximate: arms are chosen, not drawn, and share seeds. Complete agreement, where z is
infinite, counts as half a swap of neighbours less, 1 - 6 / n(n^2 - 1). On simulated normal pairs a
95 % interval covers 94 to 100 % for 4 to 33 arms up to a true rho of 0.95, and 86 to 98 % at 0.99.
Below `FEWEST_ARMS` there is no interval and no claim; at four it is too wide for any.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist, fmean

import numpy as np
import numpy.typing as npt

from harness.analysis.inference import Values
from harness.analysis.model import Agreement, AgreementName, ParetoPoint
from harness.analysis.sentences import number
from harness.contract import MetricSpec

DRAWS = 2000
_MANY_ARMS = 500
# Enough to know a share to .025: sqrt(1/4 / 400).
_DRAWS_MANY = 400

Floats = npt.NDArray[np.float64]


def pick_metrics(specs: Mapping[str, MetricSpec], primary: str) -> tuple[str, str] | None:
    """The pair drawn as the trade-off: the primary metric (y) and another headline metric (x).

    The first headline metric of another family (the part before `/`) is preferred, because metrics
    of one family rarely trade off. None without two metrics that have a better direction.
    """
    usable = [
        m
        for m, spec in specs.items()
        if m != primary and spec.headline and spec.higher_is_better is not None
    ]
    if not usable or primary not in specs or specs[primary].higher_is_better is None:
        return None
    family = primary.split("/")[0]
    return next((m for m in usable if m.split("/")[0] != family), usable[0]), primary


def front(points: Floats) -> npt.NDArray[np.bool_]:
    """Members of the front of `points` (N, 2), larger being better; rows with NaN are none."""
    member = np.zeros(len(points), dtype=np.bool_)
    numbered = np.flatnonzero(~np.any(np.isnan(points), axis=1))
    # From the best x down, of equal x from the best y: on the front is who is the best of its x and
    # above everything before.
    order = numbered[np.lexsort((-points[numbered, 1], -points[numbered, 0]))]
    if not len(order):
        return member
    x, y = points[order].T
    starts = np.concatenate([[True], x[1:] != x[:-1]])
    group = np.cumsum(starts) - 1
    best = y[starts]  # of each distinct x, from the best x on
    before = np.concatenate([[-np.inf], np.maximum.accumulate(best)[:-1]])
    member[order] = (y == best[group]) & (best[group] > before[group])
    return member


def pareto(x: Values, y: Values, better: tuple[bool, bool], draws: int = 0) -> list[ParetoPoint]:
    """Points of all arms that have both metrics, with their membership of the front.

    Args:
        x: arm to replicate to value of the first metric.
        y: the same for the second.
        better: whether higher is better, for x and y.
        draws: of the parametric bootstrap; 0 picks a number by the number of arms. Seeded.
    """
    arms = [a for a in x if x[a] and y.get(a)]
    if not arms:
        return []
    replicates = sorted({r for a in arms for r in (*x[a], *y[a])})
    table = np.full((2, len(arms), len(replicates)), np.nan)
    for k, source in enumerate((x, y)):
        for i, arm in enumerate(arms):
            for j, r in enumerate(replicates):
                table[k, i, j] = source[arm].get(r, np.nan)
    means = np.nanmean(table, axis=2)
    signs = np.array([1.0 if b else -1.0 for b in better])
    member = front((means * signs[:, None]).T)
    share = _membership(table * signs[:, None, None], draws or _default_draws(len(arms)))
    return [
        ParetoPoint(
            arm=arm,
            x=float(means[0, i]),
            y=float(means[1, i]),
            on_front=bool(member[i]),
            probability=float(share[i]) if len(replicates) > 1 else float(member[i]),
        )
        for i, arm in enumerate(arms)
    ]


def _default_draws(arms: int) -> int:
    return DRAWS if arms <= _MANY_ARMS else _DRAWS_MANY


def _membership(table: Floats, draws: int) -> Floats:
    """Share of draws with each arm on the front, of values (2, arms, replicates), NaN unknown."""
    # A fixed seed: the same records give the same page.
    rng = np.random.default_rng(0)
    known = ~np.isnan(table)
    counts = known.sum(axis=2)
    means = np.where(counts > 0, np.nansum(table, axis=2) / np.maximum(counts, 1), np.nan)
    deviations = np.nan_to_num(table - means[:, :, None])
    # An arm of one replicate has deviations of 0 and so does not move; the ones keep from dividing
    # by 0.
    scale = 1.0 / np.sqrt(np.maximum(counts * (counts - 1), 1))
    deviations *= scale[:, :, None]
    df = np.maximum(counts.min(axis=0) - 1, 1)
    on_front = np.zeros(table.shape[1])
    for _ in range(draws):
        normal = rng.standard_normal(table.shape[1:])
        root = np.sqrt(rng.chisquare(df) / df)
        moved = np.einsum("kij,ij->ik", deviations, normal) / root[:, None]
        on_front += front(means.T + moved)
    return np.asarray(on_front / draws)


FEWEST_ARMS = 4
METHOD = "Spearman over arm means, Bonett-Wright interval (approximate)"


def agreements(
    specs: Mapping[str, MetricSpec],
    values: Mapping[str, Values],
    arms: Iterable[str],
    level: float,
    scope: str = "",
) -> list[Agreement]:
    """One entry for each metric that names another to follow, in the order of `specs`.

    Args:
        specs: metric to what it is.
        values: metric to arm to replicate to value.
        arms: planned arms; nothing else counts.
        level: coverage that the intervals aim at.
        scope: what the answer is about, for the sentence.
    """
    planned = list(arms)
    return [
        _agreement(metric, spec, specs, values, planned, level, scope)
        for metric, spec in specs.items()
        if spec.follows is not None
    ]


def rank_correlation(x: list[float], y: list[float]) -> float | None:
    """Spearman's rho, ties at their mean rank; None where one of the two does not vary."""
    from scipy import stats

    if min(x) == max(x) or min(y) == max(y):
        return None
    return float(stats.spearmanr(x, y).statistic)


def bonett_wright(rho: float, n: int, level: float) -> tuple[float, float]:
    """Approximate interval of a Spearman correlation of n >= 4 pairs; see the file's docstring."""
    assert n >= FEWEST_ARMS, "callers refuse fewer"
    most = 1.0 - 6.0 / (n * (n**2 - 1))
    centre = max(-most, min(most, rho))
    half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt((1 + centre**2 / 2) / (n - 3))
    middle = math.atanh(centre)
    return min(rho, math.tanh(middle - half)), max(rho, math.tanh(middle + half))


def _agreement(
    metric: str,
    spec: MetricSpec,
    specs: Mapping[str, MetricSpec],
    values: Mapping[str, Values],
    planned: list[str],
    level: float,
    scope: str,
) -> Agreement:
    truth = str(spec.follows)
    pairs = _pairs(values.get(metric, {}), values.get(truth, {}), planned)
    rho, trouble = _signed(pairs, spec, specs.get(truth, MetricSpec()))
    interval = bonett_wright(rho, len(pairs), level) if rho is not None else None
    name: AgreementName = "undecided"
    if interval is not None:
        name = "follows" if interval[0] > 0 else "opposes" if interval[1] < 0 else "undecided"
    return Agreement(
        metric=metric,
        follows=truth,
        rho=rho,
        lo=interval[0] if interval else None,
        hi=interval[1] if interval else None,
        level=level,
        n=len(pairs),
        n_planned=len(planned),
        agreement=name,
        method=METHOD if interval else "",
        words=_sentence(metric, truth, name, rho, interval, pairs, planned, level, scope, trouble),
    )


def _pairs(metric: Values, truth: Values, planned: list[str]) -> list[tuple[float, float]]:
    """Means of an arm's replicates that have both, for every planned arm that has any."""
    pairs = []
    for arm in planned:
        x, y = metric.get(arm, {}), truth.get(arm, {})
        shared = sorted(x.keys() & y.keys())
        if shared:
            pairs.append((fmean(x[r] for r in shared), fmean(y[r] for r in shared)))
    return pairs


def _signed(
    pairs: list[tuple[float, float]], spec: MetricSpec, truth: MetricSpec
) -> tuple[float | None, str]:
    """Correlation signed by direction of good, or None and why there is none."""
    if len(pairs) < FEWEST_ARMS:
        return None, f"{FEWEST_ARMS} arms with both are needed"
    if spec.higher_is_better is None or truth.higher_is_better is None:
        return None, "one of the two has no better direction"
    rho = rank_correlation([x for x, _ in pairs], [y for _, y in pairs])
    if rho is None:
        return None, "one of the two is the same in every arm"
    return (rho if spec.higher_is_better == truth.higher_is_better else -rho), ""


def _sentence(
    metric: str,
    truth: str,
    name: AgreementName,
    rho: float | None,
    interval: tuple[float, float] | None,
    pairs: list[tuple[float, float]],
    planned: list[str],
    level: float,
    scope: str,
    trouble: str,
) -> str:
    openings: dict[AgreementName, str] = {
        "follows": f"{metric} follows {truth}",
        "opposes": f"{metric} ranks arms against {truth}",
        "undecided": f"Undecided whether {metric} follows {truth}",
    }
    counted = f"{len(pairs)} of {len(planned)} arms"
    if rho is None or interval is None:
        text = f"{openings[name]}: {trouble}, {counted}"
    else:
        middle, lo, hi = (number(v, 2, signed=True) for v in (rho, *interval))
        text = (
            f"{openings[name]}: rank correlation {middle} ({100 * level:g} % interval {lo} to "
            f"{hi}, approximate), {counted}"
        )
    return f"{text}; {scope}." if scope else f"{text}."
