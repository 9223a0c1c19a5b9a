"""Item sets and pictures kept as files: JSON lines beside the pictures that they name.

A line holds the fields of an `Item`; edits name their pictures in `detail`: `source`, and where
there are any `target` (else the source stands in) and `mask` (white where edited; else the whole
frame). Names are relative to the file's folder. Importing this imports no torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.items import Item

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).parent.parent
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}


def place(path: str) -> Path:
    """A path of a protocol: ~ and $VARIABLES expanded, relative to the folder of `evaluation`."""
    return ROOT / Path(os.path.expandvars(path)).expanduser()


def items(*, file: str, t2i: Mapping[str, int], edit: Mapping[str, int]) -> list[Mapping[str, Any]]:
    """The first items of each category in the file's order, as many as are asked for.

    Raises:
        ValueError: the file cannot be read, or a line is not a JSON object.
    """
    left = {"t2i": dict(t2i), "edit": dict(edit)}
    found = []
    path = place(file)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(f"item set {path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            counts, category = left[fields["task"]], fields["category"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: a JSON object with task (t2i or edit) and category is "
                f"needed ({error})"
            ) from error
        if counts.get(category, 0) > 0:
            counts[category] -= 1
            found.append(fields)
    return found


def reference_images(*, folder: str, resolution: int) -> Callable[[str, int], Tensor]:
    """(category, count) -> the first pictures of `<folder>/<category>` by name, uint8."""

    def pictures(category: str, count: int) -> Tensor:
        import torch

        home = place(folder) / category
        if not home.is_dir():
            raise ValueError(f"reference pictures of {category}: there is no folder {home}")
        files = sorted(path for path in home.iterdir() if path.suffix.lower() in SUFFIXES)
        if len(files) < count:
            raise ValueError(f"{home} holds {len(files)} pictures; the protocol needs {count}")
        return torch.stack([_picture(path, resolution) for path in files[:count]])

    return pictures


def edit_pictures(
    chosen: Sequence[Item], *, file: str, resolution: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Source and true result, uint8 (B, 3, R, R), and mask (B, 1, R, R) of edit items."""
    import torch

    home = place(file).parent
    sources, truths, masks = [], [], []
    for item in chosen:
        named = item.detail
        if not isinstance(named.get("source"), str):
            raise ValueError(f"edit item {item.item_id} names no source picture in detail.source")
        source = _picture(home / str(named["source"]), resolution)
        target, mask = named.get("target"), named.get("mask")
        sources.append(source)
        truths.append(_picture(home / str(target), resolution) if target else source)
        if mask:
            masks.append((_picture(home / str(mask), resolution)[:1] >= 128).float())
        else:
            masks.append(torch.ones(1, resolution, resolution))
    return torch.stack(sources), torch.stack(truths), torch.stack(masks)


def _picture(path: Path, side: int) -> Tensor:
    """The middle square of a picture at some size, uint8 (3, side, side)."""
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            fitted = ImageOps.fit(opened.convert("RGB"), (side, side))
    except OSError as error:
        raise ValueError(f"picture {path} cannot be read: {error}") from error
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)
