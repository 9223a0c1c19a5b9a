"""Intervals within a checkpoint: prompts, strata, shares, what has no interval, jackknives."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy.stats import t as student

from evaluation.intervals import Interval, jackknife_interval, macro_mean, mean_interval
from evaluation.jackknife import (
    Stratum,
    assign_groups,
    delete_group_jackknife,
    prompt_groups,
    prompt_jackknife,
    usable_groups,
)


def ends(interval: Interval | None) -> tuple[float, float]:
    assert interval is not None
    lo, hi = interval["lo"], interval["hi"]
    assert isinstance(lo, float)
    assert isinstance(hi, float)
    return lo, hi


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


def test_items_of_their_own_prompts_give_the_t_interval() -> None:
    values = np.random.default_rng(0).normal(size=7)
    half = student.ppf(0.975, 6) * values.std(ddof=1) / sqrt(7)
    assert ends(mean_interval("m", {"a": values})) == pytest.approx(
        (values.mean() - half, values.mean() + half)
    )


def test_equal_items_a_prompt_give_the_t_interval_of_prompt_means() -> None:
    values = np.random.default_rng(1).normal(size=(5, 8))
    prompts = [f"p{i}" for i in range(5) for _ in range(8)]
    told = mean_interval("m", {"a": values.ravel()}, {"a": prompts})
    means = values.mean(axis=1)
    half = student.ppf(0.975, 4) * means.std(ddof=1) / sqrt(5)
    assert ends(told) == pytest.approx((means.mean() - half, means.mean() + half))
    assert told is not None
    assert told["method"] == "t over 5 prompts, 4 df"
    assert told["n_items"] == 40


def test_unequal_items_a_prompt_are_cr2() -> None:
    """Against the definition in matrices: A_g = (I - H_gg)^(-1/2), cluster by cluster."""
    rng = np.random.default_rng(2)
    sizes = [1, 2, 5, 9]
    prompts = np.repeat(np.arange(4), sizes)
    y = rng.normal(size=17) + rng.normal(size=4)[prompts]
    x = np.ones((17, 1))
    bread = 1 / 17
    meat, rows_G = 0.0, []
    hat = np.eye(17) - x @ x.T * bread
    for g in range(4):
        at = prompts == g
        block = np.eye(sizes[g]) - np.ones((sizes[g], sizes[g])) * bread
        values, vectors = np.linalg.eigh(block)
        root = vectors @ np.diag(values**-0.5) @ vectors.T
        meat += float((x[at].T @ root @ (y - y.mean())[at])[0]) ** 2
        rows_G.append((x[at].T @ root @ hat[at])[0] * bread)
    se = sqrt(meat) * bread
    freedom = []
    same = (prompts[:, None] == prompts).astype(float)
    for covariance in (np.eye(17), same):
        p_GG = np.array(rows_G) @ covariance @ np.array(rows_G).T
        freedom.append(np.trace(p_GG) ** 2 / (p_GG**2).sum())
    half = student.ppf(0.975, min(freedom)) * se
    told = mean_interval("m", {"a": y}, {"a": [str(p) for p in prompts]})
    assert ends(told) == pytest.approx((y.mean() - half, y.mean() + half), rel=1e-9)


def test_strata_keep_the_spread_between_categories_out() -> None:
    rng = np.random.default_rng(1)
    low, high = rng.normal(0, 0.1, 50), rng.normal(100, 0.1, 50)
    apart = ends(mean_interval("m", {"low": low, "high": high}))
    pooled = ends(mean_interval("m", {"all": np.concatenate([low, high])}))
    assert apart[1] - apart[0] < 0.1 < pooled[1] - pooled[0]


def test_strata_combine_by_welch_and_satterthwaite() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(0, 1, 6), rng.normal(5, 3, 9)
    parts = a.var(ddof=1) / 6, b.var(ddof=1) / 9
    df = sum(parts) ** 2 / (parts[0] ** 2 / 5 + parts[1] ** 2 / 8)
    half = student.ppf(0.975, df) * sqrt(sum(parts)) / 2
    middle = (a.mean() + b.mean()) / 2
    assert ends(mean_interval("m", {"a": a, "b": b})) == pytest.approx(
        (middle - half, middle + half)
    )


def test_what_says_nothing_of_others_has_no_interval() -> None:
    one = mean_interval("m", {"a": [0.2, 0.3, 0.4]}, {"a": ["p", "p", "p"]})
    beside = mean_interval("m", {"many": list(range(9)), "one": [7.0]})
    flat = mean_interval("m", {"a": [0.3, 0.3, 0.3]})
    for told, why in ((one, "a has one prompt"), (beside, "one has one"), (flat, "same mean")):
        assert told is not None
        assert (told["lo"], told["hi"]) == (None, None)
        assert str(told["method"]).startswith("none: ")
        assert why in str(told["method"])
    assert one is not None
    assert one["value"] == pytest.approx(0.3)


def test_a_share_of_independent_items_is_wilson() -> None:
    """12 of 20, each of its own prompt: Wilson with 19 for the mean's own degree of freedom."""
    c = student.ppf(0.975, 19) ** 2 / 19
    middle, half = (0.6 + c / 2) / (1 + c), sqrt(c * 0.24 + c**2 / 4) / (1 + c)
    told = mean_interval("m", {"a": [1.0] * 12 + [0.0] * 8})
    assert ends(told) == pytest.approx((middle - half, middle + half))


@pytest.mark.parametrize("answer", [0.0, 1.0])
def test_a_share_of_nothing_or_all_still_has_a_width(answer: float) -> None:
    """Today's bootstrap had none. Ten prompts of twenty equal answers count as ten, not as 200."""
    prompts = {"a": [f"p{i % 10}" for i in range(200)]}
    told = mean_interval("m", {"a": [answer] * 200}, prompts)
    c = student.ppf(0.975, 9) ** 2 / 9
    near, far = sorted((answer, c / (1 + c) if answer == 0 else 1 / (1 + c)))
    assert ends(told) == pytest.approx((near, far))
    assert told is not None
    assert told["method"] == "Wilson over 10 prompts, 9 effective items"


def test_agreeing_items_of_a_prompt_widen_a_share() -> None:
    answers = [float(i % 10 < 6) for i in range(200)]
    by_prompt = ends(mean_interval("m", {"a": answers}, {"a": [f"p{i % 10}" for i in range(200)]}))
    mixed = ends(mean_interval("m", {"a": answers}, {"a": [f"p{i // 20}" for i in range(200)]}))
    assert by_prompt[1] - by_prompt[0] > 3 * (mixed[1] - mixed[0])
    assert 0 <= by_prompt[0] < mixed[0] < mixed[1] < by_prompt[1] <= 1


def test_draws_of_one_item_are_a_share_too() -> None:
    told = mean_interval("m", {"a": [0.5, 1.0, 1.0, 0.0]}, share=True)
    assert told is not None
    assert str(told["method"]).startswith("Wilson")
    assert str((mean_interval("m", {"a": [0.5, 1.0, 1.0, 0.0]}) or {})["method"]).startswith("t ")


def test_values_and_prompts_must_belong_together() -> None:
    with pytest.raises(ValueError, match="2 values but 1 prompts"):
        mean_interval("m", {"a": [0.1, 0.2]}, {"a": ["p"]})


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


def strata_of_a_mean(values: np.ndarray, prompts: list[str], most: int = 99) -> Stratum:
    label = prompt_groups(prompts, most)
    return Stratum(
        lambda g: float((values if g is None else values[label != g]).mean()),
        int(label.max()) + 1,
        len(set(prompts)),
    )


def test_jackknife_over_prompts_of_a_mean_is_its_t_interval() -> None:
    values = np.random.default_rng(6).normal(size=(8, 5))
    prompts = [f"p{i}" for i in range(8) for _ in range(5)]
    found = prompt_jackknife([strata_of_a_mean(values.ravel(), prompts)])
    assert (found.df, found.method) == (pytest.approx(7), "8 prompts")
    told = jackknife_interval("kd", found, 40, level=0.9)
    assert ends(told) == pytest.approx(
        ends(mean_interval("kd", {"a": values.ravel()}, {"a": prompts}, level=0.9))
    )


def test_jackknife_leaves_prompts_out_one_category_at_a_time() -> None:
    """Two strata of independent prompts: variances add, weighted; in groups where they are many."""
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=6), rng.normal(size=50)
    strata = [
        strata_of_a_mean(values, [f"p{i}" for i in range(len(values))], most=10)
        for values in (a, b)
    ]
    found = prompt_jackknife(strata, scale=3.0)
    assert found.value == pytest.approx(3 * (a.mean() + b.mean()) / 2)
    label = prompt_groups([f"p{i}" for i in range(50)], 10)
    groups = np.array([b[label == g].mean() for g in range(10)])
    expected = 9 / 4 * (a.var(ddof=1) / 6 + groups.var(ddof=1) / 10)
    assert found.se**2 == pytest.approx(expected)
    assert found.method == "56 prompts in 16 groups"


def test_jackknife_says_why_it_has_no_interval() -> None:
    values = np.arange(6.0)
    for stratum, why in (
        (strata_of_a_mean(values, ["p"] * 6), "one prompt"),
        (strata_of_a_mean(np.ones(6), list("aabbcc")), "changes nothing"),
    ):
        found = prompt_jackknife([stratum])
        assert found.value == stratum.distance(None)
        assert why in found.why
        told = jackknife_interval("kd", found, 6)
        assert (told["lo"], told["hi"]) == (None, None)
        assert told["method"] == f"none: {found.why}"


def test_a_corrected_value_lies_in_its_interval() -> None:
    found = prompt_jackknife([strata_of_a_mean(np.arange(6.0), list("abcdef"))])
    lo, hi = ends(jackknife_interval("fid", found, 6, value=100.0))
    half = student.ppf(0.975, 5) * found.se
    assert (lo, hi) == pytest.approx((found.corrected - half, 100.0))


def test_groups_of_prompts_are_the_same_for_the_same_prompts() -> None:
    prompts = [f"p{i % 30}" for i in range(90)]
    label = prompt_groups(prompts, 24)
    assert len(set(label)) == 24
    assert (prompt_groups(prompts[::-1], 24) == label[::-1]).all()
    assert len(set(prompt_groups(prompts, 30))) == 30


def test_groups_are_even_fixed_and_large_enough() -> None:
    label = assign_groups(50, 8)
    sizes = np.bincount(label)
    assert sizes.min() == 6
    assert sizes.max() == 7
    assert (assign_groups(50, 8) == label).all()
    assert usable_groups(7, 25) == 3
    with pytest.raises(ValueError, match="at least 2 groups"):
        assign_groups(7, 4)
