"""A gzipped text of ours inside a bundle, changed without leaving a trace of when."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

from harness.prompt_values import PACKED


def is_packed(name: str) -> bool:
    """Whether a member holds text that is packed: values by prompt, whose names are a study's."""
    return name.rpartition("/")[2] == PACKED


def rewritten(content: bytes | Path, change: Callable[[bytes], bytes]) -> bytes:
    """The content with its text changed; the same bytes where nothing is."""
    there = content.read_bytes() if isinstance(content, Path) else content
    text = gzip.decompress(there)
    made = change(text)
    return there if made == text else gzip.compress(made, 9, mtime=0)
