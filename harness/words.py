"""Words of errors, and short forms of long texts."""

from __future__ import annotations

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
