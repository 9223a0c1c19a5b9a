"""Digests of files and folders that a study names: contents and relative names, nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

MOST_FILES = 20_000
SKIPPED = {"__pycache__", "node_modules", "stillhouse-workspace"}
_CHUNK = 2**20


def file_digests(root: Path, names: Iterable[str]) -> dict[str, str]:
    """Path as named -> sha256 of its content, folders file by file; hidden files are left out.

    Raises:
        HarnessError: if a name does not exist, cannot be read, or holds too many files.
    """
    found: dict[str, str] = {}
    for name in names:
        place = root / name
        if not place.exists():
            raise HarnessError(f"{name!r} does not exist in {root}")
        for path in _files(place):
            if len(found) >= MOST_FILES:
                raise HarnessError(f"{name!r} holds over {MOST_FILES:,} files; name fewer folders")
            inside = path.relative_to(place).as_posix()
            called = name.rstrip("/") if inside == "." else f"{name.rstrip('/')}/{inside}"
            found[called] = _digest(path)
    return found


def digest_of(content: Any) -> str:
    """32 hex digits of sha256 over data as sorted JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    for path in sorted(place.iterdir()):
        if path.name.startswith(".") or path.name in SKIPPED:
            continue
        if path.is_dir() and not path.is_symlink():  # a link may lead round in a circle
            yield from _files(path)
        elif path.is_file():
            yield path


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise HarnessError(f"{path} cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()
