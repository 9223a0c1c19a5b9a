"""Intervals within one checkpoint: the items are the sample, the weights are fixed.

They answer "how sure are we of this checkpoint's number", and "is checkpoint A better than B".
They say nothing of recipes: for that the training run is the unit (`harness.analyse`).
Each interval is a plain dict: name, value, lo, hi, level, method, claim, n_items.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.jackknife import Jackknife

CLAIM = "checkpoint"
Interval = dict[str, str | float | int]


def mean_interval(
    name: str,
    values_by_category: Mapping[str, ArrayLike],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Macro mean (the mean of category means) with a bootstrap over items, inside categories.

    BCa where it is defined, percentile otherwise; a set in which every category is constant has an
    interval of width 0. The method field says which. A category of one item counts as constant: the
    interval then leaves out what another item of it would have changed.

    Args:
        name: name of the metric.
        values_by_category: one value per item; NaN means "does not apply" and is left out.
        level: confidence level.
        resamples: bootstrap resamples.
        seed: of the resampling.

    Returns:
        The interval, or None where no item has a value.
    """
    samples = _present(values_by_category)
    if not samples:
        return None
    value = float(np.mean([sample.mean() for sample in samples]))
    n_items = sum(len(sample) for sample in samples)
    spread = [sample for sample in samples if np.ptp(sample) > 0]
    if not spread:
        return _interval(name, value, value, value, level, "constant over items", n_items)
    lo, hi, method = _bootstrap(samples, level, resamples, seed)
    return _interval(name, value, lo, hi, level, f"{method} bootstrap over items", n_items)


def mean_difference_interval(
    name: str,
    a_by_item: Mapping[str, float],
    b_by_item: Mapping[str, float],
    category_by_item: Mapping[str, str],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Macro mean of a - b over shared items, by paired bootstrap over items inside categories.

    Raises:
        ValueError: the two do not hold the same items.
    """
    if set(a_by_item) != set(b_by_item):
        odd = sorted(set(a_by_item) ^ set(b_by_item))
        raise ValueError(
            f"{len(odd)} items are in one checkpoint only ({', '.join(odd[:3])}); a paired "
            "difference needs the same items under the same protocol"
        )
    differences: dict[str, list[float]] = {}
    for item_id, value in a_by_item.items():
        category = category_by_item[item_id]
        differences.setdefault(category, []).append(value - b_by_item[item_id])
    return mean_interval(name, differences, level=level, resamples=resamples, seed=seed)


def jackknife_interval(
    name: str,
    jackknife: Jackknife,
    n_items: int,
    *,
    level: float = 0.95,
    corrected: bool = False,
) -> Interval:
    """Value +- t(G-1) x delete-group jackknife standard error, the reference held fixed.

    Args:
        name: name of the metric.
        jackknife: of a distance, or of a difference of distances with the same groups left out.
        n_items: measured samples behind it.
        level: confidence level.
        corrected: centre on the bias-corrected value. A biased distance (Frechet) otherwise has an
            interval for its expectation at this number of samples.
    """
    from scipy.stats import t

    centre = jackknife.corrected if corrected else jackknife.value
    half = float(t.ppf(0.5 + level / 2, jackknife.n_groups - 1)) * jackknife.se
    method = f"delete-group jackknife t, {jackknife.n_groups} groups, reference fixed"
    if corrected:
        method += ", bias-corrected"
    return _interval(name, centre, centre - half, centre + half, level, method, n_items)


def macro_mean(values_by_category: Mapping[str, ArrayLike]) -> float | None:
    """Mean over categories of the mean over their items; NaN left out; None without any value."""
    samples = _present(values_by_category)
    return float(np.mean([sample.mean() for sample in samples])) if samples else None


def _present(values_by_category: Mapping[str, ArrayLike]) -> list[NDArray[np.float64]]:
    columns = [np.asarray(values, dtype=np.float64) for values in values_by_category.values()]
    kept = [column[~np.isnan(column)] for column in columns]
    return [column for column in kept if len(column)]


def _bootstrap(
    samples: Sequence[NDArray[np.float64]], level: float, resamples: int, seed: int
) -> tuple[float, float, str]:
    from scipy.stats import bootstrap

    def statistic(*columns: NDArray[np.float64], axis: int = -1) -> Any:
        return np.mean([column.mean(axis=axis) for column in columns], axis=0)

    # Scipy refuses a sample of one. Twice the same item is the constant that a category of one is
    # to a resampling inside categories.
    samples = [sample.repeat(2) if len(sample) == 1 else sample for sample in samples]
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = bootstrap(
                cast(Any, tuple(samples)),
                statistic,
                n_resamples=resamples,
                vectorized=True,
                confidence_level=level,
                method=cast(Any, method),
                rng=np.random.default_rng(seed),
            )
        lo, hi = map(float, result.confidence_interval)
        if np.isfinite([lo, hi]).all():
            return lo, hi, method
    raise AssertionError("the percentile bootstrap of finite values is finite")


def _interval(
    name: str, value: float, lo: float, hi: float, level: float, method: str, n_items: int
) -> Interval:
    return {
        "name": name,
        "value": value,
        "lo": lo,
        "hi": hi,
        "level": level,
        "method": method,
        "claim": CLAIM,
        "n_items": n_items,
    }
