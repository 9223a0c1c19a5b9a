"""Draws portraits: a face with large eyes and mouth, hair, and glasses or a hat.

Takes attribute indices (B, n) and free variables (B, FREE) uniform in [0, 1]; shapes are composed
back to front into pictures (B, 3, 24, 24) in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from recipes.toyworld.canvas import (
    backdrop,
    box,
    column,
    cover,
    ellipse,
    grid,
    hsv,
    mix,
    over,
    span,
    table,
)


def portrait(index_BA: Tensor, u: Tensor) -> Tensor:
    """A face with large eyes and mouth. Attributes: skin, hair, expression, accessory."""
    skin_index, hair_index, expression, accessory = index_BA.unbind(1)
    x, y = grid(u)
    image = backdrop(u, x, y, 0.30, 0.92)

    skin = table([[0.98, 0.83, 0.72], [0.84, 0.62, 0.44], [0.52, 0.34, 0.24]], skin_index, u)
    skin = skin * span(u[:, 4], 0.94, 1.05)[:, None]
    hair = table([[0.13, 0.11, 0.14], [0.93, 0.76, 0.36], [0.74, 0.27, 0.12]], hair_index, u)
    hair = hair * span(u[:, 5], 0.85, 1.12)[:, None]
    cx, cy = column(span(u[:, 6], 10.4, 13.6)), column(span(u[:, 7], 12.2, 13.8))
    rx, ry = column(span(u[:, 8], 5.4, 6.5)), column(span(u[:, 9], 6.6, 7.6))

    length = column(span(u[:, 10], -1.0, 7.0))
    back = ellipse(x, y, cx, cy - 1.4, rx + 1.5, ry + 0.9)
    fall = box(x, y, cx, cy + length / 2, rx + 1.2, (length / 2 + 0.5).clamp(min=0.1))
    image = over(image, hair, cover(torch.minimum(back, fall)) * cover(y - cy - length - 1.0, 2.0))
    shirt = hsv(u[:, 11], u[:, 11] * 0 + 0.55, span(u[:, 12], 0.5, 0.85))
    image = over(image, shirt, cover(ellipse(x, y, cx, cy * 0 + 25.5, rx + 4.0, cy * 0 + 5.0)))
    image = over(image, skin * 0.86, cover(box(x, y, cx, cy + ry, rx * 0 + 1.9, rx * 0 + 1.8)))
    image = over(image, skin, cover(ellipse(x, y, cx, cy, rx, ry)))
    fringe = torch.maximum(
        ellipse(x, y, cx, cy, rx + 0.3, ry + 0.3),
        y - cy + column(span(u[:, 13], 3.4, 4.6)) - 0.14 * (x - cx) * column(u[:, 14] - 0.5) * 2,
    )
    image = over(image, hair, cover(fringe))

    image = _features(image, x, y, cx, cy, skin, expression, u)
    return _accessory(image, x, y, cx, cy, rx, ry, accessory, u).clamp(0, 1)


def _features(
    image: Tensor,
    x: Tensor,
    y: Tensor,
    cx: Tensor,
    cy: Tensor,
    skin: Tensor,
    expression: Tensor,
    u: Tensor,
) -> Tensor:
    """Eyes, cheeks and mouth; the expression shows in all of them."""
    smile, sad, wonder = (column(expression == k).to(u) for k in range(3))
    dark = table([[0.20, 0.10, 0.10]], expression * 0, u).expand_as(skin)
    gap = column(span(u[:, 15], 2.5, 3.0))
    ey = cy - 0.9
    for side in (-1.0, 1.0):
        dx = x - cx - side * gap
        size = 1.15 + 0.75 * wonder
        white = ellipse(dx, y, 0 * cx, ey, size + 0.35, size)
        image = over(image, torch.ones_like(skin), cover(white) * (1 - smile))
        look = 0.5 * (column(u[:, 16]) - 0.5)
        pupil = ellipse(dx - look, y, 0 * cx, ey + 0.25 * sad, 0 * cx + 0.85, 0 * cx + 0.9)
        image = over(image, dark, cover(pupil) * (1 - smile))
        arc = (y - ey + 0.6 - 0.28 * dx**2).abs() - 0.55  # happy eyes: arches
        image = over(image, dark, cover(torch.maximum(arc, dx.abs() - 1.7)) * smile)
        lid = (y - ey + 1.9 - 0.6 * side * dx).abs() - 0.45  # sad brows fall outwards
        image = over(image, dark, 0.85 * cover(torch.maximum(lid, dx.abs() - 1.6)) * sad)
        blush = ellipse(dx - side * 0.8, y, 0 * cx, cy + 2.0, 0 * cx + 1.3, 0 * cx + 0.9)
        image = over(
            image,
            mix(skin, skin * 0 + table([[0.95, 0.40, 0.40]], expression * 0, u), 0.5),
            0.7 * cover(blush, 1.5) * smile,
        )
    width = column(span(u[:, 17], 2.7, 3.5))
    my, dx = cy + 3.7, x - cx
    lip = table([[0.66, 0.16, 0.20]], expression * 0, u).expand_as(skin)
    bow = torch.maximum(y - (my + 1.6 - 2.3 * (dx / width) ** 2), my - 0.7 - y)
    image = over(image, lip, cover(torch.maximum(bow, dx.abs() - width)) * smile)
    image = over(
        image,
        torch.ones_like(skin),
        cover(torch.maximum(box(dx, y, 0 * cx, my - 0.3, width - 0.9, 0 * cx + 0.5), bow)) * smile,
    )
    frown = (y - my + 0.5 - 1.9 * (dx / width) ** 2).abs() - 0.6
    image = over(image, lip, cover(torch.maximum(frown, dx.abs() - width)) * sad)
    mouth = ellipse(dx, y, 0 * cx, my + 0.2, 0.62 * width, 0 * cx + 2.1)
    image = over(image, lip, cover(mouth) * wonder)
    return over(image, dark, cover(mouth + 0.8) * wonder)


def _accessory(
    image: Tensor,
    x: Tensor,
    y: Tensor,
    cx: Tensor,
    cy: Tensor,
    rx: Tensor,
    ry: Tensor,
    accessory: Tensor,
    u: Tensor,
) -> Tensor:
    """Glasses or a hat, of free hue."""
    glasses, hat = column(accessory == 1).to(u), column(accessory == 2).to(u)
    gap, ey = column(span(u[:, 15], 2.5, 3.0)), cy - 0.8
    frame = hsv(u[:, 18], u[:, 18] * 0 + 0.75, span(u[:, 19], 0.16, 0.5))
    for side in (-1.0, 1.0):
        ring = box(x, y, cx + side * gap, ey, 0 * cx + 2.35, 0 * cx + 2.1).abs() - 0.42
        image = over(image, frame, cover(ring, 0.7) * glasses)
    bridge = box(x, y, cx, ey - 0.3, gap - 2.0, 0 * cx + 0.45)
    arms = torch.maximum(box(x, y, cx, ey - 0.3, rx, 0 * cx + 0.45), gap + 2.0 - (x - cx).abs())
    image = over(image, frame, cover(torch.minimum(bridge, arms), 0.7) * glasses)
    cloth = hsv(u[:, 18], u[:, 18] * 0 + 0.65, span(u[:, 19], 0.5, 0.9))
    brim = cy - ry + 2.7
    crown = torch.maximum(ellipse(x, y, cx, brim, rx + 0.6, 0 * cx + 6.4), y - brim)
    image = over(image, cloth, cover(crown) * hat)
    image = over(
        image, cloth * 0.55, cover(box(x, y, cx, brim - 1.5, rx + 0.5, 0 * cx + 0.6)) * hat
    )
    return over(image, cloth * 0.8, cover(ellipse(x, y, cx, brim, rx + 3.2, 0 * cx + 1.1)) * hat)
