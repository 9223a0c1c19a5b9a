"""The terminal as an exit: whatever is printed, by whomever, moves no cursor and hides nothing."""

from __future__ import annotations

import sys
from typing import Any, TextIO, cast

from harness.text.printable import shown
from harness.text.secrets import without_credentials


class Terminal:
    """A stream that shows characters with an effect as their escapes; all else is the stream's."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Write it so that it only reads."""
        self.stream.write(shown(without_credentials(text.replace("\r\n", "\n"))))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def guard() -> None:
    """Put `Terminal` before standard output and standard error of this process."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Terminal):
            setattr(sys, name, cast(TextIO, Terminal(stream)))


def drawing(stream: TextIO) -> TextIO:
    """The stream below, for a display that places its own lines; its words are `printable`."""
    return stream.stream if isinstance(stream, Terminal) else stream
