"""Edits: was the instruction followed, was the rest kept, and both at once.

All pixel errors are on [0, 1] pictures. An edit mask marks what the instruction changes; it is
dilated by a few pixels, and what is left is the kept region.

Preservation of one item, a score in [0, 1]:

    preservation = max(0, 1 - rmse / scale)

where rmse is the root mean squared error to a reference over a region, divided by the area of that
region. `scale` is the rmse between unrelated pictures: 0 means "as far as another picture", 1 means
unchanged. Local edits compare with the source over the kept region. Edits that leave less than
`min_kept_share` of the frame (style transfer, enhancement) have no region to keep: they compare
with the true result over the whole frame, so the structure that the instruction leaves is what
counts.

Where a whole-frame edit leaves more free than the truth shows (a new time of day may have any sky),
distance to the one truth rewards the blurred mean over the possible results. An oracle may then say
what was kept instead (`kept`: the share of what the instruction leaves alone that still reads as it
was). Seen on the toy world's scene edits: by pixels the guided teacher at 40 evaluations scored
0.801, below its own four-step blur at 0.832, both following 1.000.

Edit fidelity of one item = sqrt(following * preservation), as O = sqrt(SC * PQ) in VIEScore, then
averaged: a copy of the source keeps everything and follows nothing, and scores 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.matrices import check_same_width, feature_matrix, unit_rows

if TYPE_CHECKING:
    from torch import Tensor

Column = NDArray[np.float64]
Picture = NDArray[np.float64]
Mask = NDArray[np.bool_]

QUANTISATION_MSE = (1 / 255) ** 2 / 12
"""Mean squared rounding error of an 8-bit picture: no PSNR here exceeds 58.9 dB."""


def as_pictures(images_BCHW: ArrayLike | Tensor, name: str) -> Picture:
    """uint8 pictures (B, 3, H, W) as float64 in [0, 1].

    Raises:
        ValueError: another dtype or shape. Floats are refused: their range cannot be known.
    """
    if hasattr(images_BCHW, "detach"):
        images_BCHW = images_BCHW.detach().cpu().numpy()
    images = np.asarray(images_BCHW)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"{name} is {images.dtype} {images.shape}; it must be uint8 (batch, 3, height, width)"
        )
    return images.astype(np.float64) / 255.0


def kept_region(edited_B1HW: ArrayLike | Tensor, dilation_px: int) -> Mask:
    """True outside the edit mask after dilating it by `dilation_px` (8-neighbourhood).

    Args:
        edited_B1HW: non-zero (or True) where the edit happens.
        dilation_px: 0 or more.
    """
    from scipy.ndimage import binary_dilation

    if hasattr(edited_B1HW, "detach"):
        edited_B1HW = edited_B1HW.detach().cpu().numpy()
    edited = np.asarray(edited_B1HW) != 0
    if edited.ndim != 4 or edited.shape[1] != 1:
        raise ValueError(f"mask has shape {edited.shape}; it must be (batch, 1, height, width)")
    if dilation_px > 0:
        square = np.ones((1, 1, 3, 3), dtype=bool)
        edited = binary_dilation(edited, structure=square, iterations=dilation_px)
    kept: Mask = ~edited
    return kept


def masked_mse(images_BCHW: Picture, reference_BCHW: Picture, region_B1HW: Mask) -> Column:
    """Mean squared error over the region, divided by its area; NaN where it is empty; (B,)."""
    _check_alike(images_BCHW, reference_BCHW, region_B1HW)
    square = ((images_BCHW - reference_BCHW) ** 2 * region_B1HW).sum(axis=(1, 2, 3))
    area = region_B1HW.sum(axis=(1, 2, 3)) * images_BCHW.shape[1]
    empty = np.full(len(square), np.nan)
    mse_B: Column = np.divide(square, area, out=empty, where=area > 0)
    return mse_B


def psnr(mse_B: Column, mse_floor: float = QUANTISATION_MSE) -> Column:
    """-10 log10(mse) in dB per picture, the mse not below `mse_floor` (0 allows infinity)."""
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(np.maximum(mse_B, mse_floor))


def piebench_psnr(
    images_BCHW: Picture,
    source_BCHW: Picture,
    region_B1HW: Mask,
    mse_floor: float = QUANTISATION_MSE,
) -> Column:
    """PSNR by PIE-Bench's rule: both pictures times the mask, averaged over the whole frame.

    The masked-out share f inflates it by -10 log10(1 - f) dB over the area-normalised PSNR; it is
    here for comparison with published tables only. PIE-Bench itself has no floor (`mse_floor=0`).
    """
    _check_alike(images_BCHW, source_BCHW, region_B1HW)
    square = (images_BCHW * region_B1HW - source_BCHW * region_B1HW) ** 2
    return psnr(square.mean(axis=(1, 2, 3)), mse_floor)


@dataclass(frozen=True)
class Preservation:
    """Per-item columns, each (B,) float64.

    Attributes:
        score: preservation in [0, 1].
        against_truth: True where the reference was the true result over the whole frame.
        rmse_outside: to the source over the kept region; NaN where nothing is kept.
        rmse_inside: to the true result over the (dilated) edited region; NaN where it is empty.
            Free attributes of a new object (its hue, its place) make part of it irreducible.
        psnr_outside: area-normalised, dB; NaN where nothing is kept.
        psnr_piebench: PIE-Bench's rule, dB; NaN where nothing is kept.
    """

    score: Column
    against_truth: NDArray[np.bool_]
    rmse_outside: Column
    rmse_inside: Column
    psnr_outside: Column
    psnr_piebench: Column


def preservation(
    images_u8_BCHW: ArrayLike | Tensor,
    source_u8_BCHW: ArrayLike | Tensor,
    truth_u8_BCHW: ArrayLike | Tensor,
    edited_B1HW: ArrayLike | Tensor,
    *,
    scale: float,
    min_kept_share: float,
    dilation_px: int,
) -> Preservation:
    """Score how much of what the instruction leaves alone was kept; see the file's docstring.

    Args:
        images_u8_BCHW: edited pictures, uint8.
        source_u8_BCHW: pictures before the edit, uint8.
        truth_u8_BCHW: true results, uint8.
        edited_B1HW: edit mask, non-zero where the instruction changes the picture.
        scale: rmse on [0, 1] pixels at which the score reaches 0; above 0.
        min_kept_share: kept share of the frame below which the truth is the reference; in [0, 1].
        dilation_px: how far the edit mask is grown.

    Raises:
        ValueError: wrong dtypes, shapes or ranges.
    """
    if not scale > 0 or not 0 <= min_kept_share <= 1:
        raise ValueError(f"{scale=} must be above 0 and {min_kept_share=} in [0, 1]")
    images, source = as_pictures(images_u8_BCHW, "images"), as_pictures(source_u8_BCHW, "source")
    truth = as_pictures(truth_u8_BCHW, "truth")
    kept = kept_region(edited_B1HW, dilation_px)
    outside_mse = masked_mse(images, source, kept)
    frame_rmse = np.sqrt(masked_mse(images, truth, np.ones_like(kept)))
    kept_share = kept.mean(axis=(1, 2, 3))
    # With a least share of 0, too, an edit of the whole frame has no region to compare with the
    # source.
    against_truth = (kept_share < min_kept_share) | (kept_share == 0)
    rmse = np.where(against_truth, frame_rmse, np.sqrt(outside_mse))
    nothing_kept = np.isnan(outside_mse)
    return Preservation(
        score=np.clip(1.0 - rmse / scale, 0.0, 1.0),
        against_truth=against_truth,
        rmse_outside=np.sqrt(outside_mse),
        rmse_inside=np.sqrt(masked_mse(images, truth, ~kept)),
        psnr_outside=psnr(outside_mse),
        psnr_piebench=np.where(nothing_kept, np.nan, piebench_psnr(images, source, kept)),
    )


def edit_fidelity(following_B: ArrayLike, preservation_B: ArrayLike) -> Column:
    """sqrt(following * preservation) per item; (B,) in [0, 1].

    Raises:
        ValueError: the shapes differ or a value is outside [0, 1].
    """
    following = np.asarray(following_B, dtype=np.float64)
    preserved = np.asarray(preservation_B, dtype=np.float64)
    if following.shape != preserved.shape or following.ndim != 1:
        raise ValueError(f"shapes {following.shape} and {preserved.shape} must be equal and flat")
    for name, column in (("following", following), ("preservation", preserved)):
        # Written so that NaN is refused as well.
        if not ((column >= 0) & (column <= 1)).all():
            raise ValueError(f"{name} must be in [0, 1]; got {column.min()} to {column.max()}")
    return np.sqrt(following * preserved)


def moved(source_images_BD: ArrayLike | Tensor, images_BD: ArrayLike | Tensor) -> NDArray[np.bool_]:
    """Whether each picture's embedding differs from its source's, both of length 1; (B,).

    Embeddings are float32: a step below 1e-6 of their length is rounding, not an edit.
    """
    return _steps(source_images_BD, images_BD)[1]


def direction_similarity(
    source_images_BD: ArrayLike | Tensor,
    images_BD: ArrayLike | Tensor,
    source_texts_BD: ArrayLike | Tensor,
    target_texts_BD: ArrayLike | Tensor,
) -> Column:
    """cos(I_1 - I_0, T_1 - T_0) of CLIP embeddings normalised first (InstructPix2Pix).

    Returns:
        The cosine per item, (B,): 0 where the picture did not move at all (count them with
        `moved`), NaN where the two texts are the same, so that no direction was asked for.
    """
    step_BD, edited_B = _steps(source_images_BD, images_BD)
    asked_BD, told_B = _steps(source_texts_BD, target_texts_BD)
    check_same_width(step_BD, asked_BD)
    cosine = (unit_rows(step_BD) * unit_rows(asked_BD)).sum(axis=1)
    return np.where(told_B, np.where(edited_B, cosine, 0.0), np.nan)


def _steps(
    from_BD: ArrayLike | Tensor, to_BD: ArrayLike | Tensor
) -> tuple[Column, NDArray[np.bool_]]:
    start_BD = unit_rows(feature_matrix(from_BD, "embeddings before", min_rows=1))
    end_BD = unit_rows(feature_matrix(to_BD, "embeddings after", min_rows=1))
    step_BD = end_BD - start_BD
    return step_BD, np.linalg.norm(step_BD, axis=1) > 1e-6


def _check_alike(images: Picture, reference: Picture, region: Mask) -> None:
    expected = (images.shape[0], 1, *images.shape[2:])
    if images.shape != reference.shape or region.shape != expected:
        raise ValueError(
            f"pictures {images.shape}, reference {reference.shape} and mask {region.shape} do not "
            f"belong together; the mask must be {expected}"
        )
