"""Levels of repeated looks: against the table of the procedure, and against simulated t tests."""

import math

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.special import stdtr

from harness.analysis.spending import calibrated, levels
from harness.journal.records import Spending


def smallest_p(at_most: int, first: int, studies: int, seed: int) -> np.ndarray:
    """Two-sided p of the paired t at every look of many studies of one true null: (looks, S)."""
    x = np.random.default_rng(seed).standard_normal((studies, at_most))
    found = []
    for n in range(first, at_most + 1):
        t = x[:, :n].mean(axis=1) / (x[:, :n].std(axis=1, ddof=1) / np.sqrt(n))
        found.append(2 * stdtr(n - 1, -np.abs(t)))
    return np.array(found)


def test_levels_are_those_of_the_procedure():
    """Its table was simulated, and begins at the second replicate: three digits, 5 %."""
    found = levels(7, 0.05, first=2)
    assert found == pytest.approx([0.0043, 0.0054, 0.0088, 0.0132, 0.0190, 0.0258], rel=0.06)
    assert found[0] == pytest.approx(0.05 * (2 / 7) ** 2)  # the first look spends what it may


@pytest.mark.parametrize(("at_most", "alpha"), [(6, 0.05), (10, 0.05), (10, 0.0125), (14, 0.1)])
def test_what_is_spent_by_each_look_is_what_may_be(at_most, alpha):
    """Rejected by look n of a true null: alpha (n / N)^2, on 400,000 simulated sequences of t."""
    p = smallest_p(at_most, 3, 200_000, seed=at_most)
    rejected = np.cumsum(p < np.array(levels(at_most, alpha))[:, None], axis=0) > 0
    rates = rejected.mean(axis=1)
    for n, rate in zip(range(3, at_most + 1), rates, strict=True):
        wanted = alpha * (n / at_most) ** 2
        assert rate == pytest.approx(wanted, abs=4 * np.sqrt(wanted / 200_000) + 0.005 * wanted)


def test_gaussian_levels_would_spend_too_much():
    """The same cumulative spending with the known-variance process: this is why t is followed."""
    x = np.random.default_rng(1).standard_normal((200_000, 7))
    z = np.cumsum(x, axis=1)[:, 2:] / np.sqrt(np.arange(3, 8))
    alive, edges = np.ones(len(x), bool), []
    for column, n in enumerate(range(3, 8)):
        new = 0.05 * (n / 7) ** 2 - (0.05 * ((n - 1) / 7) ** 2 if column else 0.0)
        edges.append(np.sort(np.abs(z[alive, column]))[-int(new * len(x))])
        alive &= np.abs(z[:, column]) < edges[-1]
    gaussian = np.array([math.erfc(edge / math.sqrt(2)) for edge in edges])
    p = smallest_p(7, 3, 200_000, seed=2)
    assert (p < gaussian[:, None]).any(axis=0).mean() > 0.055
    assert (p < np.array(levels(7, 0.05))[:, None]).any(axis=0).mean() < 0.052


def test_levels_grow_with_alpha_at_every_look():
    """Else a contrast could lose its verdict when others leave."""
    made = calibrated(8, 0.05, 12)
    shares = np.geomspace(1e-5, 1.0, 200)
    for n in range(3, 9):
        found = np.array([made.level(n, alpha) for alpha in shares])
        assert np.all(np.diff(found) > 0)
        assert np.all(found <= shares)


def test_between_the_kept_levels_it_is_as_if_calibrated_there():
    made = calibrated(10, 0.05, 12)
    for left in (1, 3, 5, 7, 12):
        own = [made.level(n, 0.05 / left) for n in range(3, 11)]
        assert own == pytest.approx(levels(10, 0.05 / left), rel=0.012)


def test_p_corrected_for_looking_is_the_alpha_that_its_look_needs():
    made = calibrated(6, 0.05, 3)
    for n in (3, 4, 6):
        for p in (1e-6, 0.003, 0.02, 0.4):
            corrected = made.alpha_of(n, p)
            assert corrected >= p
            assert corrected == 1.0 or made.level(n, corrected) == pytest.approx(p, rel=1e-6)
    assert made.alpha_of(3, 0.0) == 0.0


def test_what_is_no_table_of_levels_is_refused():
    good = calibrated(4, 0.05, 1, cells=20).model_dump()
    for change in (
        {"levels": good["levels"][1:]},
        {"alphas": good["alphas"][::-1]},
        {"first": 5},
        {"levels": [[0.0, 0.1]] * len(good["alphas"])},
    ):
        with pytest.raises(ValidationError):
            Spending.model_validate({**good, **change})
    with pytest.raises(ValueError, match="the first look is after 3"):
        calibrated(2, 0.05, 1)
