"""Diversity: mean pairwise distance between the draws of an item."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.diversity import draw_diversity


def test_mean_over_pairs_and_single_draws_left_out() -> None:
    features = np.array([[0.0, 0.0], [3.0, 4.0], [9.0, 9.0], [0.0, 0.0], [7.0, 7.0]])
    got = draw_diversity(features, ["a", "a", "b", "a", "c"])
    assert got == {"a": pytest.approx((5 + 0 + 5) / 3)}


def test_collapsed_draws_have_none() -> None:
    assert draw_diversity(np.ones((3, 4)), ["a"] * 3) == {"a": 0.0}


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 item ids"):
        draw_diversity(np.ones((3, 4)), ["a", "b"])
