"""Main effects, interactions and the Pareto front against hand computations and statsmodels."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from harness.analysis.effects import interactions, level_contrasts, main_effects
from harness.analysis.inference import one_group, over_seeds
from harness.analysis.tradeoffs import front, pareto, pick_metrics
from harness.contract import MetricSpec
from harness.journal.trial import Arm
from harness.study.planned_contrast import weights_of

FACTORS = {"f": ["0", "1", "2"], "g": ["x", "y"]}


def arm(baseline=False, **levels):
    return Arm(name="-".join(levels.values()), levels=levels, recipe={}, baseline=baseline)


FULL = [arm(f=f, g=g) for f, g in itertools.product(*FACTORS.values())]
ONE = [arm(f="1", g="x", baseline=True), arm(f="0", g="x"), arm(f="2", g="x"), arm(f="1", g="y")]


def test_levels_are_compared_with_the_baseline_within_matched_cells():
    found = {(c.factor, c.level): c for c in level_contrasts(ONE, FACTORS)}
    assert found["f", "0"].pairs == (("0-x", "1-x"),)
    assert found["g", "y"].pairs == (("1-y", "1-x"),)
    assert ("f", "1") not in found
    crossed = {(c.factor, c.level): c for c in level_contrasts(FULL, FACTORS)}
    assert set(crossed["f", "2"].pairs) == {("2-x", "0-x"), ("2-y", "0-y")}


def test_a_level_without_partner_in_any_cell_is_left_out():
    arms = [arm(f="0", g="x"), arm(f="1", g="y")]
    assert level_contrasts(arms, FACTORS) == []
    assert main_effects(arms, FACTORS) == []


def test_main_effects_are_the_sum_coded_coefficients():
    rng = np.random.default_rng(0)
    values = {a.name: {r: float(rng.normal()) for r in range(4)} for a in FULL}
    rows = [(*a.levels.values(), r, values[a.name][r]) for a in FULL for r in range(4)]
    data = pd.DataFrame(rows, columns=["f", "g", "r", "y"])
    fit = smf.ols("y ~ C(f, Sum) * C(g, Sum) + C(r, Sum)", data).fit()
    found = {
        (f, v): over_seeds(values, one_group(cells)).per_replicate
        for f, v, cells in main_effects(FULL, FACTORS)
    }
    assert np.mean(list(found["f", "0"].values())) == pytest.approx(fit.params["C(f, Sum)[S.0]"])
    assert np.mean(list(found["g", "x"].values())) == pytest.approx(fit.params["C(g, Sum)[S.x]"])
    for factor, levels in FACTORS.items():
        total = sum(np.array(list(found[factor, v].values())) for v in levels)
        assert total == pytest.approx(np.zeros(4), abs=1e-12)


def test_interactions_are_treatment_coded():
    rng = np.random.default_rng(1)
    values = {a.name: {r: float(rng.normal()) for r in range(3)} for a in FULL}
    rows = [(*a.levels.values(), r, values[a.name][r]) for a in FULL for r in range(3)]
    data = pd.DataFrame(rows, columns=["f", "g", "r", "y"])
    fit = smf.ols("y ~ C(f) * C(g) + C(r)", data).fit()
    for item in interactions(FULL, FACTORS):
        found = over_seeds(values, one_group(item.cells))
        name = f"C(f)[T.{item.levels[0]}]:C(g)[T.{item.levels[1]}]"
        assert found.difference == pytest.approx(fit.params[name])
        # on all values its own: the spread of the replicates' differences, and no other arm's
        sums = np.array(list(found.per_replicate.values()))
        assert found.se == pytest.approx(sums.std(ddof=1) / np.sqrt(3))


def test_one_factor_designs_have_no_interactions():
    assert interactions(ONE, FACTORS) == []


def test_front_by_hand_with_ties_and_gaps():
    points = np.array([[0, 3], [1, 2], [1, 2], [1, 1], [2, 0], [np.nan, 9], [2, -1]], float)
    assert front(points).tolist() == [True, True, True, False, True, False, False]


def test_membership_follows_the_noise_and_the_directions():
    replicates = range(6)
    x = {"good": dict.fromkeys(replicates, 1.0), "bad": dict.fromkeys(replicates, 2.0)}
    x["rival"] = {r: 1.0 + (0.3 if r % 2 else -0.3) for r in replicates}
    y = {name: dict.fromkeys(replicates, 5.0) for name in x}
    found = {p.arm: p for p in pareto(x, y, better=(False, True))}
    assert not found["bad"].on_front
    assert found["bad"].probability == 0.0
    assert 0.2 < found["rival"].probability < 0.8
    again = {p.arm: p for p in pareto(x, y, better=(False, True))}
    assert again == found
    flipped = {p.arm: p for p in pareto(x, y, better=(True, True))}
    assert flipped["bad"].on_front


def test_membership_needs_two_replicates_and_leaves_out_arms_without_values():
    found = pareto({"a": {0: 1.0}, "b": {}}, {"a": {0: 1.0}, "b": {0: 2.0}}, (True, True))
    assert [(p.arm, p.probability) for p in found] == [("a", 1.0)]


def test_the_pair_prefers_another_family_of_metrics():
    up, down = (MetricSpec(higher_is_better=b, headline=True) for b in (True, False))
    specs = {"edit/a": up, "edit/b": up, "t2i/kd": down, "t2i/none": MetricSpec(headline=True)}
    assert pick_metrics(specs, "edit/b") == ("t2i/kd", "edit/b")
    assert pick_metrics({"edit/a": up, "edit/b": up}, "edit/b") == ("edit/a", "edit/b")
    assert pick_metrics({"edit/b": up}, "edit/b") is None
    assert pick_metrics(specs, "t2i/none") is None


def test_weights_of_a_level_contrast_sum_to_zero():
    for contrast in level_contrasts(FULL, FACTORS):
        assert sum(weights_of(contrast.pairs).values()) == pytest.approx(0)
