"""Digests of files and folders that a study names: contents and relative names, nothing else.

A file is read once a command, however many subjects ask; and once for good while its size and its
times stay, which is kept in the user's cache: declared data may be large.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.errors import HarnessError

MOST_FILES = 20_000
SKIPPED = {"__pycache__", "node_modules", "stillhouse-workspace"}
SETTLED_S = 2.0
"""A file that is younger when it is read may change again without a new time of change."""
WORTH_KEEPING = 2**16
"""Bytes from which on a digest is kept for other commands; shorter files are read as fast."""
_CHUNK = 2**20
_FORMAT = 1
_Stamp = tuple[int, int, int]
_known: dict[Path, tuple[_Stamp, str]] = {}
"""What this process has read, by path."""


def file_digests(root: Path, names: Iterable[str]) -> dict[str, str]:
    """Path as named -> sha256 of its content, folders file by file; hidden files are left out.

    Raises:
        HarnessError: if a name does not exist, cannot be read or listed, or holds too many files.
    """
    found: dict[str, str] = {}
    for name in names:
        place = root / name
        if not place.exists():
            raise HarnessError(f"{name!r} does not exist in {root}")
        kept = _Kept(place)
        for path in _files(place, ()):
            if len(found) >= MOST_FILES:
                raise HarnessError(f"{name!r} holds over {MOST_FILES:,} files; name fewer folders")
            inside = path.relative_to(place).as_posix()
            called = name.rstrip("/") if inside == "." else f"{name.rstrip('/')}/{inside}"
            found[called] = kept.digest(path)
        kept.save()
    return found


def digest_of(content: Any) -> str:
    """32 hex digits of sha256 over data as sorted JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _files(place: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Files below, links followed unless they lead round in a circle."""
    if place.is_file():
        yield place
        return
    try:
        stat = place.stat()
        entries = sorted(place.iterdir())
    except OSError as error:
        raise HarnessError(f"{place} cannot be read: {error.strerror or error}") from error
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        return
    for path in entries:
        if path.name.startswith(".") or path.name in SKIPPED:
            continue
        if path.is_dir() or path.is_file():
            yield from _files(path, (*above, here))
        else:
            what = "is a link that leads nowhere" if path.is_symlink() else "is no file"
            raise HarnessError(f"{path} {what}; what is hashed must be files and folders")


class _Kept:
    """Digests of the files below a place, from this process or the user's cache."""

    def __init__(self, place: Path) -> None:
        named = hashlib.sha256(str(place.absolute()).encode(errors="surrogateescape")).hexdigest()
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        self._file = cache / "stillhouse" / "file-digests" / f"{named[:24]}.json"
        self._before: dict[str, list[Any]] | None = None
        self._now: dict[str, list[Any]] = {}

    def digest(self, path: Path) -> str:
        """Sha256 of a file.

        Raises:
            HarnessError: if it cannot be read.
        """
        key = Path(os.path.abspath(path))  # noqa: PTH100 - links stay what they are called
        try:
            stat = path.stat()
            stamp = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
            if _known.get(key, (None,))[0] == stamp:
                return _known[key][1]
            looked = time.time()
            found = self._held(key, stamp) or _digest(path)
        except OSError as error:
            raise HarnessError(f"{path} cannot be read: {error.strerror or error}") from error
        _known[key] = stamp, found
        if stat.st_size >= WORTH_KEEPING and stat.st_mtime < looked - SETTLED_S:
            self._now[str(key)] = [*stamp, found]
        return found

    def save(self) -> None:
        """Keep what was read for other commands; a folder that cannot be written is no error."""
        if not self._now or self._now == self._before:
            return
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        with contextlib.suppress(OSError, UnicodeEncodeError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({"format": _FORMAT, "files": self._now}))
            temporary.replace(self._file)

    def _held(self, key: Path, stamp: _Stamp) -> str | None:
        if stamp[0] < WORTH_KEEPING:
            return None
        if self._before is None:
            self._before = self._read()
        *then, found = self._before.get(str(key)) or [None]
        return str(found) if tuple(then) == stamp else None

    def _read(self) -> dict[str, list[Any]]:
        try:
            held = json.loads(self._file.read_text())
            return dict(held["files"]) if held["format"] == _FORMAT else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}  # not there yet, or not ours: read the files


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
