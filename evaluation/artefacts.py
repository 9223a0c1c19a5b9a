"""Artefacts of one picture, without any reference: residual noise, colour saturation, clipping.

Residual noise is the side effect that joint training is reported to have, most visible on plain
backgrounds. With N = [1 -2 1]^T [1 -2 1] (Immerkaer 1996, "Fast noise variance estimation"),

    sigma = 1.4826 median |N * I| / 6    over the plainest quarter of the picture,

6 being the length of N: white noise of standard deviation s gives s. N answers nothing to any sum
f(x) + g(y), so gradients and upright stripes are no noise. Plain is where the picture averaged over
3 x 3 pixels has the smallest gradient; for white noise such an average is uncorrelated with N at
its centre, so choosing plain places does not choose quiet ones. Noise on white or black is clipped
by the 8-bit range and reads low; the rounding itself reads as about 0.001.

Saturation is the mean S of HSV, (max - min) / max over the channels: strong guidance raises it
(arXiv 2410.02416). Clipping is the share of channel values within two levels of 0 or 255: what 8
bits keep of values that guidance pushes out of range (arXiv 2205.11487, on thresholding). Neither
has a good direction; rendered or real pictures show what is normal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evaluation.edit import Column, Picture, as_pictures

if TYPE_CHECKING:
    from torch import Tensor

PLAIN_SHARE = 0.25
CLIPPED_WITHIN = 2.5 / 255
MAD_TO_SIGMA = 1.4826


def residual_noise(images_u8_BCHW: ArrayLike | Tensor) -> Column:
    """Standard deviation of the noise on each picture's plainest quarter, on the scale [0, 1].

    Args:
        images_u8_BCHW: uint8 pictures, at least 6 pixels a side.

    Returns:
        (B,) float64, 0 or more.

    Raises:
        ValueError: not uint8 pictures, or too small.
    """
    images = as_pictures(images_u8_BCHW, "images")
    if min(images.shape[2:]) < 6:
        raise ValueError(f"pictures of {images.shape[2:]} are too small; 6 x 6 is the least")
    # Drop the outermost pixels of N's answer, where the gradient of the average is not defined.
    answer_BCP = np.abs(_second(_second(images, 2), 3))[:, :, 1:-1, 1:-1] / 6.0
    answer_BCP = answer_BCP.reshape(*images.shape[:2], -1)
    slope_BP = _slope(images).reshape(len(images), -1)
    count = max(1, round(PLAIN_SHARE * slope_BP.shape[1]))
    plain_BP = np.argpartition(slope_BP, count - 1, axis=1)[:, :count]
    chosen_BCP = np.take_along_axis(answer_BCP, plain_BP[:, None], axis=2)
    # Clean renderings read 0.0004 to 0.0012; added noise of 0.02 to 0.1 within 12 %, below 0.01 up
    # to a third too much on portraits. Slanted texture is taken for noise.
    sigma_B: Column = MAD_TO_SIGMA * np.median(chosen_BCP.reshape(len(images), -1), axis=1)
    return sigma_B


def saturation(images_u8_BCHW: ArrayLike | Tensor) -> Column:
    """Mean HSV saturation of each picture; black has none; (B,) in [0, 1]."""
    images = as_pictures(images_u8_BCHW, "images")
    brightest, darkest = images.max(axis=1), images.min(axis=1)
    share_BHW = (brightest - darkest) / np.where(brightest > 0, brightest, 1.0)
    mean_B: Column = share_BHW.mean(axis=(1, 2))
    return mean_B


def clipped_share(images_u8_BCHW: ArrayLike | Tensor) -> Column:
    """Share of channel values within two levels of 0 or 255, per picture; (B,) in [0, 1]."""
    images = as_pictures(images_u8_BCHW, "images")
    clipped: NDArray[np.bool_] = (images < CLIPPED_WITHIN) | (images > 1 - CLIPPED_WITHIN)
    share_B: Column = clipped.mean(axis=(1, 2, 3))
    return share_B


def _second(images: Picture, axis: int) -> Picture:
    """Second difference along an axis, two shorter."""
    left, middle, right = (np.moveaxis(images, axis, 0)[i : i - 2 or None] for i in range(3))
    return np.moveaxis(left - 2 * middle + right, 0, axis)


def _slope(images: Picture) -> Picture:
    """Squared gradient of the 3 x 3 average, channels added; (B, H - 4, W - 4)."""
    rows = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    average = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9.0
    down = average[:, :, 2:, 1:-1] - average[:, :, :-2, 1:-1]
    across = average[:, :, 1:-1, 2:] - average[:, :, 1:-1, :-2]
    slope: Picture = (down**2 + across**2).sum(axis=1)
    return slope
