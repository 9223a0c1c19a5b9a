"""Precision, recall, density and coverage from nearest-neighbour balls.

With r_i the distance of real i to its k-th nearest other real, and s_j likewise for fakes:

    precision = mean_j [exists i: |f_j - r_i| < r_i]     recall   = mean_i [exists j: ... < s_j]
    density   = 1/k mean_j #{i: |f_j - r_i| < r_i}       coverage = mean_i [min_j |f_j - r_i| < r_i]

(Kynkaanniemi et al. 2019; Naeem et al. 2020.) Strict `<`, self excluded by index: a point that has
k duplicates has radius 0 and covers nothing. All four depend on the sample sizes: keep both sets
of equal size. Density may exceed 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.matrices import Matrix, check_same_width, feature_matrix

if TYPE_CHECKING:
    from torch import Tensor

METRICS = ("precision", "recall", "density", "coverage")


def neighbour_radii(x_ND: Matrix, k: int, block: int = 1024) -> NDArray[np.float64]:
    """Distance of each sample to its k-th nearest other sample; (N,)."""
    from scipy.spatial.distance import cdist

    radii_N = np.empty(len(x_ND))
    for start in range(0, len(x_ND), block):
        distance = cdist(x_ND[start : start + block], x_ND)
        local = np.arange(len(distance))
        distance[local, start + local] = np.inf
        radii_N[start : start + block] = np.partition(distance, k - 1, axis=1)[:, k - 1]
    return radii_N


def manifold_metrics(
    real_ND: ArrayLike | Tensor,
    fake_MD: ArrayLike | Tensor,
    k: int = 5,
    block: int = 1024,
) -> dict[str, float]:
    """Precision, recall, density and coverage of `fake_MD` against `real_ND`.

    Args:
        real_ND: reference features (N, D).
        fake_MD: measured features (M, D), from the same extractor. N = M by convention.
        k: which nearest neighbour gives a ball its radius.
        block: fakes held at a time.

    Raises:
        ValueError: `k` is not in [1, smaller set), or the sets are malformed.
    """
    from scipy.spatial.distance import cdist

    real, fake = feature_matrix(real_ND, "real"), feature_matrix(fake_MD, "fake")
    check_same_width(real, fake)
    if not 1 <= k < min(len(real), len(fake)):
        raise ValueError(
            f"{k=} must be at least 1 and below both set sizes {(len(real), len(fake))}"
        )
    real_radius_N, fake_radius_M = neighbour_radii(real, k, block), neighbour_radii(fake, k, block)
    inside_count_M = np.empty(len(fake))
    recalled_N = np.zeros(len(real), dtype=bool)
    nearest_N = np.full(len(real), np.inf)
    for start in range(0, len(fake), block):
        chunk = slice(start, start + block)
        distance_MN = cdist(fake[chunk], real)
        inside_count_M[chunk] = (distance_MN < real_radius_N[None]).sum(axis=1)
        recalled_N |= (distance_MN < fake_radius_M[chunk, None]).any(axis=0)
        nearest_N = np.minimum(nearest_N, distance_MN.min(axis=0))
    return {
        "precision": float((inside_count_M > 0).mean()),
        "recall": float(recalled_N.mean()),
        "density": float(inside_count_M.mean() / k),
        "coverage": float((nearest_N < real_radius_N).mean()),
    }


def blockwise_manifold_metrics(
    real_ND: ArrayLike | Tensor, fake_MD: ArrayLike | Tensor, k: int, max_blocks: int
) -> dict[str, float]:
    """The four metrics at equal sizes, averaged over disjoint blocks of a larger reference.

    The reference is cut into blocks of M rows in their given order, `max_blocks` at most; a rest
    smaller than M is not used. With fewer than M rows it is used whole.
    """
    real, fake = feature_matrix(real_ND, "real"), feature_matrix(fake_MD, "fake")
    n_blocks = max(1, min(max_blocks, len(real) // len(fake)))
    parts = [
        manifold_metrics(real[i * len(fake) : (i + 1) * len(fake)], fake, k)
        for i in range(n_blocks)
    ]
    return {name: float(np.mean([part[name] for part in parts])) for name in METRICS}
