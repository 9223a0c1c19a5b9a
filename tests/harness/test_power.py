"""Power over seeds and prompts: against published tables, scipy, and simulation."""

import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.planning.power import (
    MAX_REPLICATES,
    PlannedPrompts,
    PlannedSpread,
    assured,
    both_needed,
    detectable,
    floor_of_prompts,
    floor_of_seeds,
    power,
    power_over,
    prompts_needed,
    quantile_chi2,
    quantile_t,
    replicates_needed,
)

EFFECTS = (0.5, 0.8, 1.0, 1.5, 2.0, 3.0)


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.05, [34, 15, 10, 6, 5, 4]),
        (0.01, [51, 22, 16, 9, 7, 5]),
        (0.005, [58, 25, 18, 10, 8, 6]),
    ],
)
def test_replicates_needed_agree_with_the_table(alpha: float, expected: list[int]) -> None:
    assert [replicates_needed(effect, alpha) for effect in EFFECTS] == expected


@pytest.mark.parametrize(
    ("n", "alone", "of_five"),
    [
        (2, 11.5, 57.7),
        (3, 3.3, 7.3),
        (4, 2.1, 3.7),
        (5, 1.7, 2.6),
        (6, 1.4, 2.1),
        (8, 1.2, 1.6),
        (10, 1.0, 1.3),
    ],
)
def test_what_tiny_numbers_find_agrees_with_the_table(n: int, alone: float, of_five: float) -> None:
    assert detectable(n) == pytest.approx(alone, abs=0.05 + 1e-2)
    assert detectable(n, 0.05 / 5) == pytest.approx(of_five, abs=0.05)


@pytest.mark.parametrize("n", [2, 3, 4, 6, 10, 30, 200])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 7])
def test_power_agrees_with_scipy(n: int, alpha: float) -> None:
    from scipy import special, stats

    critical = stats.t.isf(alpha / 2, n - 1)
    for effect in (0.0, 0.3, 1.0, 2.5):
        shift = effect * n**0.5
        lower = special.nctdtr(n - 1, shift, -critical)
        lower = 0.0 if math.isnan(lower) else lower  # scipy gives up where it is below 1e-10
        expected = lower + 1 - special.nctdtr(n - 1, shift, critical)
        # nctdtr itself is good to about 1e-6 in the tails at one degree of freedom
        assert power(effect, n, alpha) == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("df", [1, 2, 3, 5, 9, 33, 190.5, 999])
def test_quantiles_agree_with_scipy(df: float) -> None:
    from scipy import stats

    for probability in (0.05, 0.2, 0.5, 0.95):
        expected = stats.chi2.ppf(probability, df)
        assert quantile_chi2(df, probability) == pytest.approx(expected, rel=1e-10)
    for alpha in (0.2, 0.05, 0.05 / 12):
        assert quantile_t(df, alpha) == pytest.approx(stats.t.isf(alpha / 2, df), rel=1e-7)


def test_a_pilot_s_spread_is_taken_as_large_as_it_may_well_be() -> None:
    factors = [round(assured(df), 2) for df in (1, 2, 3, 5, 9)]
    assert factors == [3.95, 2.12, 1.73, 1.46, 1.29]


@pytest.mark.parametrize("pilot", [3, 4, 6, 10])
@pytest.mark.parametrize("n", [4, 8])
def test_the_promised_power_is_reached_in_four_of_five_pilots(pilot: int, n: int) -> None:
    rng = random.Random(pilot)
    runs, reached, naive = 3000, 0, 0
    for _ in range(runs):
        seen = statistics.stdev(rng.gauss(0, 1) for _ in range(pilot))  # the truth is 1
        promised = detectable(n, 0.01, spread=PlannedSpread(seen * assured(pilot - 1)))
        reached += promised >= detectable(n, 0.01)
        naive += seen >= 1
    assert reached / runs == pytest.approx(0.8, abs=4 * (0.16 / runs) ** 0.5)
    assert naive / runs < 0.5, "the pilot's own spread promises too much in more than half"


def test_power_agrees_with_simulation() -> None:
    rng = random.Random(7)
    n, effect, runs = 6, 1.2, 4000
    critical = 2.5705818  # t quantile at 0.975, 5 degrees of freedom
    found = 0
    for _ in range(runs):
        differences = [rng.gauss(effect, 1) for _ in range(n)]
        t = statistics.fmean(differences) / (statistics.stdev(differences) / n**0.5)
        found += abs(t) > critical
    error = (0.25 / runs) ** 0.5
    assert found / runs == pytest.approx(power(effect, n), abs=4 * error)


@pytest.mark.parametrize("n", [2, 3, 6, 40])
def test_no_effect_has_the_error_rate(n: int) -> None:
    assert power(0, n, 0.05) == pytest.approx(0.05, abs=1e-6)


def test_detectable_reaches_the_target_and_no_more() -> None:
    for n in (2, 5, 9):
        assert power(detectable(n, 0.01), n, 0.01) == pytest.approx(0.8, abs=1e-6)


def test_unaffordable_effects_have_no_number() -> None:
    assert replicates_needed(0.0) is None
    assert replicates_needed(0.01) is None
    needed = replicates_needed(0.1)
    assert needed is not None
    assert 700 < needed <= MAX_REPLICATES


SPREADS = st.floats(1e-6, 1e3)
ALPHAS = st.sampled_from([0.05, 0.05 / 2, 0.05 / 5, 0.05 / 12])


@given(n=st.integers(2, 49), alpha=ALPHAS, spread=SPREADS)
@settings(max_examples=60, deadline=None)
def test_more_seeds_detect_less_at_every_number(n: int, alpha: float, spread: float) -> None:
    more, fewer = (
        detectable(n + 1, alpha, spread=PlannedSpread(spread)),
        detectable(n, alpha) * spread,
    )
    assert more < fewer
    assert detectable(n, alpha / 2) > detectable(n, alpha)


@given(
    n=st.integers(3, 40),
    alpha=ALPHAS,
    added=st.floats(0.001, 30),
    shared=st.floats(0, 1),
    prompts=st.integers(10, 300),
    strata=st.integers(1, 5),
)
@settings(max_examples=25, deadline=None)
def test_more_seeds_and_more_prompts_detect_less(
    n: int, alpha: float, added: float, shared: float, prompts: int, strata: int
) -> None:
    spread = PlannedSpread(1.0, PlannedPrompts(added, shared, prompts - strata, prompts, strata))
    now = detectable(n, alpha, spread=spread)
    assert detectable(n + 1, alpha, spread=spread) < now * (1 + 1e-4)
    assert detectable(n, alpha, spread=spread.at(2 * prompts)) < now
    assert now > detectable(n, alpha), "never narrower than seeds only"
    assert floor_of_seeds(alpha, spread) < now
    assert floor_of_prompts(n, alpha, spread) < now


def test_what_is_needed_is_what_is_detected() -> None:
    spread = PlannedSpread(0.02, PlannedPrompts(0.01**2, 0.005**2, 33, 34, 1))
    alpha, wanted = 0.0125, 0.045
    n = replicates_needed(wanted, alpha, spread=spread)
    assert n is not None
    assert detectable(n, alpha, spread=spread) <= wanted < detectable(n - 1, alpha, spread=spread)
    number = prompts_needed(0.046, 6, alpha, spread)
    assert number is not None
    assert detectable(6, alpha, spread=spread.at(number)) <= 0.046
    assert detectable(6, alpha, spread=spread.at(number - 1)) > 0.046
    low = 0.02
    assert low < floor_of_seeds(alpha, spread)
    assert low < floor_of_prompts(6, alpha, spread)
    assert replicates_needed(low, alpha, spread=spread) is None
    assert prompts_needed(low, 6, alpha, spread) is None
    found = both_needed(low, alpha, spread)
    assert found is not None
    assert detectable(found[0], alpha, spread=spread.at(found[1])) <= low


def test_without_spread_of_prompts_a_claim_over_both_is_the_narrow_one() -> None:
    none = PlannedSpread(2.0, PlannedPrompts(0.0, 0.0, 33, 34))
    assert detectable(6, 0.01, spread=none) == 2.0 * detectable(6, 0.01)
    tiny = PlannedSpread(2.0, PlannedPrompts(1e-9, 0.0, 33, 34))
    assert detectable(6, 0.01, spread=tiny) == pytest.approx(2.0 * detectable(6, 0.01), rel=1e-3)


@pytest.mark.parametrize(
    ("n", "prompts", "by_prompt"), [(3, 34, 1.0), (6, 34, 1.0), (6, 10, 2.0), (10, 192, 0.5)]
)
def test_power_over_both_agrees_with_simulated_studies(
    n: int, prompts: int, by_prompt: float
) -> None:
    """The two-way layout drawn at random and judged by P2 finds what it should in 80 %."""
    import numpy as np

    from harness.analysis.inference import ByPrompt, estimate, one_group
    from harness.journal.prompt_values import PromptValues

    alpha, both, seeds = 0.05 / 4, 0.6, 0.15
    shared = both**2 / prompts
    spread = PlannedSpread(
        math.sqrt(seeds**2 + shared),
        PlannedPrompts(by_prompt**2 / prompts, shared, prompts - 1, prompts),
    )
    difference = detectable(n, alpha, spread=spread)
    assert power_over(difference, n, alpha, spread) == pytest.approx(0.8, abs=1e-6)
    rng = np.random.default_rng(n * prompts)
    runs, found = 500, 0
    zero = PromptValues({"all": 1.0}, {"all": {str(p): 0.0 for p in range(prompts)}})
    for _ in range(runs):
        eta = difference + by_prompt * rng.normal(size=prompts)
        eta = eta + seeds * rng.normal(size=(n, 1)) + both * rng.normal(size=(n, prompts))
        tables, values = {}, {"a": {}, "b": {}}
        for r in range(n):
            rows = {str(p): float(v) for p, v in enumerate(eta[r])}
            tables["a", r], tables["b", r] = PromptValues({"all": 1.0}, {"all": rows}), zero
            values["a"][r], values["b"][r] = float(eta[r].mean()), 0.0
        read = ByPrompt.of(tables)
        lo, hi = estimate(values, one_group([{"a": 1.0, "b": -1.0}]), read).interval(alpha)
        found += lo > 0 or hi < 0
    assert found / runs == pytest.approx(0.8, abs=4 * (0.16 / runs) ** 0.5 + 0.02)


@pytest.mark.parametrize(("n", "alpha"), [(1, 0.05), (0, 0.05), (6, 0.0), (6, 1.0)])
def test_impossible_tests_are_refused(n: int, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"replicate|alpha"):
        power(1.0, n, alpha)
