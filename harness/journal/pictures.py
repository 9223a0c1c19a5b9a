"""Pictures of trainers and subjects as people are shown them; measuring reads them itself."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

_DEEP = {"I", "I;16", "I;16B", "I;16L"}


def picture_as_shown(content: bytes | Path) -> Image:
    """The first frame in RGB: upright, transparency on white, sixteen bits scaled to eight.

    Raises:
        ValueError: it cannot be read; decoders of a broken file raise anything.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
        if image.mode in _DEEP:
            return image.convert("I").point(lambda value: value * (1 / 257)).convert("RGB")
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            rgba = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        return image.convert("RGB")
    except Exception as error:
        raise ValueError(f"no picture that can be read: {error}") from error
