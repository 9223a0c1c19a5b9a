"""Kernel distances: squared maximum mean discrepancy (MMD) as a U-statistic, in float64.

    MMD^2_u = sum_{i!=j} k(x_i,x_j) / N(N-1) + sum_{i!=j} k(y_i,y_j) / M(M-1) - 2 mean k(x_i,y_j)

The diagonal is left out of the first two terms only, so the expectation is 0 when both sets come
from one distribution: values slightly below 0 are legal. No subsets, no random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.jackknife import Groups
from evaluation.matrices import Matrix, check_same_width, feature_matrix, unit_rows

if TYPE_CHECKING:
    from torch import Tensor

Kernel = Callable[[Matrix, Matrix], Matrix]

CMMD_SIGMA = 10.0
CMMD_SCALE = 1000.0


def polynomial(x_ND: Matrix, y_MD: Matrix) -> Matrix:
    """The kernel of KID (Binkowski et al. 2018): (x.y / D + 1)^3, as (N, M)."""
    kernel_NM: Matrix = (x_ND @ y_MD.T / x_ND.shape[1] + 1.0) ** 3
    return kernel_NM


def gaussian_rbf(x_ND: Matrix, y_MD: Matrix) -> Matrix:
    """The kernel of CMMD (Jayasumana et al. 2024): exp(-|x-y|^2 / (2 sigma^2)), sigma 10."""
    square_NM = (x_ND**2).sum(1)[:, None] + (y_MD**2).sum(1)[None] - 2 * x_ND @ y_MD.T
    # Rounding leaves the squared distance of equal rows a little below 0.
    kernel_NM: Matrix = np.exp(-np.clip(square_NM, 0.0, None) / (2 * CMMD_SIGMA**2))
    return kernel_NM


def mean_within(x_ND: Matrix, kernel: Kernel = polynomial, block: int = 1024) -> float:
    """Mean of k(x_i, x_j) over i != j, `block` rows at a time."""
    total = 0.0
    for start in range(0, len(x_ND), block):
        rows = kernel(x_ND[start : start + block], x_ND)
        local = np.arange(len(rows))
        rows[local, start + local] = 0.0
        total += float(rows.sum())
    return total / (len(x_ND) * (len(x_ND) - 1))


def mean_across(
    x_ND: Matrix, y_MD: Matrix, kernel: Kernel = polynomial, block: int = 1024
) -> NDArray[np.float64]:
    """For each x, the mean of k(x, y_j) over all y; (N,)."""
    parts = [
        kernel(x_ND[start : start + block], y_MD).mean(axis=1)
        for start in range(0, len(x_ND), block)
    ]
    return np.concatenate(parts)


def kernel_distance(
    x_ND: ArrayLike | Tensor,
    y_MD: ArrayLike | Tensor,
    kernel: Kernel = polynomial,
    block: int = 1024,
) -> float:
    """Unbiased squared MMD between two sets of features (KID over all samples at once).

    Args:
        x_ND: features (N, D), N >= 2.
        y_MD: features (M, D), M >= 2, from the same extractor.
        kernel: (N, D), (M, D) -> (N, M).
        block: rows of the kernel matrix held at a time; the result does not depend on it beyond
            rounding.

    Raises:
        ValueError: wrong shapes, too few samples, or values that are not finite.
    """
    x, y = feature_matrix(x_ND, "x"), feature_matrix(y_MD, "y")
    check_same_width(x, y)
    cross = float(mean_across(x, y, kernel, block).mean())
    return mean_within(x, kernel, block) + mean_within(y, kernel, block) - 2 * cross


def cmmd(x_ND: ArrayLike | Tensor, y_MD: ArrayLike | Tensor) -> float:
    """CMMD-U: the CMMD of arXiv 2401.09603 as a U-statistic, on L2-normalised embeddings, x 1000.

    The published code and its ports use the V-statistic, whose floor for equal distributions is
    about 2000 (1 - mean k) / N; this one has none.
    """
    x, y = unit_rows(feature_matrix(x_ND, "x")), unit_rows(feature_matrix(y_MD, "y"))
    return CMMD_SCALE * kernel_distance(x, y, gaussian_rbf)


@dataclass(frozen=True)
class KernelTerms:
    """What a kernel distance to a fixed reference needs of each sample; leaves groups out cheaply.

    Attributes:
        within_NN: k(x_i, x_j), diagonal 0.
        across_N: for each x the mean kernel with the reference.
        reference_mean: mean of the reference's kernel with itself, i != j.
        label_N: jackknife group of each sample.
    """

    within_NN: Matrix
    across_N: NDArray[np.float64]
    reference_mean: float
    label_N: Groups

    @classmethod
    def build(
        cls,
        x_ND: ArrayLike | Tensor,
        reference_MD: ArrayLike | Tensor,
        label_N: Groups,
        kernel: Kernel = polynomial,
        reference_mean: float | None = None,
    ) -> KernelTerms:
        """Compute the terms; give `reference_mean` where it is already known."""
        x, y = feature_matrix(x_ND, "x"), feature_matrix(reference_MD, "reference")
        check_same_width(x, y)
        within_NN = kernel(x, x)
        np.fill_diagonal(within_NN, 0.0)
        known = mean_within(y, kernel) if reference_mean is None else reference_mean
        return cls(within_NN, mean_across(x, y, kernel), known, label_N)

    def distance(self, without_group: int | None = None) -> float:
        """Unbiased squared MMD, of all samples or without one group."""
        kept = slice(None) if without_group is None else self.label_N != without_group
        within = self.within_NN[kept][:, kept]
        n = len(within)
        cross = float(self.across_N[kept].mean())
        return float(within.sum()) / (n * (n - 1)) + self.reference_mean - 2 * cross
