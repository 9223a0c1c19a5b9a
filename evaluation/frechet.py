"""Frechet distance between two sets of features, in float64.

    d^2 = |mu_x - mu_y|^2 + Tr(S_x) + Tr(S_y) - 2 Tr((S_x S_y)^1/2),   S with 1/(N-1)

With S_x = F_x^T F_x and S_y = F_y^T F_y, the last trace is the nuclear norm (sum of singular
values) of F_x F_y^T (FastFID, arXiv 2009.14075): no matrix square root, no imaginary part, no
epsilon. When N < D, F is the centred sample itself (the sample-space form: cost N^2 D, never D^3);
otherwise its QR factor, which keeps digits that squaring into a covariance would lose.

Biased upwards by about a constant over N: compare values at equal N only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from evaluation.matrices import Matrix, feature_matrix

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of a set of features, the covariance in factored form.

    Attributes:
        mean_D: mean.
        factor_RD: F with F^T F = covariance.
    """

    mean_D: Matrix
    factor_RD: Matrix

    @property
    def total_variance(self) -> float:
        """Trace of the covariance."""
        return float((self.factor_RD**2).sum())

    @classmethod
    def from_features(cls, features_ND: ArrayLike | Tensor) -> Gaussian:
        """Fit to features (N, D), N >= 2; see `feature_matrix` for errors."""
        x_ND = feature_matrix(features_ND, "features")
        mean_D = x_ND.mean(axis=0)
        factor = (x_ND - mean_D) / np.sqrt(len(x_ND) - 1)
        if len(x_ND) > x_ND.shape[1]:
            factor = np.linalg.qr(factor, mode="r")
        return cls(mean_D, factor)

    @classmethod
    def from_moments(cls, mean_D: ArrayLike, covariance_DD: ArrayLike) -> Gaussian:
        """From published statistics, by `eigh`; negative eigenvalues are clipped to 0.

        Raises:
            ValueError: the shapes do not belong together or the matrix is not symmetric.
        """
        mean = np.asarray(mean_D, dtype=np.float64)
        covariance = np.asarray(covariance_DD, dtype=np.float64)
        if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
            raise ValueError(f"mean {mean.shape} and covariance {covariance.shape} do not match")
        if not np.allclose(covariance, covariance.T, rtol=1e-6, atol=1e-9):
            raise ValueError("the covariance is not symmetric")
        values_D, vectors_DD = np.linalg.eigh((covariance + covariance.T) / 2)
        return cls(mean, np.sqrt(np.clip(values_D, 0.0, None))[:, None] * vectors_DD.T)


def gaussian_distance(x: Gaussian, y: Gaussian) -> float:
    """Frechet distance (squared, as FID is) between two Gaussians; 0 or more.

    Raises:
        ValueError: the two have different numbers of features.
    """
    if x.mean_D.shape != y.mean_D.shape:
        raise ValueError(
            f"the two sets have {len(x.mean_D)} and {len(y.mean_D)} features; "
            "they must come from the same extractor"
        )
    # Not torchmetrics' FrechetInceptionDistance, which the tests compare with: for float32 features
    # it casts its result to seven digits, below D samples it takes eigenvalues of a product without
    # full rank, and as it keeps sums alone no prompt can be left out for an interval.
    overlap = float(np.linalg.svd(x.factor_RD @ y.factor_RD.T, compute_uv=False).sum())
    shift = float(((x.mean_D - y.mean_D) ** 2).sum())
    # Of sets that are alike the terms cancel, and rounding may leave a little less than 0.
    return max(0.0, shift + x.total_variance + y.total_variance - 2 * overlap)


def frechet_distance(x_ND: ArrayLike | Tensor, y_MD: ArrayLike | Tensor) -> float:
    """Frechet distance between two sets of features.

    Args:
        x_ND: features (N, D), N >= 2.
        y_MD: features (M, D), M >= 2, from the same extractor.

    Returns:
        The squared distance that FID reports, 0 or more.

    Raises:
        ValueError: wrong shapes, too few samples, or values that are not finite.
    """
    return gaussian_distance(Gaussian.from_features(x_ND), Gaussian.from_features(y_MD))
