"""Agreement of pictures with texts: cosine of CLIP embeddings, kept raw per item.

Published scales differ (100 cos in torchmetrics, 2.5 max(cos, 0) in CLIPScore): here it is the
cosine, in tables as well. No clamp, per item or on the mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.matrices import check_same_width, feature_matrix, unit_rows

if TYPE_CHECKING:
    from torch import Tensor


def clip_cosines(
    images_BD: ArrayLike | Tensor, texts_BD: ArrayLike | Tensor
) -> NDArray[np.float64]:
    """Cosine of each picture's embedding with its text's; (B,) in [-1, 1].

    Args:
        images_BD: image embeddings, normalised or not.
        texts_BD: text embeddings, row for row.

    Raises:
        ValueError: shapes differ, or values are not finite.
    """
    images = feature_matrix(images_BD, "image embeddings", min_rows=1)
    texts = feature_matrix(texts_BD, "text embeddings", min_rows=1)
    check_same_width(images, texts)
    if len(images) != len(texts):
        raise ValueError(
            f"{len(images)} pictures but {len(texts)} texts; give one text per picture"
        )
    # Not torchmetrics' CLIPScore 1.9, which raises with transformers 5, drops the end token of
    # texts of more than 77 tokens, and shows a mean below 0 as 0. The formula is the same (tested).
    cosine_B: NDArray[np.float64] = (unit_rows(images) * unit_rows(texts)).sum(axis=1)
    # No clamp at 0: rounding takes the cosine of equal directions a little beyond 1.
    return np.clip(cosine_B, -1.0, 1.0)
