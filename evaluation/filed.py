"""Item sets and pictures kept as files: JSON lines beside the pictures that they name.

A line holds the fields of an `Item`; edits name their pictures in `detail`: `source`, and where
there are any `target` (else the source stands in) and `mask` (white where edited; else the whole
frame). Names are relative to the file's folder. What is measured with is listed here, for measuring
and for the protocol's fingerprint alike. Importing this imports no torch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from evaluation.items import Item
from evaluation.pictures import SUFFIXES, opened
from evaluation.protocol_parts import ROOT

if TYPE_CHECKING:
    from torch import Tensor

ROLES = ("source", "target", "mask")
"""Pictures of an edit item, by their names in its `detail`."""


def place(path: str) -> Path:
    """A path of a protocol: ~ and $VARIABLES expanded, relative to the folder of `evaluation`."""
    return ROOT / Path(os.path.expandvars(path)).expanduser()


def items(*, file: str, t2i: Mapping[str, int], edit: Mapping[str, int]) -> list[Mapping[str, Any]]:
    """The first items of each category in the file's order, as many as are asked for.

    Raises:
        ValueError: the file cannot be read, or a line is no item; with the line.
    """
    left = {"t2i": dict(t2i), "edit": dict(edit)}
    found = []
    path = place(file)
    for number, fields in _objects(path):
        try:
            counts, category = left[fields["task"]], fields["category"]
            wanted = counts.get(category, 0) > 0
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}: a JSON object with task (t2i or edit) and category is "
                f"needed ({error})"
            ) from error
        if wanted:
            counts[category] -= 1
            _check(path, number, fields)
            found.append(fields)
    return found


def _objects(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Number and object of each line; other separators than line feeds are letters of a text."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ValueError(f"item set {path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            fields = json.loads(text)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}, line {number}: not UTF-8 ({error.reason})") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
        yield number, fields


def _check(path: Path, number: int, fields: Mapping[str, Any]) -> None:
    try:
        json.dumps(Item.model_validate(dict(fields)).model_dump(), ensure_ascii=False).encode()
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ValueError(f"{path}, line {number}: {said}") from error
    except UnicodeEncodeError as error:
        raise ValueError(f"{path}, line {number}: half of a surrogate pair is no letter") from error


def reference_files(folder: str, category: str, count: int) -> list[Path]:
    """The first pictures of `<folder>/<category>` by name.

    Raises:
        ValueError: there is no such folder, or it holds fewer.
    """
    home = place(folder) / category
    if not home.is_dir():
        raise ValueError(f"reference pictures of {category}: there is no folder {home}")
    files = sorted(path for path in home.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(files) < count:
        raise ValueError(f"{home} holds {len(files)} pictures; the protocol needs {count}")
    return files[:count]


def reference_images(*, folder: str, resolution: int) -> Callable[[str, int], Tensor]:
    """(category, count) -> the first pictures of `<folder>/<category>` by name, uint8."""

    def pictures(category: str, count: int) -> Tensor:
        import torch

        files = reference_files(folder, category, count)
        return torch.stack([_picture(path, resolution) for path in files])

    return pictures


def edit_files(item: Item, file: str) -> dict[str, Path]:
    """Pictures of an edit item by role: source, target, mask.

    Raises:
        ValueError: it names no source, or what it names is no text.
    """
    home = place(file).parent
    named = {role: item.detail.get(role) for role in ROLES}
    if not isinstance(named["source"], str):
        raise ValueError(f"edit item {item.item_id} names no source picture in detail.source")
    for role, name in named.items():
        if name is not None and not isinstance(name, str):
            raise ValueError(f"edit item {item.item_id}: detail.{role} must name a picture")
    return {role: home / str(name) for role, name in named.items() if name}


def edit_pictures(
    chosen: Sequence[Item], *, file: str, resolution: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Source and true result, uint8 (B, 3, R, R), and mask (B, 1, R, R) of edit items."""
    import torch

    sources, truths, masks = [], [], []
    for item in chosen:
        files = edit_files(item, file)
        source = _picture(files["source"], resolution)
        sources.append(source)
        truths.append(_picture(files["target"], resolution) if "target" in files else source)
        if "mask" in files:
            masks.append((_picture(files["mask"], resolution)[:1] >= 128).float())
        else:
            masks.append(torch.ones(1, resolution, resolution))
    return torch.stack(sources), torch.stack(truths), torch.stack(masks)


def _picture(path: Path, side: int) -> Tensor:
    """The middle square of a picture at some size, uint8 (3, side, side)."""
    import numpy as np
    import torch
    from PIL import ImageOps

    fitted = ImageOps.fit(opened(path), (side, side))
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)
