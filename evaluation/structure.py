"""SSIM of the kept region: PIE-Bench's rule and the area rule (Wang et al. 2004).

    ssim = (2 mu_x mu_y + c1)(2 s_xy + c2) / ((mu_x^2 + mu_y^2 + c1)(s_x^2 + s_y^2 + c2))

per channel under an 11-pixel Gaussian window, sigma 1.5, range 1, c1 = 0.01^2, c2 = 0.03^2,
pictures mirrored at the frame: torchmetrics' SSIM, whole map, in float64.

PIE-Bench multiplies both pictures by the mask and averages the map over the frame, so the identical
black region counts as kept, as it does in its PSNR. The area rule takes the map of the unmasked
pictures where the whole window lies in the kept region, and averages over that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from evaluation.edit import Column, Mask, Picture, as_pictures, kept_region

if TYPE_CHECKING:
    from torch import Tensor

SIGMA = 1.5
RADIUS_PX = 5


def ssim_map(x_BCHW: Picture, y_BCHW: Picture) -> Picture:
    """SSIM at every pixel, (B, C, H, W) in [-1, 1].

    Raises:
        ValueError: the shapes differ.
    """
    if x_BCHW.shape != y_BCHW.shape:
        raise ValueError(f"pictures {x_BCHW.shape} and {y_BCHW.shape} must be alike")
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = (torch.from_numpy(np.ascontiguousarray(part)) for part in (x_BCHW, y_BCHW))
    _, whole = structural_similarity_index_measure(
        x, y, sigma=SIGMA, data_range=1.0, reduction="none", return_full_image=True
    )
    ssim: Picture = whole.numpy()
    return ssim


def ssim_outside(images_BCHW: Picture, source_BCHW: Picture, kept_B1HW: Mask) -> Column:
    """SSIM over the windows that lie in the kept region whole; NaN where there is none; (B,)."""
    from scipy.ndimage import minimum_filter

    side = 2 * RADIUS_PX + 1
    # 0 beyond the frame: a window that reaches over it sees mirrored pixels, so it does not lie in
    # the region whole.
    region = minimum_filter(kept_B1HW, size=(1, 1, side, side), mode="constant", cval=0)
    total = (ssim_map(images_BCHW, source_BCHW).mean(axis=1, keepdims=True) * region).sum((1, 2, 3))
    area = region.sum(axis=(1, 2, 3))
    mean_B: Column = np.divide(total, area, out=np.full(len(area), np.nan), where=area > 0)
    return mean_B


def piebench_ssim(images_BCHW: Picture, source_BCHW: Picture, kept_B1HW: Mask) -> Column:
    """SSIM of both pictures times the mask, over the frame; for published tables only; (B,)."""
    masked = ssim_map(images_BCHW * kept_B1HW, source_BCHW * kept_B1HW)
    mean_B: Column = masked.mean(axis=(1, 2, 3))
    return mean_B


def ssim_columns(
    images_u8_BCHW: ArrayLike | Tensor,
    source_u8_BCHW: ArrayLike | Tensor,
    edited_B1HW: ArrayLike | Tensor,
    *,
    dilation_px: int,
) -> dict[str, Column]:
    """Columns `ssim_outside` and `ssim_piebench`, each (B,); NaN where nothing can be compared.

    Args:
        images_u8_BCHW: edited pictures, uint8.
        source_u8_BCHW: pictures before the edit, uint8.
        edited_B1HW: edit mask, non-zero where the instruction changes the picture.
        dilation_px: how far the edit mask is grown.
    """
    images, source = as_pictures(images_u8_BCHW, "images"), as_pictures(source_u8_BCHW, "source")
    kept = kept_region(edited_B1HW, dilation_px)
    compared = np.where(kept.any(axis=(1, 2, 3)), piebench_ssim(images, source, kept), np.nan)
    return {"ssim_outside": ssim_outside(images, source, kept), "ssim_piebench": compared}
