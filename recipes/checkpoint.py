"""Checkpoints: written whole under a temporary name, then renamed; the last two are kept.

A file holds student, fake score, both optimisers, EMA, counters and the recipe's hash. It is a zip
whose entries carry CRC-32 sums, checked before use, so that a damaged file is known. Seeds are
counters, so little other state exists; a resumed run equals an uninterrupted one bit for bit on
CPU.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch

KEEP = 2


class CorruptCheckpoint(ValueError):
    """The file is damaged, or belongs to another recipe."""


def name_of(cycle: int) -> str:
    """File name of the checkpoint after a cycle."""
    return f"checkpoint-{cycle:07d}.pt"


def save(folder: Path, cycle: int, state: dict[str, Any], recipe_hash: str) -> Path:
    """Write a checkpoint atomically and prune all but the last two; returns its path."""
    path = folder / name_of(cycle)
    temporary = path.with_name(path.name + ".tmp")
    # No fsync: a file torn by a power cut fails its check, and the one before is used.
    torch.save({"cycle": cycle, "recipe": recipe_hash, "state": state}, temporary)
    temporary.replace(path)
    for old in sorted(folder.glob("checkpoint-*.pt"))[:-KEEP]:
        old.unlink()
    return path


def load(path: Path, recipe_hash: str) -> tuple[int, dict[str, Any]]:
    """Cycle and state of a checkpoint. Never runs code from the file.

    Raises:
        CorruptCheckpoint: if the file is damaged or was written for another recipe.
    """
    try:
        # Whole as a zip and every entry's sum right; torch itself does not look at the sums.
        with zipfile.ZipFile(path) as held_zip:
            damaged = held_zip.testzip()
    except OSError as error:
        raise CorruptCheckpoint(f"{path.name}: cannot be read ({error.strerror})") from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        raise CorruptCheckpoint(f"{path.name}: damaged ({error})") from error
    if damaged is not None:
        raise CorruptCheckpoint(f"{path.name}: damaged, the sum of {damaged} is wrong")
    held = torch.load(path, map_location="cpu", weights_only=True)
    if held["recipe"] != recipe_hash:
        raise CorruptCheckpoint(
            f"{path.name}: written for recipe {held['recipe'][:12]}, this is {recipe_hash[:12]}"
        )
    return int(held["cycle"]), held["state"]


def load_latest(given: Path, recipe_hash: str) -> tuple[int, dict[str, Any], list[str]]:
    """The given checkpoint, or the newest sound one before it in the same folder.

    Returns:
        (cycle, state, complaints about the ones passed over).

    Raises:
        CorruptCheckpoint: if none is sound.
    """
    complaints: list[str] = []
    others = [p for p in given.parent.glob("checkpoint-*.pt") if p.name < given.name]
    for path in (given, *sorted(others, reverse=True)):
        try:
            cycle, state = load(path, recipe_hash)
        except CorruptCheckpoint as error:
            complaints.append(str(error))
        else:
            return cycle, state, complaints
    raise CorruptCheckpoint("; ".join(complaints))
