"""The nearest spelling of a mistyped word, and what would have been allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHOWN = 20


def nearest(word: object, allowed: Iterable[str]) -> str:
    """Text to append to an error: `; did you mean 'x'? allowed: x, y, z`; empty if nothing is."""
    names = sorted(set(allowed) - {""})
    if not names:
        return ""
    close: list[str] = []
    if isinstance(word, str):  # 0.7 is no misspelling of 0.1
        last = word.split(".")[-1]
        close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
        close = close or [name for name in names if name.split(".")[-1] == last]
    guess = f"; did you mean {close[0]!r}?" if close else ";"
    shown = ", ".join(names[:SHOWN]) + (f", ... ({len(names)} in all)" if names[SHOWN:] else "")
    return f"{guess} allowed: {shown}"
