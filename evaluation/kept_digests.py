"""One digest over many files, read once per change; kept in the user's cache. Imports no torch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path

SETTLED_S = 2.0
"""A file that is younger when it is read may change again without a new time of change."""


def digest_of_files(files: Mapping[str, Path]) -> str:
    """Sha256 (hex) over names and contents.

    Args:
        files: by what the digest calls them, wherever they lie.

    Raises:
        ValueError: one cannot be read.
    """
    looked = time.time()
    stamps, named, newest = hashlib.sha256(), hashlib.sha256(), 0
    for name, path in sorted(files.items()):
        stat = path.stat()
        newest = max(newest, stat.st_mtime_ns)
        named.update(f"{name}\0{path.absolute()}\n".encode(errors="surrogateescape"))
        # The time of change of the file's entry as well: a copy may set the time of its content
        # back.
        stamps.update(f"{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ctime_ns}\n".encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    kept = cache / "stillhouse" / "picture-digests" / f"{named.hexdigest()[:24]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        held = json.loads(kept.read_text())
        if held["stamps"] == stamps.hexdigest():
            return str(held["content"])
    content = hashlib.sha256()
    for name, path in sorted(files.items()):
        try:
            with path.open("rb") as stream:
                inside = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
        content.update(f"{name}\0{inside}\n".encode(errors="surrogateescape"))
    if newest / 1e9 < looked - SETTLED_S:
        temporary = kept.with_name(f".{kept.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            found = {"stamps": stamps.hexdigest(), "content": content.hexdigest()}
            temporary.write_text(json.dumps(found))
            temporary.replace(kept)
    return content.hexdigest()
