"""Trade-offs: the Pareto front of two metrics and how sure each arm's membership is.

Membership probability is the share of replicate bootstraps in which no other arm is at least as
good on both metrics and better on one. Replicates are drawn jointly for all arms, so what the arms
of a replicate share cancels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from harness.analyse.answer import ParetoPoint
from harness.analyse.inference import Values
from harness.contract import MetricSpec

DRAWS = 2000
_MANY_ARMS = 500
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
    known = np.flatnonzero(~np.any(np.isnan(points), axis=1))
    order = known[np.lexsort((-points[known, 1], -points[known, 0]))]
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
        draws: bootstrap draws; 0 picks a number by the number of arms. The draws are seeded.
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
    count = table.shape[2]
    chosen = np.random.default_rng(0).integers(0, count, size=(draws, count))
    weight = np.stack([(chosen == j).sum(axis=1) for j in range(count)], axis=1).astype(float)
    known = ~np.isnan(table)
    total = np.einsum("kij,bj->bik", np.nan_to_num(table), weight)
    seen = np.einsum("kij,bj->bik", known.astype(float), weight)
    means = np.where(seen > 0, total / np.maximum(seen, 1.0), np.nan)
    return np.asarray(np.mean([front(points) for points in means], axis=0))
