"""Diversity inside a prompt: how far apart the draws of one item are in feature space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from evaluation.matrices import feature_matrix

if TYPE_CHECKING:
    from torch import Tensor


def draw_diversity(features_ND: ArrayLike | Tensor, item_ids: Sequence[str]) -> dict[str, float]:
    """Mean Euclidean distance over all pairs of draws of an item, for each item with two or more.

    Args:
        features_ND: features (N, D), one row per (item, draw).
        item_ids: N item ids.

    Returns:
        item id -> mean pairwise distance, 0 or more; items with one draw are left out.

    Raises:
        ValueError: the lengths differ or the features are malformed.
    """
    from scipy.spatial.distance import pdist

    features = feature_matrix(features_ND, "features", min_rows=1)
    if len(features) != len(item_ids):
        raise ValueError(f"{len(features)} rows of features but {len(item_ids)} item ids")
    rows_by_item: dict[str, list[int]] = {}
    for row, item_id in enumerate(item_ids):
        rows_by_item.setdefault(item_id, []).append(row)
    return {
        item_id: float(np.mean(pdist(features[rows])))
        for item_id, rows in rows_by_item.items()
        if len(rows) > 1
    }
