"""How the three categories are drawn: landscape, portrait and sign.

Each function takes attribute indices (B, n) and free variables (B, FREE) uniform in [0, 1] and
returns pictures (B, 3, 24, 24) in [0, 1]. Shapes are composed back to front.
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
from recipes.toyworld.prompts import BLANK, LETTER_SLOTS, LETTERS

FREE = 20
"""Free variables of a picture; each category uses a part of them."""

_STARS = [(2.5, 3.5), (7.5, 1.5), (11.5, 6.5), (16.5, 2.5), (20.5, 7.5), (5.5, 8.5)]

_FONT = {
    "A": (2, 7, 5, 7, 5, 5),
    "E": (7, 4, 6, 4, 4, 7),
    "I": (7, 2, 2, 2, 2, 7),
    "L": (4, 4, 4, 4, 4, 7),
    "O": (7, 5, 5, 5, 5, 7),
    "P": (7, 5, 7, 4, 4, 4),
    "S": (7, 4, 7, 1, 1, 7),
    "T": (7, 2, 2, 2, 2, 2),
    "X": (5, 5, 2, 2, 5, 5),
    "Y": (5, 5, 5, 7, 1, 7),
    BLANK: (0, 0, 0, 0, 0, 0),
}
"""Glyphs three pixels wide and six high, one row a number of three bits."""


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


def portrait(index_BA: Tensor, u: Tensor) -> Tensor:
    """A face with large eyes and mouth. Attributes: skin, hair, expression, accessory."""
    skin_index, hair_index, expression, accessory = index_BA.unbind(1)
    x, y = grid(u)
    image = _backdrop(u, x, y, 0.30, 0.92)

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


def sign(index_BA: Tensor, u: Tensor) -> Tensor:
    """A coloured sign with a word on it. Attributes: colour, then four letter indices."""
    colour, letters = index_BA[:, 0], index_BA[:, 1:]
    x, y = grid(u)
    image = _backdrop(u, x, y, 0.38, 0.90)
    # Two places across and three down: a letter never straddles an 8 x 8 latent patch, and an
    # edited word starts where the old one did.
    length = (letters < len(LETTERS)).sum(1)
    left = 1 + 4 * (u[:, 4] >= 0.5).long()
    row = (u[:, 5] * 3).long().clamp(max=2) * 8 + 1

    x0, y0 = column(left).to(u), column(row).to(u)
    width = column(length).to(u) * 4 - 1
    cx, cy = x0 + width / 2, y0 + 3
    wood = hsv(span(u[:, 6], 0.03, 0.11), u[:, 6] * 0 + 0.5, span(u[:, 7], 0.3, 0.6))
    pole = x0 + 2 + 3 * column(u[:, 8])
    image = over(image, wood, cover(torch.maximum((x - pole).abs() - 1.0, cy - y)))
    plate = table(
        [[0.78, 0.13, 0.15], [0.12, 0.30, 0.72], [0.08, 0.48, 0.26], [0.98, 0.80, 0.16]], colour, u
    )
    plate = (plate * span(u[:, 9], 0.86, 1.08)[:, None]).clamp(max=1)
    bright = hsv(u[:, 10], span(u[:, 11], 0.0, 0.22), u[:, 11] * 0 + 1.0)
    deep = hsv(u[:, 10], u[:, 11] * 0 + 0.6, span(u[:, 11], 0.10, 0.26))
    ink = torch.where((colour == 3)[:, None], deep, bright)
    border = box(x, y, cx, cy, width / 2 + 2.0, cy * 0 + 5.0)
    image = over(image, mix(plate, ink, 0.55), cover(border, 0.6))
    image = over(image, plate, cover(border + 1.0, 0.6))
    return over(image, ink, _word_mask(letters, left, row).to(u)).clamp(0, 1)


def _word_mask(letters_BL: Tensor, left_B: Tensor, row_B: Tensor) -> Tensor:
    """(B, 24, 24) bool: the pixels of the letters, from the font's bits."""
    bits = torch.tensor(
        [[[(r >> (2 - c)) & 1 for c in range(3)] for r in _FONT[k]] for k in LETTERS + BLANK]
    )
    glyphs = torch.nn.functional.pad(bits, (0, 1))[letters_BL]  # (B, letter, 6, 4)
    strip = glyphs.permute(0, 2, 1, 3).reshape(len(letters_BL), 6, 4 * LETTER_SLOTS)
    at = torch.arange(SIZE)
    c, r = at[None] - left_B[:, None], at[None] - row_B[:, None]
    inside = ((c >= 0) & (c < strip.shape[2]))[:, None, :] & ((r >= 0) & (r < 6))[:, :, None]
    rows = strip.gather(1, r.clamp(0, 5)[:, :, None].expand(-1, -1, strip.shape[2]))
    return (
        rows.gather(2, c.clamp(0, strip.shape[2] - 1)[:, None, :].expand(-1, SIZE, -1)).bool()
        & inside
    )


def _backdrop(u: Tensor, x: Tensor, y: Tensor, saturation: float, value: float) -> Tensor:
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
