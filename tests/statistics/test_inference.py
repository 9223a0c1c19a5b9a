"""One contrast's estimate and spread against closed forms, scipy, statsmodels and brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, stats

from harness.analysis.inference import (
    ByPrompt,
    Group,
    estimate,
    one_group,
    over_seeds,
    p_of,
    t_quantile,
)
from harness.journal.prompt_values import PromptValues

PAIR = one_group([{"a": 1.0, "b": -1.0}])


def cells_and_values(rng, cells, replicates, missing=()):
    """Values of `a<i>` and `b<i>`, without the (cell, replicate) named."""
    values = {
        f"{side}{i}": {r: float(rng.normal(i)) for r in range(replicates)}
        for side in "ab"
        for i in range(cells)
    }
    for i, r in missing:
        del values[f"a{i}"][r]
    return values, [{f"a{i}": 1.0, f"b{i}": -1.0} for i in range(cells)]


def brute_force(values, cells, shares=None):
    """CR2 and both degrees of freedom from the matrices of their definitions."""
    rows = [
        (r, c)
        for c, cell in enumerate(cells)
        for r in sorted(set.intersection(*(set(values[arm]) for arm in cell)))
    ]
    rows.sort()
    seen = sorted({c for _, c in rows})
    x = np.array([[float(c == k) for k in seen] for _, c in rows])
    y = np.array([sum(w * values[arm][r] for arm, w in cells[c].items()) for r, c in rows])
    ell = np.full(len(seen), 1.0 / len(seen)) if shares is None else np.array(shares)
    bread = np.linalg.inv(x.T @ x)
    annihilator = np.eye(len(rows)) - x @ bread @ x.T
    cluster = np.array([r for r, _ in rows])
    residual = annihilator @ y
    total, paths = 0.0, []
    for r in sorted(set(cluster)):
        own = np.flatnonzero(cluster == r)
        sizes, vectors = linalg.eigh(annihilator[np.ix_(own, own)])
        inverse = np.where(sizes > 1e-9, 1 / np.sqrt(np.maximum(sizes, 1e-9)), 0.0)
        root = vectors @ np.diag(inverse) @ vectors.T
        g = root @ x[own] @ bread @ ell
        total += float(g @ residual[own]) ** 2
        paths.append(annihilator[own].T @ g)
    paths = np.array(paths)
    df = []
    for working in (np.eye(len(rows)), (cluster[:, None] == cluster).astype(float)):
        middle = paths @ working @ paths.T
        df.append(np.trace(middle) ** 2 / (middle**2).sum())
    return float(ell @ bread @ x.T @ y), math.sqrt(total), min(df)


@pytest.mark.parametrize("n", [2, 3, 5, 6, 9])
def test_complete_pairs_are_the_paired_t_at_every_number_of_replicates(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(2, n))
    found = estimate({"a": dict(enumerate(a)), "b": dict(enumerate(b))}, PAIR)
    test = stats.ttest_rel(a, b)
    assert found.p() == pytest.approx(test.pvalue, rel=1e-9)
    assert found.interval(0.05) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found.seeds.df == n - 1


def test_other_arms_change_nothing():
    rng = np.random.default_rng(0)
    values = {arm: dict(enumerate(rng.normal(size=3))) for arm in "ab"}
    wild = values | {"c": dict(enumerate(100 * rng.normal(size=3)))}
    assert estimate(values, PAIR) == estimate(wild, PAIR)


@pytest.mark.parametrize(
    ("cells", "replicates", "missing"),
    [
        (4, 4, [(1, 2), (3, 0)]),
        (2, 3, [(0, 0)]),
        (6, 5, [(0, 0), (1, 0), (2, 1), (2, 2), (5, 4)]),
        (3, 6, [(0, r) for r in range(4)]),
    ],
)
def test_missing_pairs_are_cr2_clustered_on_the_replicate(cells, replicates, missing):
    values, listed = cells_and_values(np.random.default_rng(1), cells, replicates, missing)
    found = over_seeds(values, one_group(listed))
    difference, se, df = brute_force(values, listed)
    assert found.difference == pytest.approx(difference, rel=1e-12)
    assert found.se == pytest.approx(se, rel=1e-9)
    assert found.df == pytest.approx(df, rel=1e-9)
    assert found.n == replicates


def test_signed_groups_are_the_sum_and_difference_of_their_means():
    values, listed = cells_and_values(np.random.default_rng(2), 4, 4, [(1, 2)])
    groups = (Group(tuple(listed[:1])), Group(tuple(listed[1:]), -1.0))
    found = over_seeds(values, groups)
    difference, se, df = brute_force(values, listed, [1.0, -1 / 3, -1 / 3, -1 / 3])
    assert (found.difference, found.se, found.df) == pytest.approx((difference, se, df))


def test_a_cell_seen_once_is_no_part_of_the_difference():
    values, listed = cells_and_values(np.random.default_rng(3), 2, 4, [(0, 0), (0, 1), (0, 2)])
    found = over_seeds(values, one_group(listed))
    assert found.once == 1
    assert found.n == 4
    alone = over_seeds(values, one_group(listed[1:]))
    assert (found.difference, found.se, found.df) == (alone.difference, alone.se, alone.df)
    values, listed = cells_and_values(np.random.default_rng(3), 2, 2, [(0, 0), (1, 1)])
    found = over_seeds(values, one_group(listed))
    assert found.difference is not None
    assert found.why == "no pair exists in two replicates"


def test_cells_never_seen_are_counted_and_no_part_of_the_mean():
    values, listed = cells_and_values(np.random.default_rng(4), 3, 3, [(1, r) for r in range(3)])
    found = over_seeds(values, one_group(listed))
    assert found.unseen == 1
    assert found.method.startswith("paired t")


def test_without_spread_or_a_second_replicate_there_is_no_interval_and_why():
    same = {"a": {r: 1.0 + 1 / 192 for r in range(6)}, "b": dict.fromkeys(range(6), 1.0)}
    found = estimate(same, PAIR)
    assert found.interval(0.05) is None
    assert found.p() is None
    assert "same in every replicate" in found.seeds.why
    one = estimate({"a": {0: 2.0}, "b": {0: 1.0}}, PAIR)
    assert one.difference == 1.0
    assert "one replicate" in one.seeds.why
    none = estimate({"a": {0: 2.0}, "b": {1: 1.0}}, PAIR)
    assert none.difference is None
    alone = over_seeds(
        {"a": {0: 1.0}, "b": {0: 2.0}, "c": {1: 3.0}, "d": {1: 1.0}},
        one_group([{"a": 1.0, "b": -1.0}, {"c": 1.0, "d": -1.0}]),
    )
    assert alone.se is None
    assert alone.why == "no pair exists in two replicates"


def crossed(rng, replicates, prompts, strata=("k",), spread=(0.3, 0.5, 0.4)):
    """Two arms on the same prompts: spread of the difference over seeds, prompts and both."""
    of_seeds, of_prompts, of_both = spread
    tables, values = {}, {"a": {}, "b": {}}
    effect = {k: of_prompts * rng.normal(size=prompts) for k in strata}
    for r in range(replicates):
        seed = of_seeds * rng.normal()
        rows = {"a": {}, "b": {}}
        for k in strata:
            base = rng.normal(size=prompts)
            d = 0.2 + seed + effect[k] + of_both * rng.normal(size=prompts)
            rows["a"][k], rows["b"][k] = base + d, base
        for arm, by_stratum in rows.items():
            listed = {
                k: {f"p{i}": float(v) for i, v in enumerate(x)} for k, x in by_stratum.items()
            }
            tables[arm, r] = PromptValues({k: 1 / len(strata) for k in strata}, listed)
            values[arm][r] = float(np.mean([x.mean() for x in by_stratum.values()]))
    return values, tables


def test_one_stratum_is_the_crossed_random_effects_model():
    """SE^2 of the balanced two-way random model: (MS_R + MS_P - MS_E) / (R P)."""
    values, tables = crossed(np.random.default_rng(5), 6, 30)
    found = estimate(values, PAIR, ByPrompt.of(tables))
    d = np.array(
        [
            [
                tables["a", r].values["k"][f"p{i}"] - tables["b", r].values["k"][f"p{i}"]
                for i in range(30)
            ]
            for r in range(6)
        ]
    )
    grand, row, column = d.mean(), d.mean(axis=1), d.mean(axis=0)
    ms_r = 30 * ((row - grand) ** 2).sum() / 5
    ms_p = 6 * ((column - grand) ** 2).sum() / 29
    ms_e = ((d - row[:, None] - column + grand) ** 2).sum() / (5 * 29)
    assert found.variance == pytest.approx((ms_r + ms_p - ms_e) / 180, rel=1e-9)
    assert found.prompts.both == pytest.approx(ms_e / 180, rel=1e-9)
    assert found.prompts.df == pytest.approx(29)


def test_half_width_adds_what_prompts_add_and_p_is_where_it_ends():
    values, tables = crossed(np.random.default_rng(6), 4, 12, ("k", "l"))
    found = estimate(values, PAIR, ByPrompt.of(tables))
    more = found.prompts.variance - found.prompts.both
    expected = (t_quantile(3, 0.05) * found.seeds.se) ** 2
    expected += t_quantile(found.prompts.df, 0.05) ** 2 * more
    assert found.half_width(0.05) == pytest.approx(math.sqrt(expected))
    assert found.half_width(0.05) > found.half_width(0.05, narrow=True)
    lo, hi = found.interval(found.p())
    assert min(abs(lo), abs(hi)) < 1e-9
    assert found.p(narrow=True) < found.p()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 8), st.integers(2, 20))
def test_never_narrower_than_seeds_alone(seed, replicates, prompts):
    values, tables = crossed(np.random.default_rng(seed), replicates, prompts)
    found = estimate(values, PAIR, ByPrompt.of(tables))
    for alpha in (0.2, 0.05, 0.01):
        assert found.half_width(alpha) >= found.half_width(alpha, narrow=True)


def test_prompts_that_some_trial_lacks_are_left_out_and_counted():
    values, tables = crossed(np.random.default_rng(7), 3, 10)
    short = tables["a", 1]
    rest = {p: v for p, v in short.values["k"].items() if p not in ("p0", "p3")}
    tables["a", 1] = PromptValues(short.strata, {"k": rest})
    found = estimate(values, PAIR, ByPrompt.of(tables))
    assert (found.prompts.counts, found.prompts.dropped) == ({"k": 8}, 2)


def test_without_prompts_of_every_trial_the_reason_is_said():
    values, tables = crossed(np.random.default_rng(8), 3, 10)
    del tables["b", 2]
    found = estimate(values, PAIR, ByPrompt.of(tables))
    assert found.prompts is None
    assert "b r2" in found.why_not_prompts
    odd = dict(crossed(np.random.default_rng(8), 3, 10)[1])
    odd["b", 2] = PromptValues({"other": 1.0}, {"other": {"p": 1.0}})
    assert "strata" in estimate(values, PAIR, ByPrompt.of(odd)).why_not_prompts
    single, few = crossed(np.random.default_rng(8), 3, 1)
    assert "1 prompt" in estimate(single, PAIR, ByPrompt.of(few)).why_not_prompts


def test_quantiles_and_p_are_scipys():
    for df in (1, 2.5, 30):
        assert t_quantile(df, 0.01) == pytest.approx(stats.t.isf(0.005, df))
        assert p_of(2.3, df) == pytest.approx(2 * stats.t.sf(2.3, df))
