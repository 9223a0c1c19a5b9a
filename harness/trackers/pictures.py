"""Pictures and item tables in the layout MLflow's pages read. Imports no mlflow.

`MlflowClient.log_image` gives each upload a random name and costs two transactions, so replaying a
journal would double every picture; these names are the same each time.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.picture import shown
from harness.trackers.rows import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL = 256
"""Pixels of the longer side: what MLflow's grid loads first."""
SMALLEST = 192
"""Smaller pictures are enlarged by whole factors, so that their pixels stay crisp."""
TABLE = "items.json"
TABLE_TAG = {"mlflow.loggedArtifacts": json.dumps([{"path": TABLE, "type": "table"}])}


def write_pictures(pictures: Iterable[Picture], folder: Path) -> bool:
    """Write `images/<name>+step+...png` and its thumbnail; True if there was any to show.

    Pictures that do not exist (any longer) are left out.
    """
    shown = False
    for picture in {(p.name, p.step): p for p in pictures}.values():
        image = _enlarged(picture.file)
        if image is None:
            continue
        shown = True
        mark = uuid.uuid5(uuid.NAMESPACE_URL, f"{picture.name}@{picture.step}")
        name = picture.name.replace("/", "~")
        stem = f"{name}+step+{picture.step}+timestamp+{picture.at_ms}+{mark}"
        target = folder / "images"
        target.mkdir(parents=True, exist_ok=True)
        for older in target.glob(f"*{mark}*"):
            older.unlink()
        image.save(target / f"{stem}.png")
        _thumbnail(image).save(target / f"{stem}+compressed.webp")
    return shown


def items_table(rows: Sequence[tuple[str, str, Path]], folder: Path) -> dict[str, bytes | Path]:
    """Files of an `item`, `caption`, `image` table; empty without any picture.

    Args:
        rows: item, caption, PNG file.
        folder: where converted pictures may be kept until they are uploaded.
    """
    files: dict[str, bytes | Path] = {}
    data: list[list[object]] = []
    for item, caption, file in rows:
        image = _enlarged(file)
        if image is None:
            continue
        stem = f"table_images/items/{re.sub(r'[^a-zA-Z0-9_.-]+', '_', item)}"
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, picture in ((".png", image), (".webp", _thumbnail(image))):
            kept = folder / (Path(stem).name + suffix)
            picture.save(kept)
            files[stem + suffix] = kept
        cell = {"type": "image", "filepath": stem + ".png", "compressed_filepath": stem + ".webp"}
        data.append([item, caption, cell])
    if data:
        table = {"columns": ["item", "caption", "image"], "data": data}
        files[TABLE] = json.dumps(table).encode()
    return files


def _enlarged(file: Path) -> Image | None:
    from PIL import Image

    try:
        image = shown(file)
    except ValueError:
        return None
    factor = -(-SMALLEST // max(image.size))
    if factor > 1:
        size = (image.width * factor, image.height * factor)
        image = image.resize(size, Image.Resampling.NEAREST)
    return image


def _thumbnail(image: Image) -> Image:
    scale = THUMBNAIL / max(image.size)
    return image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))
