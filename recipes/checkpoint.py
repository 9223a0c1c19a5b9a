"""Checkpoints: written whole under a temporary name, then renamed; the last two are kept.

A file holds student, fake score, both optimisers, EMA, counters and the recipe's hash. Its sha256
stands beside it, so that a damaged file is known before it is used. Seeds are counters, so little
other state exists; a resumed run equals an uninterrupted one bit for bit on CPU.
"""

from __future__ import annotations

import hashlib
import io
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
    buffer = io.BytesIO()
    torch.save({"cycle": cycle, "recipe": recipe_hash, "state": state}, buffer)
    data = buffer.getvalue()
    path = folder / name_of(cycle)
    _write(path.with_suffix(".sha256"), hashlib.sha256(data).hexdigest().encode())
    _write(path, data)
    for old in sorted(folder.glob("checkpoint-*.pt"))[:-KEEP]:
        old.unlink()
        old.with_suffix(".sha256").unlink(missing_ok=True)
    return path


def _write(path: Path, data: bytes) -> None:
    # No fsync: a file torn by a power cut fails its sha256, and the one before is used.
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


def load(path: Path, recipe_hash: str) -> tuple[int, dict[str, Any]]:
    """Cycle and state of a checkpoint. Never runs code from the file.

    Raises:
        CorruptCheckpoint: if the file is damaged or was written for another recipe.
    """
    try:
        data = path.read_bytes()
        expected = path.with_suffix(".sha256").read_text().strip()
    except OSError as error:
        raise CorruptCheckpoint(f"{path.name}: cannot be read ({error.strerror})") from error
    if hashlib.sha256(data).hexdigest() != expected:
        raise CorruptCheckpoint(f"{path.name}: damaged, its sha256 differs from the one beside it")
    held = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
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
