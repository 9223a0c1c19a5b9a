"""Short forms of long texts."""

from __future__ import annotations

GAP = " ... "


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
