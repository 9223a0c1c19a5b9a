"""Intervals within a checkpoint: coverage, strata, pairing, degenerate sets, jackknife groups."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t as student

from evaluation.intervals import (
    jackknife_interval,
    macro_mean,
    mean_difference_interval,
    mean_interval,
)
from evaluation.jackknife import assign_groups, delete_group_jackknife, usable_groups


def test_macro_mean_weights_categories_equally_and_skips_nan() -> None:
    values = {"a": [1.0, np.nan, 3.0], "b": [10.0] * 7, "none": [np.nan]}
    assert macro_mean(values) == 6.0
    assert macro_mean({"none": [np.nan]}) is None
    interval = mean_interval("m", values)
    assert interval is not None
    assert interval["value"] == 6.0
    assert interval["n_items"] == 9


def test_fields_of_an_interval() -> None:
    interval = mean_interval("t2i/clip", {"a": [0.1, 0.4, 0.2, 0.3]}, level=0.9)
    assert interval is not None
    assert set(interval) == {"name", "value", "lo", "hi", "level", "method", "claim", "n_items"}
    assert (interval["claim"], interval["level"], interval["n_items"]) == ("checkpoint", 0.9, 4)
    assert interval["lo"] < interval["value"] < interval["hi"]  # type: ignore[operator]


def test_bootstrap_covers_the_mean() -> None:
    """Nominal 90 %; 200 sets give a standard error of 2 points."""
    rng = np.random.default_rng(0)
    covered = 0
    for run in range(200):
        values = {"a": rng.exponential(1.0, 60), "b": rng.normal(3.0, 2.0, 60)}
        interval = mean_interval("m", values, level=0.9, resamples=300, seed=run)
        assert interval is not None
        covered += float(interval["lo"]) <= 2.0 <= float(interval["hi"])
    assert 0.82 <= covered / 200 <= 0.97


def test_strata_keep_the_spread_between_categories_out() -> None:
    rng = np.random.default_rng(1)
    low, high = rng.normal(0, 0.1, 50), rng.normal(100, 0.1, 50)
    apart = mean_interval("m", {"low": low, "high": high})
    pooled = mean_interval("m", {"all": np.concatenate([low, high])})
    assert apart is not None
    assert pooled is not None
    assert apart["hi"] - apart["lo"] < 0.1 < pooled["hi"] - pooled["lo"]  # type: ignore[operator]


def test_interval_is_reproducible() -> None:
    values = {"a": np.random.default_rng(2).normal(size=30)}
    np.random.seed(0)
    first = mean_interval("m", values)
    np.random.seed(1)
    assert mean_interval("m", values) == first


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [1.0]])
def test_constant_values_have_width_zero(values: list[float]) -> None:
    interval = mean_interval("m", {"a": values})
    assert interval is not None
    assert interval["lo"] == interval["hi"] == values[0]
    assert interval["method"] == "constant over items"


def test_one_constant_category_is_no_obstacle() -> None:
    interval = mean_interval("m", {"a": [0.0] * 20, "b": list(np.linspace(0, 1, 20))})
    assert interval is not None
    assert 0.1 < float(interval["lo"]) < 0.25 < float(interval["hi"]) < 0.4


def test_paired_difference() -> None:
    rng = np.random.default_rng(3)
    hard = rng.normal(0, 3, 80)
    names = [f"i{n}" for n in range(80)]
    a = dict(zip(names, hard + 0.3 + rng.normal(0, 0.1, 80), strict=True))
    b = dict(zip(names, hard, strict=True))
    category = {name: "odd" if n % 2 else "even" for n, name in enumerate(names)}
    interval = mean_difference_interval("d", a, b, category)
    assert interval is not None
    assert 0.2 < float(interval["lo"]) < float(interval["value"]) < float(interval["hi"]) < 0.4
    with pytest.raises(ValueError, match="1 items are in one checkpoint only"):
        mean_difference_interval("d", a, {n: v for n, v in b.items() if n != "i0"}, category)


def test_delete_group_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = np.random.default_rng(4).normal(size=60)
    label = np.arange(60)  # delete-one: the textbook identity
    jackknife = delete_group_jackknife(
        lambda g: float(values.mean() if g is None else values[label != g].mean()), 60
    )
    assert jackknife.se == pytest.approx(values.std(ddof=1) / np.sqrt(60))
    assert jackknife.corrected == pytest.approx(values.mean())


def test_jackknife_removes_a_bias_that_falls_with_n() -> None:
    values = np.random.default_rng(5).normal(size=50)
    label = assign_groups(50, 10)
    biased = delete_group_jackknife(
        lambda g: float((values if g is None else values[label != g]).var(ddof=0)), 10
    )
    assert biased.value == pytest.approx(values.var(ddof=0))
    assert abs(biased.corrected - values.var(ddof=1)) < 0.2 * abs(biased.value - values.var(ddof=1))


def test_jackknife_interval_uses_t() -> None:
    values = np.random.default_rng(6).normal(size=48)
    label = assign_groups(48, 12)
    jackknife = delete_group_jackknife(
        lambda g: float((values if g is None else values[label != g]).mean()), 12
    )
    interval = jackknife_interval("kd", jackknife, 48, level=0.9)
    half = student.ppf(0.95, 11) * jackknife.se
    assert interval["hi"] == pytest.approx(jackknife.value + half)
    assert interval["lo"] == pytest.approx(jackknife.value - half)


def test_groups_are_even_fixed_and_large_enough() -> None:
    label = assign_groups(50, 8)
    sizes = np.bincount(label)
    assert sizes.min() == 6
    assert sizes.max() == 7
    assert (assign_groups(50, 8) == label).all()
    assert usable_groups(7, 25) == 3
    with pytest.raises(ValueError, match="at least 2 groups"):
        assign_groups(7, 4)


def test_a_category_of_one_item_enters_as_a_constant() -> None:
    """Its mean counts, its spread is not known: half the spread of the other category is left."""
    spread = np.random.default_rng(3).normal(size=40)
    alone = mean_interval("m", {"many": spread})
    beside = mean_interval("m", {"many": spread, "one": [7.0]})
    assert alone is not None
    assert beside is not None
    for end in ("value", "lo", "hi"):
        assert float(beside[end]) == pytest.approx((float(alone[end]) + 7) / 2, abs=0.02)
