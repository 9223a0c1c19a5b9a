"""Words of errors: the nearest spelling, an exception's own words, short forms of long texts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

GAP = " ... "


def said_by(error: BaseException) -> str:
    """An exception's own words; whatever its `__str__` does, there are some."""
    try:
        return str(error).strip() or "no message"
    except Exception as unprintable:
        return f"its message cannot be printed ({type(unprintable).__name__})"


def last_words(text: str, most: int) -> str:
    """At most `most` characters of a text, in one line; see `keeping_end`."""
    return keeping_end(" ".join(text.split()), most)


def keeping_end(text: str, most: int) -> str:
    """At most `most` characters of a text: a little of its start, and its end.

    A failure says at its end what went wrong (the exception), at its start where it began.
    """
    if len(text) <= most:
        return text
    start = most // 4
    return text[:start].rstrip() + GAP + text[len(text) - (most - start - len(GAP)) :].lstrip()


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
