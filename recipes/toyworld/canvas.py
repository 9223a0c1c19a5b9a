"""Soft-edged shapes and colours on a 24 x 24 canvas, for a whole batch at once.

Parameters are (B, 1, 1) tensors in pixels; masks are (B, 24, 24) in [0, 1]; colours are (B, 3).
Everything is computed in the dtype of its inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

SIZE = 24
FREE = 20
"""Free variables of a picture; each category uses a part of them."""


def grid(like: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel centres x and y, each (1, 24, 24), in the dtype of `like`."""
    centres = torch.arange(SIZE, dtype=like.dtype) + 0.5
    return centres.view(1, 1, SIZE).expand(1, SIZE, SIZE), centres.view(1, SIZE, 1).expand(
        1, SIZE, SIZE
    )


def column(values_B: Tensor) -> Tensor:
    """(B,) to (B, 1, 1)."""
    return values_B.view(-1, 1, 1)


def span(u_B: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """Uniform numbers in [0, 1] stretched to [low, high]."""
    return low + u_B * (high - low)


def cover(distance: Tensor, softness: float = 0.9) -> Tensor:
    """Coverage of a shape from its signed distance in pixels (negative inside)."""
    return (0.5 - distance / softness).clamp(0, 1)


def ellipse(x: Tensor, y: Tensor, cx: Tensor, cy: Tensor, rx: Tensor, ry: Tensor) -> Tensor:
    """Approximate signed distance to an ellipse."""
    radius = (((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2).sqrt()
    return (radius - 1) * torch.minimum(rx, ry)


def box(x: Tensor, y: Tensor, cx: Tensor, cy: Tensor, rx: Tensor, ry: Tensor) -> Tensor:
    """Signed distance (Chebyshev) to an upright rectangle with half sizes rx, ry."""
    return torch.maximum((x - cx).abs() - rx, (y - cy).abs() - ry)


def over(image_BCHW: Tensor, colour_BC: Tensor, mask_BHW: Tensor) -> Tensor:
    """Paint a colour through a mask."""
    return image_BCHW + (colour_BC[:, :, None, None] - image_BCHW) * mask_BHW[:, None]


def gradient(top_BC: Tensor, bottom_BC: Tensor, position_BHW: Tensor) -> Tensor:
    """(B, 3, 24, 24) running from one colour at position 0 to another at 1."""
    position = position_BHW.clamp(0, 1)[:, None]
    return top_BC[:, :, None, None] * (1 - position) + bottom_BC[:, :, None, None] * position


def hsv(hue_B: Tensor, saturation_B: Tensor, value_B: Tensor) -> Tensor:
    """Hue (wraps at 1), saturation and value to RGB (B, 3) in [0, 1]."""
    hue, saturation, value = torch.broadcast_tensors(hue_B, saturation_B, value_B)
    shift = torch.tensor([5.0, 3.0, 1.0], dtype=hue.dtype)
    k = (shift + hue[:, None] * 6) % 6
    return value[:, None] * (
        1
        - saturation[:, None]
        * torch.minimum(torch.minimum(k, 4 - k).clamp(min=0), torch.ones(()).to(k))
    )


def mix(a: Tensor, b: Tensor, share: float | Tensor) -> Tensor:
    """Linear blend: `share` of b."""
    return a + (b - a) * share


def table(rows: list[list[float]] | list[float], index_B: Tensor, like: Tensor) -> Tensor:
    """Rows of a small constant table, selected per sample, in the dtype of `like`."""
    return torch.tensor(rows, dtype=like.dtype)[index_B]


def backdrop(u: Tensor, x: Tensor, y: Tensor, saturation: float, value: float) -> Tensor:
    """A two-colour gradient of any hue with faint upright or level stripes."""
    full = torch.ones_like(u[:, 0])
    top = hsv(u[:, 0], full * saturation, full * value)
    bottom = hsv(
        u[:, 0] + 0.22 * (u[:, 1] - 0.5), full * (saturation + 0.12), full * (value - 0.20)
    )
    image = gradient(top, bottom, y / SIZE)
    rate = column(span(u[:, 2], 0.5, 1.2))
    along = torch.where(column(u[:, 3]) > 0.5, x, y)
    strength = column(0.08 * (2 * u[:, 3] % 1))
    return image + (strength * torch.sin(along * rate))[:, None]
