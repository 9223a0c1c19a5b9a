"""Power of the paired t: against a published table, scipy, and simulation."""

import math
import random
import statistics

import pytest

from harness.analyse.power import (
    MAX_REPLICATES,
    detectable,
    power,
    replicates_needed,
    sign_flip_floor,
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
    ("n", "smallest"), [(3, 3.3), (4, 2.1), (5, 1.7), (6, 1.4), (8, 1.2), (10, 1.0)]
)
def test_detectable_effect_agrees_with_the_table(n: int, smallest: float) -> None:
    assert detectable(n) == pytest.approx(smallest, abs=0.05)


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


def test_pooled_variance_agrees_with_scipy() -> None:
    from scipy import special, stats

    critical = stats.t.isf(0.025, 10)
    shift = 2.0 * 3**0.5
    expected = special.nctdtr(10, shift, -critical) + 1 - special.nctdtr(10, shift, critical)
    assert power(2.0, 3, df=10) == pytest.approx(expected, abs=1e-6)
    assert power(detectable(3, df=10), 3, df=10) == pytest.approx(0.8, abs=1e-6)


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


def test_sign_flip_floor() -> None:
    assert [sign_flip_floor(n) for n in (0, 1, 5, 6)] == [1.0, 1.0, 0.0625, 0.03125]


@pytest.mark.parametrize(("n", "alpha"), [(1, 0.05), (0, 0.05), (6, 0.0), (6, 1.0)])
def test_impossible_tests_are_refused(n: int, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"replicate|alpha"):
        power(1.0, n, alpha)
