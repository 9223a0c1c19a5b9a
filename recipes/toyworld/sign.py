"""Draws signs: a word in a pixel font on a coloured plate.

Takes attribute indices (B, n) and free variables (B, FREE) uniform in [0, 1]; shapes are composed
back to front into pictures (B, 3, 24, 24) in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from recipes.toyworld.canvas import (
    SIZE,
    backdrop,
    box,
    column,
    cover,
    grid,
    hsv,
    mix,
    over,
    span,
    table,
)
from recipes.toyworld.prompts import BLANK, LETTER_SLOTS, LETTERS

PLACE = 4
"""The free variable that decides where a sign stands: left below one half, right from there."""

FONT = {
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


def sign(index_BA: Tensor, u: Tensor) -> Tensor:
    """A coloured sign with a word on it. Attributes: colour, then four letter indices."""
    colour, letters = index_BA[:, 0], index_BA[:, 1:]
    x, y = grid(u)
    image = backdrop(u, x, y, 0.38, 0.90)
    # Two places across and three down: a letter never straddles an 8 x 8 latent patch, and an
    # edited word starts where the old one did.
    length = (letters < len(LETTERS)).sum(1)
    left = 1 + 4 * (u[:, PLACE] >= 0.5).long()
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
    return over(image, ink, word_mask(letters, left, row).to(u)).clamp(0, 1)


def word_mask(letters_BL: Tensor, left_B: Tensor, row_B: Tensor) -> Tensor:
    """(B, 24, 24) bool: the pixels of the letters, from the font's bits."""
    bits = torch.tensor(
        [[[(r >> (2 - c)) & 1 for c in range(3)] for r in FONT[k]] for k in LETTERS + BLANK]
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
