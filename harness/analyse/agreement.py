"""How well learned metrics rank trained arms like the metric that reads the truth.

Spearman's rank correlation over arm means, reference rows left out: they span a range that no
recipe does, and would lift every correlation. Signed by direction of good, so that +1 says "the arm
that is better on one is better on the other", for distances as well.

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

from harness.analyse.answer import Agreement, AgreementName
from harness.analyse.inference import Values
from harness.analyse.words import number
from harness.contract import MetricSpec

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
    found = []
    for arm in planned:
        x, y = metric.get(arm, {}), truth.get(arm, {})
        shared = sorted(x.keys() & y.keys())
        if shared:
            found.append((fmean(x[r] for r in shared), fmean(y[r] for r in shared)))
    return found


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
