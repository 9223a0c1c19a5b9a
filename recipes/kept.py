"""Small results kept between processes in the user's cache. Imports no torch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
