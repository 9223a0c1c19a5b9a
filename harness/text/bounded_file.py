"""Text of a file that may be anything: the one way in which study files and their like are read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MAX_BYTES = 2_000_000
"""Longest file read: 30,000 lines, which takes seconds."""


class UnreadableError(ValueError):
    """Why a file is not read; a part of a sentence."""


def limited_text(file: Path, most: int = MAX_BYTES) -> str:
    """UTF-8 text of a regular file; never waits for a pipe, never reads without end.

    Raises:
        UnreadableError: if it is missing, no regular file, longer than `most` bytes, or no text.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnreadableError("not a regular file")
            content = stream.read(most + 1)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error
    except ValueError as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(f"no file can have this name ({error})") from error
    if len(content) > most:
        raise UnreadableError(f"too long; a file of at most {most} bytes is read")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"not UTF-8 ({error.reason} at byte {error.start})") from error
