"""Draws landscapes: sky, sun or moon, relief, ground and an object.

Takes attribute indices (B, n) and free variables (B, FREE) uniform in [0, 1]; shapes are composed
back to front into pictures (B, 3, 24, 24) in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from recipes.toyworld.canvas import (
    SIZE,
    box,
    column,
    cover,
    ellipse,
    gradient,
    grid,
    hsv,
    mix,
    over,
    span,
    table,
)

_STARS = [(2.5, 3.5), (7.5, 1.5), (11.5, 6.5), (16.5, 2.5), (20.5, 7.5), (5.5, 8.5)]


def landscape(index_BA: Tensor, u: Tensor) -> Tensor:
    """Sky, sun or moon, relief, ground and an object. Attributes: time, ground, relief, object."""
    time, ground, relief, thing = index_BA.unbind(1)
    x, y = grid(u)
    night, sunset = column(time == 2).to(u), column(time == 1).to(u)

    top = hsv(
        span(u[:, 0], table([0.54, 0.70, 0.60], time, u), table([0.62, 0.84, 0.70], time, u)),
        table([0.62, 0.50, 0.72], time, u),
        span(u[:, 1], table([0.78, 0.46, 0.16], time, u), table([0.96, 0.66, 0.28], time, u)),
    )
    low = hsv(
        span(u[:, 2], table([0.50, 0.99, 0.58], time, u), table([0.57, 1.11, 0.72], time, u)),
        table([0.22, 0.66, 0.50], time, u),
        table([1.0, 1.0, 0.48], time, u),
    )
    light = table([[1.0, 1.0, 1.0], [0.92, 0.66, 0.60], [0.40, 0.46, 0.70]], time, u)
    horizon = column(span(u[:, 3], 11.5, 15.5))
    image = gradient(top, low, (y / horizon) ** 1.2)

    image = _sky(image, x, y, time, u, night, sunset, horizon)

    # The far range: sums of sines for hills, triangle waves with snow caps for mountains.
    phase, rate = column(u[:, 7]) * 6.2832, column(span(u[:, 8], 0.26, 0.46))
    hill = 1.8 + 1.5 * torch.sin(x * rate + phase) + 0.7 * torch.sin(2.1 * x * rate + 2 * phase)
    turn = (x * rate * 0.30 + phase / 6.2832) % 1
    second = (x * rate * 0.47 + 1.7 * phase / 6.2832) % 1
    peak = 1.2 + 6.2 * (1 - (2 * turn - 1).abs()) + 2.6 * (1 - (2 * second - 1).abs())
    height = column(span(u[:, 9], 0.75, 1.2)) * torch.where(column(relief == 1), peak, hill)
    earth = hsv(
        span(u[:, 10], table([0.22, 0.085, 0.54], ground, u), table([0.36, 0.13, 0.62], ground, u)),
        table([0.58, 0.48, 0.06], ground, u),
        span(u[:, 11], table([0.50, 0.78, 0.88], ground, u), table([0.70, 0.95, 1.0], ground, u)),
    )
    rock = hsv(
        span(u[:, 12], 0.56, 0.74),
        torch.full_like(time, 0, dtype=u.dtype) + 0.26,
        u[:, 0] * 0 + 0.50,
    )
    far = torch.where(column(relief == 1)[:, 0], rock, earth * 0.66) * light
    far = mix(far, low, 0.22)
    image = over(image, far, cover(horizon - height - y, 1.0))
    cap = cover(horizon - height - y, 1.0) * cover(y - (horizon - 4.6), 2.0)
    image = over(image, mix(light, low, 0.15), cap * column(relief == 1).to(u))

    ripple = 0.5 * torch.sin(x * 0.5 + phase * 1.3)
    texture = column(span(u[:, 13], 0.0, 0.09)) * torch.sin(
        y * column(span(u[:, 14], 0.7, 1.4)) + 0.25 * x
    )
    shade = 1.0 - 0.16 * ((y - horizon) / 10).clamp(0, 1) + texture
    floor = (earth * light)[:, :, None, None] * shade[:, None]
    near = cover(horizon + ripple - y, 1.0)[:, None]
    image = image * (1 - near) + floor * near

    return _thing(image, x, y, thing, u, light, top, low, night).clamp(0, 1)


def _sky(
    image: Tensor,
    x: Tensor,
    y: Tensor,
    time: Tensor,
    u: Tensor,
    night: Tensor,
    sunset: Tensor,
    horizon: Tensor,
) -> Tensor:
    """Stars, clouds, and the sun or a crescent moon with its glow."""
    for sx, sy in _STARS:
        cx, cy = (sx + 6 * column(u[:, 4])) % SIZE, sy + 2.0 * column(u[:, 5])
        near = ((x - cx) ** 2 + (y - cy) ** 2).sqrt()
        image = over(
            image, torch.ones_like(image[:, :, 0, 0]), 0.75 * cover(near - 0.5, 1.1) * night
        )
    cx = column(span(u[:, 4], 3.5, 20.5))
    cy = mix(column(span(u[:, 5], 3.0, 7.0)), horizon - 3.5 + 3.0 * column(u[:, 5]), sunset)
    radius = column(span(u[:, 6], 2.0, 3.2)) + 0.5 * sunset
    disc = hsv(
        table([0.14, 0.08, 0.15], time, u) + 0.03 * (u[:, 6] - 0.5),
        table([0.45, 0.60, 0.12], time, u),
        table([1.0, 1.0, 0.98], time, u),
    )
    distance = ((x - cx) ** 2 + (y - cy) ** 2).sqrt() - radius
    glow = 0.45 * torch.exp(-distance.clamp(min=0) / 2.6) * (1 - 0.5 * night)
    image = over(image, disc, glow)
    bite = ((x - cx + 0.55 * radius) ** 2 + (y - cy + 0.2 * radius) ** 2).sqrt() - 0.8 * radius
    moon = torch.maximum(distance, -bite)
    image = over(image, disc, cover(torch.where(night > 0, moon, distance)))
    # One cloud of two puffs, by day and at sunset.
    wx, wy = column(span(u[:, 18], 3.0, 21.0)), column(span(u[:, 19], 2.0, 6.0))
    size = column(span(u[:, 17], 2.4, 4.2))
    puff = torch.minimum(
        ellipse(x, y, wx, wy, size, size * 0.42),
        ellipse(x, y, wx + size * 0.5, wy - size * 0.3, size * 0.55, size * 0.42),
    )
    white = mix(torch.ones_like(disc), disc, 0.35 * sunset[:, 0])
    return over(image, white, 0.85 * cover(puff, 1.2) * (1 - night))


def _thing(
    image: Tensor,
    x: Tensor,
    y: Tensor,
    thing: Tensor,
    u: Tensor,
    light: Tensor,
    top: Tensor,
    low: Tensor,
    night: Tensor,
) -> Tensor:
    """A tree, a house or a lake, standing on the ground."""
    scale = column(span(u[:, 17], 0.85, 1.2))
    cx, base = column(span(u[:, 15], 6.0, 18.0)), column(span(u[:, 16], 18.5, 21.5))

    tree = column(thing == 1).to(u)
    image = over(
        image,
        table([[0.40, 0.26, 0.17]], thing * 0, u) * light,
        tree * cover(box(x, y, cx, base - 1.5 * scale, 0.75 * scale, 2.0 * scale)),
    )
    leaf = hsv(span(u[:, 18], 0.06, 0.44), u[:, 18] * 0 + 0.72, span(u[:, 19], 0.42, 0.68)) * light
    crown = torch.minimum(
        ellipse(x, y, cx, base - 6.4 * scale, 3.4 * scale, 3.5 * scale),
        ellipse(x, y, cx + 1.4 * scale, base - 4.8 * scale, 2.5 * scale, 2.0 * scale),
    )
    rows = (y - (base - 10.5 * scale)) / scale
    cone = torch.maximum(
        (x - cx).abs() - 0.36 * scale * rows - 0.25 * scale * (rows % 2.8 - 1.4),
        y - (base - 2.6 * scale),
    )
    image = over(image, leaf, tree * cover(torch.where(column(u[:, 19]) > 0.5, crown, cone)))
    shine = ellipse(x, y, cx - 1.1 * scale, base - 7.2 * scale, 1.2 * scale, 1.2 * scale)
    image = over(
        image, (leaf * 1.35).clamp(max=1), tree * 0.7 * cover(shine, 1.4) * (column(u[:, 19]) > 0.5)
    )

    house = column(thing == 2).to(u)
    wall = hsv(u[:, 18], u[:, 18] * 0 + 0.22, u[:, 18] * 0 + 0.94) * light
    roof = hsv(u[:, 19] * 0.14 - 0.06, u[:, 19] * 0 + 0.72, u[:, 19] * 0 + 0.66) * light
    half = 3.4 * scale
    image = over(image, wall, house * cover(box(x, y, cx, base - 2.2 * scale, half, 2.2 * scale)))
    rise = y - (base - 8.2 * scale)
    gable = torch.maximum((x - cx).abs() - 1.15 * rise, y - (base - 4.2 * scale))
    image = over(image, roof, house * cover(gable))
    dark = table([[0.30, 0.22, 0.24]], thing * 0, u).expand_as(light) * light
    lamp = table([[1.0, 0.86, 0.45]], thing * 0, u).expand_as(light)
    pane = mix(dark, lamp, night[:, :, 0])
    image = over(
        image,
        pane,
        house * cover(box(x, y, cx - 1.5 * scale, base - 2.5 * scale, 0.85 * scale, 0.9 * scale)),
    )
    image = over(
        image,
        dark,
        house * cover(box(x, y, cx + 1.5 * scale, base - 1.5 * scale, 0.8 * scale, 1.5 * scale)),
    )

    lake = column(thing == 3).to(u)
    water = mix(mix(top, low, 0.6), table([[0.16, 0.42, 0.66]], thing * 0, u) * light, 0.45)
    shore = ellipse(x, y, cx, base - 0.7, 6.4 * scale, 2.5 * scale)
    image = over(image, water, lake * cover(shore, 1.1))
    wave = cover(shore + 0.8, 1.1) * (0.5 + 0.5 * torch.sin(2.1 * (y - base) + 0.5 * torch.sin(x)))
    return over(image, mix(water, torch.ones_like(water), 0.55), lake * 0.45 * wave)
