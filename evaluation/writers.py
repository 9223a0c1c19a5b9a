"""Writing a measurement: items as parquet and CSV, by prompt as CSV, features as npz.

Every file is written under a temporary name and renamed, so that a reader never sees half of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evaluation.summary import Features

if TYPE_CHECKING:
    import pandas as pd


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
            # A pickle runs code where it is read, and bundles carry these files to others.
            np.savez_compressed(file, allow_pickle=False, **arrays)

    _atomically(path, save)
    return path


def read_features(path: Path) -> dict[str, Features]:
    """What `write_features` wrote, without the row names; `summarise` takes it."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files if not name.endswith("/rows")}


def _atomically(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    write(temporary)
    temporary.replace(path)
