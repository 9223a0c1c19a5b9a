"""Small results kept between processes in the user's cache. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SETTLED_S = 2.0
"""A file that is younger when it is read may change again without a new time of change."""


def user_cache() -> Path:
    """`$XDG_CACHE_HOME/stillhouse`, which may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stillhouse"


def write_whole(path: Path, held: Mapping[str, Any]) -> None:
    """Write JSON under a temporary name and rename; a folder that cannot be written is no error."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(held))
        temporary.replace(path)
    except OSError:
        return  # a cache: the next reader computes it again


class Stamps:
    """Files as they stood when they were looked at: paths, sizes, times of change.

    Take the stamps before the files are read: what changes meanwhile is then read again.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        """Look at the files.

        Raises:
            OSError: one is not there.
        """
        self.taken = time.time()
        listing = hashlib.sha256()
        newest = 0
        for file in files:
            stat = file.stat()
            newest = max(newest, stat.st_mtime_ns)
            # The change time, which no program sets, tells a file that was copied with its old
            # times.
            times = f"{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}"
            listing.update(f"{file}\0{times}\n".encode(errors="surrogateescape"))
        self.text = listing.hexdigest()
        self.settled = newest / 1e9 < self.taken - SETTLED_S
        """Whether no file is so young that it may change within the grain of its time."""
