"""Small drawn pictures for the made-up study: a truth per item, spoilt by how bad an arm is."""

from __future__ import annotations

import io
import zlib

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZE = 24
_BIG = 96

ITEMS: dict[str, str] = {
    "landscape-004": "sun over green hills",
    "landscape-011": "moon over a blue lake",
    "portrait-002": "smiling face, red hat",
    "text-007": "sign that says GO",
    "edit-object-003": "put a hat on her",
    "edit-scene-005": "make it night",
}


def picture(item: str, kind: str, quality: float, seed: str) -> bytes:
    """PNG of an item: `truth`, `source unchanged`, or anything else at a quality in [0, 1]."""
    edited = not (item.startswith("edit") and kind == "source unchanged")
    base = _draw(item, edited).resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    if kind not in ("truth", "source unchanged"):
        base = _spoil(base, _draw(item, False), quality, f"{item}|{seed}")
    out = io.BytesIO()
    base.save(out, format="PNG", optimize=True)
    return out.getvalue()


def _spoil(image: Image.Image, other: Image.Image, quality: float, seed: str) -> Image.Image:
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    lost = 1.0 - quality
    blurred = image.filter(ImageFilter.GaussianBlur(1.6 * lost))
    small = other.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    mixed = Image.blend(blurred, small, min(0.75, 0.8 * lost))
    noise = rng.normal(0, 22 * lost, (SIZE, SIZE, 3))
    pixels = np.clip(np.asarray(mixed, dtype=float) + noise, 0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def _draw(item: str, edited: bool) -> Image.Image:
    night = item == "landscape-011" or (item == "edit-scene-005" and edited)
    image = Image.new("RGB", (_BIG, _BIG))
    draw = ImageDraw.Draw(image)
    if item.startswith(("landscape", "edit-scene")):
        _landscape(draw, night, lake=item == "landscape-011")
    elif item.startswith("text"):
        _sign(draw)
    else:
        _portrait(draw, hat=item == "portrait-002" or edited)
    return image


def _landscape(draw: ImageDraw.ImageDraw, night: bool, lake: bool) -> None:
    top, low = ((18, 24, 66), (70, 70, 130)) if night else ((92, 168, 235), (214, 236, 250))
    for y in range(_BIG):
        mix = y / _BIG
        draw.line(
            [(0, y), (_BIG, y)],
            fill=tuple(round(a + (b - a) * mix) for a, b in zip(top, low, strict=True)),
        )
    draw.ellipse((60, 10, 84, 34), fill=(245, 240, 210) if night else (255, 205, 70))
    draw.ellipse((-30, 52, 70, 140), fill=(38, 70, 60) if night else (92, 160, 76))
    draw.ellipse((36, 62, 140, 150), fill=(28, 52, 50) if night else (58, 128, 66))
    if lake:
        draw.rectangle((0, 78, _BIG, _BIG), fill=(40, 70, 140))
        draw.line([(58, 84), (86, 84)], fill=(225, 220, 200), width=3)


def _portrait(draw: ImageDraw.ImageDraw, hat: bool) -> None:
    draw.rectangle((0, 0, _BIG, _BIG), fill=(226, 210, 186))
    draw.ellipse((14, 84, 82, 150), fill=(70, 96, 150))
    draw.ellipse((20, 18, 76, 84), fill=(96, 58, 36))
    draw.ellipse((26, 26, 70, 86), fill=(238, 190, 156))
    for x in (38, 58):
        draw.ellipse((x - 4, 46, x + 4, 54), fill=(40, 40, 50))
    draw.arc((36, 54, 60, 76), 20, 160, fill=(170, 50, 50), width=5)
    if hat:
        draw.rectangle((30, 6, 66, 28), fill=(196, 48, 52))
        draw.rectangle((16, 26, 80, 34), fill=(168, 36, 44))


def _sign(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((0, 0, _BIG, _BIG), fill=(168, 206, 160))
    draw.rectangle((44, 60, 52, _BIG), fill=(120, 84, 54))
    draw.rounded_rectangle((6, 18, 90, 66), 6, fill=(250, 246, 232), outline=(120, 84, 54), width=4)
    ink = (40, 44, 60)
    draw.arc((16, 28, 44, 56), 30, 330, fill=ink, width=6)
    draw.line([(32, 44), (44, 44), (44, 54)], fill=ink, width=6)
    draw.ellipse((52, 28, 80, 56), outline=ink, width=6)
