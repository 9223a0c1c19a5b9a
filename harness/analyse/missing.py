"""The worst case for a contrast whose replicates diverged, failed or are incomplete.

A verdict stands only if it survives filling in what is missing against it:

- the ends of the metric are its legal range where it is bounded, else the worst and the best value
  observed in the planned arms;
- a **diverged** trial takes the bad end, whichever side it is on: that is what divergence means;
- a trial that **failed** or has not finished takes the end that contradicts the verdict;
- a filled-in difference that supports the verdict is drawn in to the largest difference observed
  in that direction, so that divergence of the losing side does not blur the verdict by distance.

A replicate of which no side has run yet is not missing but a smaller study, and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.analyse.contrasts import Inference, Residual, Values, infer
from harness.contract import MetricSpec

States = Mapping[str, Mapping[int, str]]
"""Arm to replicate to trial state."""

ENDED_WITHOUT = ("diverged", "failed")


@dataclass(frozen=True)
class Ends:
    """Numeric ends a missing value may take, and which of them is bad (None: neither)."""

    low: float
    high: float
    bad: float | None


def ends(values: Values, spec: MetricSpec) -> Ends | None:
    """Legal range of a metric where bounded, else what was observed; None without any value."""
    seen = [v for row in values.values() for v in row.values()]
    if not seen:
        return None
    low = min(seen) if spec.low is None else spec.low
    high = max(seen) if spec.high is None else spec.high
    bad = {True: low, False: high, None: None}[spec.higher_is_better]
    return Ends(low, high, bad)


def missing_replicates(
    values: Values, states: States, weights: Mapping[str, float], replicates: Sequence[int]
) -> list[int]:
    """Replicates begun but lacking a side: some value, failure or divergence, not all values."""
    found = []
    for r in replicates:
        has = [r in values.get(arm, {}) for arm in weights]
        ended = [states.get(arm, {}).get(r) in ENDED_WITHOUT for arm in weights]
        if not all(has) and (any(has) or any(ended)):
            found.append(r)
    return found


def worst_cases(
    complete: Inference,
    values: Values,
    states: States,
    weights: Mapping[str, float],
    missing: Sequence[int],
    spec: MetricSpec,
    pooled: Residual | None,
    level: float,
    *,
    both: bool,
) -> list[Inference]:
    """Inferences with the missing replicates filled in against the verdict.

    Args:
        complete: the inference from complete pairs; its sign says what "against" means.
        values: arm to replicate to value.
        states: arm to replicate to trial state.
        weights: the contrast's weights over arms.
        missing: replicates to fill in.
        spec: the metric's range and direction.
        pooled: residual variance from the values that exist; filled-in ones are no noise sample.
        level: coverage of the interval.
        both: True to fill in both directions (for a verdict of equivalence).
    """
    if complete.difference is None:
        return []
    limits = ends(values, spec)
    if limits is None:
        return []
    sign = 1.0 if complete.difference >= 0 else -1.0
    found = []
    for push in (-sign, sign) if both else (-sign,):
        filled = dict(complete.per_replicate)
        for r in missing:
            difference = _filled(r, values, states, weights, limits, push)
            filled[r] = difference if both else _drawn_in(difference, sign, complete)
        found.append(infer(filled, weights, pooled, level))
    return found


def _filled(
    r: int, values: Values, states: States, weights: Mapping[str, float], limits: Ends, push: float
) -> float:
    parts = []
    for arm, weight in weights.items():
        value = values.get(arm, {}).get(r)
        if value is None:
            diverged = states.get(arm, {}).get(r) == "diverged" and limits.bad is not None
            against = limits.high if weight * push > 0 else limits.low
            value = limits.bad if diverged and limits.bad is not None else against
        parts.append(weight * value)
    return math.fsum(parts)


def _drawn_in(difference: float, sign: float, complete: Inference) -> float:
    support = max((sign * d for d in complete.per_replicate.values()), default=0.0)
    return sign * min(sign * difference, max(support, 0.0))
