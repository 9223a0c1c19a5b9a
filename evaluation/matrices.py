"""Feature matrices as every distance here takes them: finite float64 arrays, one row a sample."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

Matrix = NDArray[np.float64]


def feature_matrix(features_ND: ArrayLike | Tensor, name: str, min_rows: int = 2) -> Matrix:
    """Return the features as a contiguous float64 array (N, D).

    Args:
        features_ND: array or tensor (N, D), any real dtype, any device.
        name: what to call it in an error.
        min_rows: the fewest samples the caller can work with.

    Raises:
        ValueError: not two-dimensional, fewer than `min_rows` rows, or values that are not finite.
    """
    if hasattr(features_ND, "detach"):
        features_ND = features_ND.detach().cpu().double().numpy()
    # In float32 a Frechet distance of 200 samples was .9 % off, a kernel distance up to .8 %.
    matrix = np.ascontiguousarray(features_ND, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError(f"{name} has shape {matrix.shape}; it must be (samples, features)")
    if len(matrix) < min_rows:
        raise ValueError(f"{name} has {len(matrix)} samples; at least {min_rows} are needed")
    if not np.isfinite(matrix).all():
        bad = int((~np.isfinite(matrix)).any(axis=1).sum())
        raise ValueError(f"{name} has NaN or infinity in {bad} of {len(matrix)} samples")
    return matrix


def check_same_width(x_ND: Matrix, y_MD: Matrix) -> None:
    """Raise ValueError unless both sets have the same number of features."""
    if x_ND.shape[1] != y_MD.shape[1]:
        raise ValueError(
            f"the two sets have {x_ND.shape[1]} and {y_MD.shape[1]} features; "
            "they must come from the same extractor"
        )


def unit_rows(features_ND: Matrix) -> Matrix:
    """Rows scaled to length 1; a row of zeros stays zero."""
    length_N1 = np.linalg.norm(features_ND, axis=1, keepdims=True)
    return features_ND / np.where(length_N1 > 0, length_N1, 1.0)
