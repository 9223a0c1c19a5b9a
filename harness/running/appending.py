"""Appends a line to a file: whole or not at all, on disk when asked to."""

from __future__ import annotations

import contextlib
import os
from io import FileIO
from pathlib import Path


def append_line(file: Path, line: str, *, sync: bool) -> None:
    """Append `line` and a newline; what cannot be written whole is taken back.

    Args:
        file: made if it is missing.
        line: without its newline.
        sync: return only when it is on the disk.

    Raises:
        OSError: if it cannot be written, or not be brought to the disk.
    """
    with file.open("ab", buffering=0) as handle:
        end = handle.seek(0, os.SEEK_END)
        try:
            _write(handle, line.encode() + b"\n")
            if sync:
                os.fsync(handle.fileno())
        except OSError:
            with contextlib.suppress(OSError):  # half a line would spoil the next one
                handle.truncate(end)
            raise
    if sync and not end:  # a new file: its name must outlive a power cut, too
        _sync_folder(file.parent)


def _write(handle: FileIO, content: bytes) -> None:
    """All of it: a nearly full disk takes a part without an error."""
    rest = memoryview(content)
    while rest:
        rest = rest[handle.write(rest) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system knows how
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
