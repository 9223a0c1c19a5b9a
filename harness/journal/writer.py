"""Writes the journal: one file per driver process, each record whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Collection
from io import FileIO
from pathlib import Path

from harness.errors import WorkspaceError
from harness.journal.lines import lines_of
from harness.journal.records import Opened, Record


class Journal:
    """Writer of one driver's journal file. The file appears with the first record."""

    def __init__(self, folder: Path, described: Collection[str] = ()) -> None:
        """Take the folder of the journals, and the keys that a line in one of them describes."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        host = socket.gethostname().split(".")[0]
        # Appends of several machines to one file interleave on network file systems, so each driver
        # has its own and readers merge them. Many small files are the price; they are worth joining
        # once reading them takes over a second.
        self.file = folder / f"{stamp}-{host}-{os.getpid()}-{secrets.token_hex(3)}.jsonl"
        self._described = set(described)
        self._listed: set[str] = set()
        """Code digests whose listing, of hundreds of names, stands in the file."""

    def append(self, record: Record) -> None:
        """Write one record, whole or not at all; all but openings are on disk when this returns.

        Trials that it names and that no line describes yet are described before it.

        Raises:
            WorkspaceError: if it cannot be written (a full disk, most often).
        """
        if isinstance(record, Opened) and record.code in self._listed:
            record = record.model_copy(update={"code_files": {}})
        lines = list(lines_of(record, self._described))
        text = "\n".join(line for _, line in lines)
        try:
            # An opening need not survive a power cut: nothing has been computed yet, and a folder
            # in which a worker has begun keeps its number. A closing record is a result.
            append_line(self.file, text, sync=not isinstance(record, Opened))
        except OSError as error:
            raise WorkspaceError(
                f"the journal {self.file} cannot be written any more: {error.strerror or error}. "
                "What was recorded is safe: free some space, then run the same command again."
            ) from error
        self._described.update(key for key, _ in lines if key)
        if isinstance(record, Opened) and record.code_files:
            self._listed.add(record.code)


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
