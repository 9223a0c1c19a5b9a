"""Precision, recall, density, coverage on points one can count by hand, duplicates included."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.jackknife import assign_groups
from evaluation.manifold import (
    ManifoldTerms,
    manifold_jackknives,
    manifold_metrics,
    neighbour_radii,
)


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_radii_exclude_the_point_itself_by_index() -> None:
    assert neighbour_radii(column(0, 0, 1, 5), k=1).tolist() == [0, 0, 1, 4]
    assert neighbour_radii(column(0, 0, 1, 5), k=2).tolist() == [1, 1, 1, 5]


def test_hand_made_set() -> None:
    real, fake = column(0, 1, 2, 10), column(0.5, 1.5, 9, 30)
    # k=1: real radii 1, 1, 1, 8; fake radii 1, 1, 7.5, 21.
    # Inside: 0.5 in balls of 0 and 1; 1.5 in 1 and 2; 9 in 10's; 30 in none.
    # 10's ball is (2, 18): 2 itself is a real, not a fake. Strict: nothing else.
    got = manifold_metrics(real, fake, k=1)
    # Recall: 0 and 1 near 0.5, 2 near 1.5, 10 near 9.
    assert got == {
        "precision": 3 / 4,
        "recall": 1.0,
        "density": (2 + 2 + 1 + 0) / 4,
        "coverage": 1.0,
    }


def test_the_edge_of_a_ball_is_outside() -> None:
    got = manifold_metrics(column(0, 1), column(2, 5), k=1)
    # 2 is at distance exactly 1 from real 1, whose radius is 1.
    assert got["precision"] == 0
    assert got["coverage"] == 0


def test_duplicates_cover_nothing() -> None:
    """A collapsed set has radius 0: strict < gives no recall, where <= would give some."""
    real = column(0, 1, 2, 3)
    got = manifold_metrics(real, column(1, 1, 1, 1), k=2)
    assert got["recall"] == 0
    assert got["precision"] == 1
    # Real radii 2, 1, 1, 2: 1 is strictly inside the balls of 0 and 1, on the edge of 2's and 3's.
    assert got["coverage"] == 0.5
    assert got["density"] == 1.0


def test_same_distribution_is_near_the_top_and_a_far_one_at_zero() -> None:
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(300, 4)), rng.normal(size=(300, 4))
    same = manifold_metrics(real, fake, k=5)
    assert min(same["precision"], same["recall"], same["coverage"]) > 0.85
    assert same["density"] == pytest.approx(1, abs=0.15)
    assert set(manifold_metrics(real, fake + 50, k=5).values()) == {0.0}


def test_swapping_the_sets_swaps_precision_and_recall() -> None:
    rng = np.random.default_rng(1)
    real, fake = rng.normal(size=(80, 3)), 0.3 * rng.normal(size=(80, 3))
    forward, backward = manifold_metrics(real, fake, 3), manifold_metrics(fake, real, 3)
    assert forward["precision"] == backward["recall"] > forward["recall"]
    assert forward["recall"] == backward["precision"]


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_blocks_do_not_change_the_value(block: int) -> None:
    rng = np.random.default_rng(2)
    real, fake = rng.normal(size=(50, 3)), rng.normal(size=(40, 3))
    assert manifold_metrics(real, fake, 3, block=block) == manifold_metrics(real, fake, 3)


def test_large_reference_is_used_in_blocks_of_equal_size() -> None:
    rng = np.random.default_rng(3)
    real, fake = rng.normal(size=(75, 3)), rng.normal(size=(30, 3))
    parts = [manifold_metrics(real[i : i + 30], fake, 3) for i in (0, 30)]
    got = ManifoldTerms.build(real, fake, k=3, max_blocks=8, label_M=assign_groups(30, 5)).shares()
    for name, value in got.items():
        assert value == pytest.approx((parts[0][name] + parts[1][name]) / 2)


def test_too_few_samples_for_k() -> None:
    with pytest.raises(ValueError, match="k=5"):
        manifold_metrics(np.zeros((5, 2)), np.zeros((9, 2)), k=5)


def test_terms_leave_a_group_out_exactly() -> None:
    """Against the plain chunked reading, for all fakes and without each group, ties included."""
    rng = np.random.default_rng(4)
    real, fake = rng.integers(0, 4, (60, 2)), rng.integers(0, 3, (30, 2))
    terms = ManifoldTerms.build(real, fake, k=3, max_blocks=2, label_M=assign_groups(30, 5))
    for group in (None, *range(5)):
        kept = fake if group is None else fake[terms.label_M != group]
        parts = [manifold_metrics(real[i : i + 30], kept, 3) for i in (0, 30)]
        for name, value in terms.shares(group).items():
            assert value == np.mean([part[name] for part in parts]), (name, group)


def test_a_small_reference_is_used_whole() -> None:
    rng = np.random.default_rng(5)
    real, fake = rng.normal(size=(20, 3)), rng.normal(size=(30, 3))
    terms = ManifoldTerms.build(real, fake, k=3, max_blocks=8, label_M=assign_groups(30, 5))
    assert terms.shares() == manifold_metrics(real, fake, 3)


def test_jackknife_error_matches_the_spread_over_samples() -> None:
    """Over new fakes against one fixed set of reals; sharp edges make it conservative at most."""
    rng = np.random.default_rng(6)
    real, groups = rng.normal(size=(192, 4)), assign_groups(96, 24)
    runs = [
        manifold_jackknives(
            [ManifoldTerms.build(real, 1.2 * rng.normal(size=(96, 4)) + 0.3, 5, 1, groups)], [24]
        )
        for _ in range(60)
    ]
    for name in ("precision", "recall", "density", "coverage"):
        spread = np.std([run[name].value for run in runs], ddof=1)
        error = np.mean([run[name].se for run in runs])
        assert 0.7 * spread < error < 2.0 * spread, (name, error / spread)
