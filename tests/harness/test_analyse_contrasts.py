"""Contrast statistics against scipy, statsmodels, hand computations and simulation."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from harness.analyse.contrasts import (
    PAIRED_FROM,
    Residual,
    benjamini_hochberg,
    decide,
    holm,
    infer,
    mean_interval,
    observations,
    residual,
    sign_flip,
)
from harness.plan import weights_of

AB = weights_of([("a", "b")])


def table(rng: np.random.Generator, arms: int, n: int, effect: float = 0.0, own: float = 1.0):
    shared = rng.normal(0, 3, n)
    names = "abcdefghij"[:arms]
    return {
        name: {
            r: float(shared[r] + own * rng.normal() + (effect if i == 0 else 0)) for r in range(n)
        }
        for i, name in enumerate(names)
    }


def frame(values):
    rows = [(arm, r, y) for arm, row in values.items() for r, y in row.items()]
    return pd.DataFrame(rows, columns=["arm", "replicate", "y"])


def test_weights_are_the_mean_over_matched_pairs_and_shared_arms_cancel():
    assert weights_of([("a1", "b1"), ("a2", "b2")]) == {
        "a1": 0.5,
        "b1": -0.5,
        "a2": 0.5,
        "b2": -0.5,
    }
    assert weights_of([("a", "b"), ("b", "c")]) == {"a": 0.5, "c": -0.5}
    assert weights_of([]) == {}


def test_observation_is_the_mean_of_differences_over_cells_of_complete_replicates():
    values = {
        "a1": {0: 3.0, 1: 5.0, 2: 1.0},
        "b1": {0: 1.0, 1: 2.0, 2: 1.0},
        "a2": {0: 10.0, 1: 10.0},
        "b2": {0: 6.0, 1: 5.0, 2: 9.0},
    }
    weights = weights_of([("a1", "b1"), ("a2", "b2")])
    assert observations(values, weights) == {0: 3.0, 1: 4.0}


@pytest.mark.parametrize("n", [6, 9])
def test_from_six_replicates_it_is_scipys_paired_t(n):
    values = table(np.random.default_rng(n), 4, n, effect=1.0)
    found = infer(observations(values, AB), AB, residual(values), level=0.9)
    a, b = list(values["a"].values()), list(values["b"].values())
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.9)
    assert found.method.startswith("paired t")
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.lo, found.hi) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_below_six_the_residual_variance_of_the_additive_model_decides():
    values = table(np.random.default_rng(1), 5, 3, effect=1.0)
    found = infer(observations(values, AB), AB, residual(values))
    fit = smf.ols("y ~ C(arm) + C(replicate)", frame(values)).fit()
    expected = fit.t_test("C(arm)[T.b] = 0")
    assert found.df == fit.df_resid == 8
    assert "OLS" in found.method
    assert found.difference == pytest.approx(-float(expected.effect[0]), rel=1e-9)
    assert found.p == pytest.approx(float(expected.pvalue), rel=1e-9)
    lo, hi = expected.conf_int()[0]
    assert (found.lo, found.hi) == pytest.approx((-hi, -lo), rel=1e-9)


def test_residual_equals_statsmodels_with_missing_cells():
    values = table(np.random.default_rng(2), 6, 4)
    for arm, replicate in (("a", 0), ("c", 3), ("d", 1), ("d", 2)):
        del values[arm][replicate]
    fit = smf.ols("y ~ C(arm) + C(replicate)", frame(values)).fit()
    found = residual(values)
    assert found is not None
    assert found.df == fit.df_resid
    assert found.variance == pytest.approx(fit.mse_resid, rel=1e-9)


@pytest.mark.filterwarnings("ignore:The design matrix is rank-deficient")
def test_residual_counts_the_rank_of_unconnected_designs():
    values = {
        "a": {0: 1.0, 1: 2.0},
        "b": {0: 1.0, 1: 4.0},
        "c": {2: 1.0, 3: 2.0},
        "d": {2: 0.0, 3: 9.0},
    }
    fit = smf.ols("y ~ C(arm) + C(replicate)", frame(values)).fit()
    found = residual(values)
    assert found is not None
    assert found.df == fit.df_resid == 2
    assert found.variance == pytest.approx(fit.mse_resid)


def test_two_arms_give_the_same_answer_pooled_or_paired():
    values = table(np.random.default_rng(3), 2, 5)
    found = infer(observations(values, AB), AB, residual(values))
    assert found.p == pytest.approx(
        stats.ttest_rel(list(values["a"].values()), list(values["b"].values())).pvalue
    )


def test_no_freedom_is_undecided_with_a_reason():
    assert residual({"a": {0: 1.0}, "b": {0: 2.0}}) is None
    assert residual({}) is None
    one = infer({0: 1.0}, AB, Residual(1.0, 5))
    assert one.p is None
    assert one.difference == 1.0
    assert "one replicate" in one.notes[0]
    none = infer({}, AB, None)
    assert none.n == 0
    assert none.difference is None
    unpooled = infer({0: 1.0, 1: 2.0}, AB, None)
    assert unpooled.p is None
    assert "degrees of freedom" in unpooled.notes[0]


@pytest.mark.parametrize("n", [3, PAIRED_FROM])
def test_constant_differences_have_no_spread_and_say_so(n):
    same = {r: 0.1 + r * 0.7 for r in range(n)}
    values = {"a": {r: v + 0.3 for r, v in same.items()}, "b": same, "c": same}
    found = infer(observations(values, AB), AB, residual(values), scale=5.0)
    assert found.p == 0.0
    assert found.lo == found.hi == pytest.approx(0.3)
    assert "same in every replicate" in found.notes[0]
    equal = infer(observations(values, weights_of([("b", "c")])), AB, residual(values), scale=5.0)
    assert equal.p == 1.0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-40, 40).map(lambda i: i / 8), min_size=2, max_size=8))
def test_sign_flip_is_scipys_exact_permutation_test(d):
    expected = stats.permutation_test(
        (np.array(d),), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip(d) == pytest.approx(expected.pvalue)


def test_sign_flip_cannot_reach_five_per_cent_below_six():
    assert [sign_flip([1.0] * n) for n in (3, 5, 6)] == [0.25, 0.0625, 0.03125]
    assert sign_flip(np.linspace(0.5, 1.5, 30)) < 1e-4  # above the exact limit: seeded draws
    assert sign_flip(np.linspace(-1, 1, 30)) > 0.9


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_and_benjamini_hochberg_are_statsmodels(p):
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])


def test_holm_counts_contrasts_without_a_p_in_the_family():
    assert holm([0.01, None, 0.02]) == [0.03, None, 0.04]
    assert benjamini_hochberg([0.01, None, 0.02]) == [0.02, None, 0.02]


def test_mean_interval_is_the_t_interval():
    values = [1.0, 2.0, 4.0, 5.0]
    expected = stats.t.interval(0.95, 3, loc=3.0, scale=stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected)
    assert mean_interval([1.0]) is None


VERDICTS = [
    # adjusted p, lo, hi, margin, better, verdict (by hand from the table)
    (0.01, 0.02, 0.04, 0.01, True, "improves"),
    (0.01, 0.02, 0.04, 0.01, False, "harms"),
    (0.01, -0.04, -0.02, 0.01, True, "harms"),
    (0.01, -0.04, -0.02, 0.01, False, "improves"),
    (0.01, 0.002, 0.008, 0.01, True, "equivalent"),
    (0.60, -0.005, 0.005, 0.01, True, "equivalent"),
    (0.60, -0.005, 0.005, 0.01, None, "equivalent"),
    (0.60, -0.01, 0.01, 0.01, True, "equivalent"),
    (0.01, 0.005, 0.04, 0.01, True, "improves (below margin)"),
    (0.01, -0.04, -0.005, 0.01, True, "harms (below margin)"),
    (0.01, -0.04, -0.005, 0.01, False, "improves (below margin)"),
    (0.01, 0.01, 0.04, 0.01, True, "improves (below margin)"),
    (0.05, 0.02, 0.04, 0.01, True, "undecided"),
    (0.20, -0.01, 0.04, 0.01, True, "undecided"),
    (0.20, 0.02, 0.04, 0.01, True, "undecided"),
    (0.01, 0.001, 0.04, None, True, "improves"),
    (0.01, -0.04, -0.001, None, True, "harms"),
    (0.90, -0.001, 0.001, None, True, "undecided"),
    (0.01, 0.02, 0.04, 0.01, None, "undecided"),
    (None, 0.02, 0.04, 0.01, True, "undecided"),
    (None, None, None, 0.01, True, "undecided"),
]


@pytest.mark.parametrize(("p", "lo", "hi", "margin", "better", "verdict"), VERDICTS)
def test_every_row_of_the_verdict_table(p, lo, hi, margin, better, verdict):
    found = decide(p, lo, hi, margin=margin, alpha=0.05, higher_is_better=better)
    assert found == verdict


@pytest.mark.parametrize("n", [3, 6])
def test_error_rate_and_coverage_of_the_rule(n):
    """Without an effect, 5 % of studies decide; intervals cover the truth in 95 % of them."""
    rng = np.random.default_rng(100 + n)
    studies, decided, covered = 2000, 0, 0
    for _ in range(studies):
        values = table(rng, 4, n, effect=0.7)
        found = infer(observations(values, AB), AB, residual(values))
        covered += found.lo <= 0.7 <= found.hi
        null = infer(observations(values, weights_of([("b", "c")])), AB, residual(values))
        verdict = decide(null.p, null.lo, null.hi, margin=None, alpha=0.05, higher_is_better=True)
        decided += verdict != "undecided"
    assert stats.binomtest(decided, studies, 0.05).pvalue > 1e-3
    assert stats.binomtest(covered, studies, 0.95).pvalue > 1e-3


def test_holm_keeps_the_error_rate_over_all_contrasts():
    rng = np.random.default_rng(7)
    studies, wrong = 1500, 0
    for _ in range(studies):
        values = table(rng, 6, 6)
        pairs = [("a", "b"), ("c", "d"), ("e", "f")]
        p = [
            infer(observations(values, w), w, None).p
            for w in (weights_of([pair]) for pair in pairs)
        ]
        wrong += any(q is not None and q < 0.05 for q in holm(p))
    assert stats.binomtest(wrong, studies, 0.05, alternative="greater").pvalue > 1e-3


def test_anova_partition_matches_the_residual():
    values = table(np.random.default_rng(11), 4, 5)
    fit = smf.ols("y ~ C(arm) + C(replicate)", frame(values)).fit()
    left = sm.stats.anova_lm(fit, typ=2).loc["Residual"]
    found = residual(values)
    assert found is not None
    assert found.variance * found.df == pytest.approx(left["sum_sq"])
