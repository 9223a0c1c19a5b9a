"""Pictures as people are shown them: upright, on white, scaled; what is none is left out."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from harness.journal.pictures import picture_as_shown
from harness.report.panels import _embed
from harness.tracking.pages import items_table


def _png(image: Image.Image, **more: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format="PNG", **more)
    return out.getvalue()


def test_pictures_are_shown_as_they_are_meant():
    half = Image.new("RGB", (8, 8))
    half.paste((255, 0, 0), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[274] = 3  # upside down
    assert picture_as_shown(_png(half, exif=exif)).getpixel((0, 0)) == (0, 0, 0)
    deep = Image.fromarray(np.full((8, 8), 257 * 100, np.uint16))
    assert picture_as_shown(_png(deep)).getpixel((0, 0)) == (100, 100, 100)
    assert picture_as_shown(_png(Image.new("RGBA", (8, 8), (0, 0, 0, 0)))).getpixel((0, 0)) == (
        255,
        255,
        255,
    )
    moving = _png(half, save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")])
    assert picture_as_shown(moving).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0\0\7\0" * 90])
def test_what_is_no_picture_is_left_out_of_report_and_table(content: bytes, tmp_path):
    from harness.contract import Artifact

    with pytest.raises(ValueError, match="no picture that can be read"):
        picture_as_shown(content)
    (tmp_path / "a.png").write_bytes(content)
    assert items_table([("a", "a", tmp_path / "a.png")], tmp_path) == {}
    artifact = Artifact(kind="panel", path="a.png", step=1, item="a")
    if content.startswith(b"\x89PNG"):
        assert _embed((tmp_path / "a.png", artifact), "arm") is None
