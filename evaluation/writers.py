"""Writing a measurement: items as parquet and CSV, features as npz, chosen pictures as a strip.

Every file is written under a temporary name and renamed, so that a reader never sees half of one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluation.measure import Measured, Shown
from evaluation.summary import Features

if TYPE_CHECKING:
    import pandas as pd

GAP_PX = 2
BACKGROUND = 245


def write_measured(measured: Measured, folder: Path, *, magnify: int = 4) -> dict[str, Path]:
    """Write everything; returns kind -> path for items_parquet, items_csv, features, estimates.

    Strips `strip_t2i` and `strip_edit` are there when pictures of that task were kept.

    Args:
        measured: the measurement.
        folder: made if it is missing.
        magnify: pixels of the strips per picture pixel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = write_items(measured.items, folder)
    paths["features"] = write_features(measured.features, measured.items, folder / "features.npz")
    summary = json.dumps(
        {"metrics": measured.metrics, "estimates": measured.estimates},
        indent=1,
        sort_keys=True,
        allow_nan=False,
    )
    paths["estimates"] = folder / "estimates.json"
    _atomically(paths["estimates"], lambda path: path.write_text(summary + "\n", "utf-8"))
    for task in ("t2i", "edit"):
        chosen = [picture for picture in measured.images if picture.task == task]
        if chosen:
            paths[f"strip_{task}"] = write_strip(chosen, folder / f"{task}.png", magnify=magnify)
    return paths


def write_items(table: pd.DataFrame, folder: Path) -> dict[str, Path]:
    """The items table as `items.parquet` and `items.csv` (floats with all their digits)."""
    paths = {"items_parquet": folder / "items.parquet", "items_csv": folder / "items.csv"}
    _atomically(paths["items_parquet"], lambda path: table.to_parquet(path, index=False))
    _atomically(paths["items_csv"], lambda path: table.to_csv(path, index=False))
    return paths


def write_by_prompt(items: pd.DataFrame, pseudo_values: pd.DataFrame, folder: Path) -> list[Path]:
    """The tables of `prompt_tables` as `by-item.csv` and `by-prompt.csv`, to 13 digits."""
    paths = []
    for name, table in (("by-item", items), ("by-prompt", pseudo_values)):
        paths.append(folder / f"{name}.csv")
        write = partial(table.to_csv, index=False, float_format="%.13g")
        _atomically(paths[-1], write)
    return paths


def write_features(features: Mapping[str, Features], table: pd.DataFrame, path: Path) -> Path:
    """Features as npz without pickle; `<task>/rows` names each row as `item_id#draw`."""
    named = dict(features)
    arrays: dict[str, NDArray[np.generic]] = {**named}
    for task, rows in table.groupby("task", sort=False):
        names = [f"{i}#{d}" for i, d in zip(rows["item_id"], rows["draw"], strict=True)]
        arrays[f"{task}/rows"] = np.array(names, dtype=np.str_)

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    _atomically(path, save)
    return path


def read_features(path: Path) -> dict[str, Features]:
    """What `write_features` wrote, without the row names; `summarise` takes it."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files if not name.endswith("/rows")}


def write_strip(pictures: Sequence[Shown], path: Path, *, magnify: int = 4) -> Path:
    """A contact strip as PNG: a row per category, magnified without smoothing.

    Edits are shown as source, output, truth, side by side.

    Args:
        pictures: what to show, in order; all of one size.
        path: the file.
        magnify: pixels of the strip per picture pixel, 1 or more.

    Raises:
        ValueError: nothing to show, or pictures of several sizes.
    """
    from PIL import Image

    if not pictures:
        raise ValueError("no pictures to show; keep some with keep_images above 0")
    if len({picture.output.shape for picture in pictures}) > 1:
        raise ValueError("the pictures differ in size; write a strip for each size")
    rows: dict[str, list[NDArray[np.uint8]]] = {}
    for picture in pictures:
        cells = [picture.source, picture.output, picture.truth]
        together = [cell for cell in cells if cell is not None]
        rows.setdefault(picture.category, []).append(np.concatenate(together, axis=1))
    height, width = (magnify * side + GAP_PX for side in next(iter(rows.values()))[0].shape[:2])
    columns = max(map(len, rows.values()))
    canvas = np.full((len(rows) * height, columns * width, 3), BACKGROUND, dtype=np.uint8)
    for top, cells_of_row in enumerate(rows.values()):
        for left, cell in enumerate(cells_of_row):
            large = cell.repeat(magnify, axis=0).repeat(magnify, axis=1)
            y, x = top * height, left * width
            canvas[y : y + large.shape[0], x : x + large.shape[1]] = large
    _atomically(path, lambda temporary: Image.fromarray(canvas).save(temporary, format="PNG"))
    return path


def _atomically(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    write(temporary)
    temporary.replace(path)
