"""Pictures of others, opened: upright as their camera says, of one frame, in red, green and blue.

Grey, palettes, ink, transparency and sixteen bits are told apart by their mode, never turned into
RGB: the background, the profile or the scale that this takes is nowhere said.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageOps


def opened(content: bytes | Path) -> Image.Image:
    """A decoded picture, turned upright where its EXIF data says that it lies.

    Raises:
        ValueError: it cannot be read, or has several frames; a few words without its place.
    """
    try:
        image = Image.open(io.BytesIO(content) if isinstance(content, bytes) else content)
        # A JPEG with previews behind it (MPO) is the picture that every program shows.
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        if frames == 1:
            image.load()
            image = ImageOps.exif_transpose(image)
    except Exception as error:  # decoders raise anything for a broken file
        raise ValueError("unreadable file") from error
    if frames > 1:
        raise ValueError("several frames in one file")
    return image


def mode_of(image: Image.Image) -> str:
    """How its colours are held: `RGB`, or what else; a transparent colour counts."""
    return image.mode + (" with transparency" if "transparency" in image.info else "")
