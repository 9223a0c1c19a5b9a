"""Pictures of others, opened: upright, of one frame, in red, green and blue, or refused.

Grey and palettes are RGB in one way only; a transparency that hides nothing is dropped. A picture
that is seen through has no background, ink has no screen, sixteen bits have no scale: refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
"""Endings of what counts as a picture in a folder; moving ones are refused when they are opened."""
_PLAIN = {"RGB", "L", "P", "1"}
_SEEN_THROUGH = {"RGBA", "LA", "PA"}


def opened(path: Path) -> Image:
    """A picture in mode RGB, turned upright where its EXIF data says that it lies.

    Raises:
        ValueError: it cannot be read, has several frames, or colours that are not plain.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            # A JPEG with previews behind it (MPO) is the picture that every program shows.
            frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
            if frames == 1:
                image.load()
                upright = ImageOps.exif_transpose(image)
    except Exception as error:  # decoders raise anything for a broken file
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(f"picture {path} cannot be read: {said}") from error
    if frames > 1:
        raise ValueError(f"picture {path} has {frames} frames; give one picture a file")
    clear = upright.mode in _SEEN_THROUGH or "transparency" in upright.info
    if clear and upright.mode in _PLAIN | _SEEN_THROUGH:
        with_alpha = upright.convert("RGBA")
        if with_alpha.getchannel("A").getextrema() == (255, 255):
            return with_alpha.convert("RGB")
        raise ValueError(f"picture {path} is transparent; put it on the background that is meant")
    if upright.mode not in _PLAIN:
        raise ValueError(
            f"picture {path} has mode {upright.mode}; convert it to 8-bit RGB, with the profile or "
            "the scale that is meant"
        )
    return upright.convert("RGB")
