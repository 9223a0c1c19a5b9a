"""The step-down against Holm, its verdict table, kinds as members, and the veto of divergence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from harness.analysis.divergence import winner_filled
from harness.analysis.explore import benjamini_hochberg, error_rates
from harness.analysis.inference import estimate, one_group
from harness.analysis.kinds import Best, Collapse, Linear, More, TimeDifference, all_pairs
from harness.analysis.step_down import Reading, step_down, verdict_of
from harness.planning.crossing import crossing

PAIR = one_group([{"a": 1.0, "b": -1.0}])


def linear(seed, shift, n=6, margin=None, better=True):
    rng = np.random.default_rng(seed)
    values = {
        "a": {r: float(shift + v) for r, v in enumerate(rng.normal(size=n))},
        "b": dict.fromkeys(range(n), 0.0),
    }
    return Linear(estimate(values, PAIR), margin, better)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 3), min_size=1, max_size=8), st.integers(0, 10**6))
def test_without_margins_it_is_holm_exactly(shifts, seed):
    members = [linear(seed + i, shift) for i, shift in enumerate(shifts)]
    holm = multipletests([m.p for m in members], 0.05, method="holm")[0]
    decided = step_down(members, 0.05)
    assert [d.reading.verdict != "undecided" for d in decided] == list(holm)
    for member, d in zip(members, decided, strict=True):  # the interval agrees with its p
        assert (d.left * member.p < 0.05) == (d.reading.lo > 0 or d.reading.hi < 0)


def test_contrasts_taken_out_still_count():
    member = linear(0, 1.4)
    alone, of_three = step_down([member], 0.05)[0], step_down([member], 0.05, family=3)[0]
    assert (alone.left, of_three.left) == (1, 3)
    assert of_three.reading.hi > alone.reading.hi


@dataclass
class Fixed:
    """Equivalent at 0.05, or beyond the margin from 0.04 on."""

    verdict: str
    below: float
    p: float | None = None

    def at(self, alpha):
        decided = alpha >= self.below
        leaves = decided and self.verdict != "equivalent"
        return Reading(self.verdict if decided else "undecided", leaves=leaves)


def test_equivalent_does_not_leave():
    members = [Fixed("equivalent", 0.02), Fixed("improves", 0.05)]
    assert [d.left for d in step_down(members, 0.05)] == [2, 2]
    assert [d.left for d in step_down([Fixed("improves", 0.02), members[1]], 0.05)] == [2, 1]


@pytest.mark.parametrize(
    ("interval", "margin", "better", "verdict", "leaves"),
    [
        ((-0.5, 0.5), 1.0, True, "equivalent", False),
        ((0.1, 0.9), 1.0, True, "equivalent", False),  # before "different from 0"
        ((1.1, 2.0), 1.0, True, "improves", True),
        ((1.1, 2.0), 1.0, False, "harms", True),
        ((-2.0, -1.1), 1.0, False, "improves", True),
        ((0.1, 2.0), 1.0, True, "improves (size unsettled)", False),
        ((-2.0, -0.1), 1.0, True, "harms (size unsettled)", False),
        ((0.1, 2.0), None, True, "improves", True),
        ((-0.1, 2.0), None, True, "undecided", False),
        ((-2.0, 2.0), 1.0, True, "undecided", False),
        ((0.1, 2.0), None, None, "undecided", True),
        (None, 1.0, True, "undecided", False),
    ],
)
def test_verdict_table_read_from_the_top(interval, margin, better, verdict, leaves):
    reading = verdict_of(interval, margin, better)
    assert (reading.verdict, reading.leaves) == (verdict, leaves)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 4), min_size=1, max_size=10), st.integers(0, 10**6))
def test_exploratory_intervals_agree_with_their_adjusted_p(shifts, seed):
    members = [linear(seed + i, shift) for i, shift in enumerate(shifts)]
    p = [m.p for m in members]
    adjusted = benjamini_hochberg(p)
    assert adjusted == pytest.approx(list(multipletests(p, method="fdr_bh")[1]))
    for member, q, rate in zip(members, adjusted, error_rates(adjusted, 0.05), strict=True):
        lo, hi = member.found.interval(rate)
        assert (q <= 0.05) == (lo > 0 or hi < 0)


def test_more_needs_the_sum_and_the_difference_on_one_side():
    def effect(mean, seed):
        rng = np.random.default_rng(seed)
        return {r: float(mean + 0.1 * v) for r, v in enumerate(rng.normal(size=6))}

    def member(first, second):
        one, two = effect(first, 1), effect(second, 2)
        minus, plus = ({"d": {r: one[r] + s * two[r] for r in one}} for s in (-1, 1))
        cells = one_group([{"d": 1.0}])
        return More(estimate(minus, cells), estimate(plus, cells))

    assert member(2.0, 0.5).at(0.05).verdict == "more"
    assert member(-2.0, 0.5).at(0.05).verdict == "more"
    assert member(0.5, -2.0).at(0.05).verdict == "less"
    assert member(1.0, 1.0).at(0.05).verdict == "undecided"
    assert member(1.0, -1.0).at(0.05).verdict == "undecided"


def test_the_best_set_loses_a_level_only_to_a_better_one():
    rng = np.random.default_rng(3)
    means = {"x": 0.0, "y": 2.0, "z": 2.05}
    values = {
        k: {r: m + 0.3 * float(v) for r, v in enumerate(rng.normal(size=6))}
        for k, m in means.items()
    }
    pairs = {
        (i, j): estimate(values, one_group([{i: 1.0, j: -1.0}])) for i, j in all_pairs(list(means))
    }
    high, low = (Best(tuple(means), pairs, better) for better in (True, False))
    assert high.kept(0.05) == ("y", "z")
    assert low.kept(0.05) == ("x",)
    assert high.at(0.05).leaves is False
    assert low.p < 0.05


def test_collapse_is_judged_against_its_margin():
    def lost(mean, seed):
        rng = np.random.default_rng(seed)
        row = {r: float(mean + 0.05 * v) for r, v in enumerate(rng.normal(size=6))}
        return estimate({"a": row}, one_group([{"a": 1.0}]))

    fell = Collapse({50: lost(0.0, 1), 100: lost(1.0, 2)}, margin=0.3)
    assert (fell.at(0.05).verdict, fell.at(0.05).step) == ("collapses", 100)
    assert fell.at(fell.p * 0.99).verdict == "undecided"
    assert fell.at(fell.p * 1.01).verdict == "collapses"
    assert Collapse({50: lost(0.0, 1), 100: lost(0.1, 2)}, margin=0.3).at(0.05).verdict == "holds"
    assert Collapse({50: lost(0.29, 1)}, margin=0.3).at(0.05).verdict == "undecided"


def test_crossing_is_interpolated_and_censored_at_the_last_cycle():
    curve = {10: 0.0, 20: 1.0, 40: 3.0}
    assert crossing(curve, 2.0, rising=True) == 30.0
    assert crossing(curve, 0.0, rising=True) == 10.0
    assert crossing(curve, 9.0, rising=True) == 40.0
    assert crossing({10: 3.0, 20: 1.0}, 2.0, rising=False) == 15.0
    assert crossing({}, 1.0, rising=True) is None
    times = {"a": {0: 10.0, 1: 12.0, 2: 11.0}, "b": {0: 30.0, 1: 31.0, 2: 33.0}}
    assert TimeDifference(estimate(times, PAIR)).at(0.05).verdict == "sooner"


def vetoed(values, states, better=True, n=6):
    found = estimate(values, PAIR)
    return winner_filled(found, values, PAIR, states, higher_is_better=better, replicates=range(n))


def test_a_winner_that_diverged_is_filled_with_the_worst_difference_seen():
    rng = np.random.default_rng(5)
    values = {
        "a": {r: 1.0 + 0.1 * float(v) for r, v in enumerate(rng.normal(size=5))},
        "b": dict.fromkeys(range(6), 0.0),
    }
    states = {"a": {5: "diverged"}}
    filled, diverged = vetoed(values, states)
    assert diverged == {"a": [5]}
    assert filled.seeds.per_replicate[5] == pytest.approx(min(values["a"].values()))
    assert filled.seeds.n == 6
    # where lower is better, b wins, and the loser's divergence changes nothing
    assert vetoed(values, states, better=False) is None
    assert vetoed(values, {"a": {5: "failed"}}) is None


def test_a_verdict_that_falls_with_the_fill_is_undecided():
    values = {"a": {0: 1.0, 1: 1.1, 2: 1.05}, "b": dict.fromkeys(range(7), 0.0)}
    wide = {"a": {0: 1.0, 1: 0.1, 2: 1.9}, "b": dict.fromkeys(range(7), 0.0)}
    firm, shaky = estimate(values, PAIR), estimate(wide, PAIR)
    assert Linear(firm, None, True, False, shaky).at(0.05).vetoed == "improves"
    assert Linear(firm, None, True, False, shaky).at(0.05).verdict == "undecided"
    assert Linear(firm, None, True, False, firm).at(0.05).verdict == "improves"
