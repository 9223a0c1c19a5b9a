"""A trainer's progress file, read while it grows: whole lines only, everything odd counted."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST_LINE = 2**20
"""Bytes without a line end after which what was read is given up."""
READ_AT_ONCE = 2**22

_SURROGATE = b"\\ud"


@dataclass(frozen=True)
class Line:
    """One line of progress."""

    step: int
    total: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    diverged: str = ""
    """Why the trainer gives up; empty if it does not."""


class ProgressFile:
    """Reads what was appended since the last time. The file may not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ignored = 0
        self.first_ignored = ""
        self._offset = 0
        self._rest = b""
        self._step = 0

    def read(self, *, last: bool = False) -> Iterator[Line]:
        """New lines, in order. `last`: nobody writes any more, so a line needs no end."""
        while chunk := self._more():
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from filter(None, map(self._line, lines))
            if len(self._rest) > LONGEST_LINE:
                self._ignore(self._rest, f"longer than {LONGEST_LINE} bytes")
                self._rest = b""
        if last and self._rest:
            rest, self._rest = self._rest, b""
            line = self._line(rest)
            if line is not None:
                yield line

    def complaint(self) -> str:
        """What was ignored, in words; empty if nothing was."""
        if not self.ignored:
            return ""
        return (
            f"{self.ignored} line(s) of {self.path.name} ignored, the first: {self.first_ignored}"
        )

    def _more(self) -> bytes:
        try:
            with self.path.open("rb") as stream:
                if stream.seek(0, 2) < self._offset:  # written anew: what was read is gone
                    self._offset, self._rest = 0, b""
                stream.seek(self._offset)
                chunk = stream.read(READ_AT_ONCE)
        except FileNotFoundError:
            return b""
        self._offset += len(chunk)
        return chunk

    def _line(self, raw: bytes) -> Line | None:
        if not raw.strip():
            return None
        try:
            content = json.loads(raw)
            if _SURROGATE in raw.lower():
                json.dumps(content, ensure_ascii=False).encode()  # half a pair is no letter
        except (ValueError, RecursionError):
            self._ignore(raw, "not JSON")
            return None
        step = _count(content.get("step")) if isinstance(content, dict) else None
        if step is None:
            self._ignore(raw, "no object with a whole `step` from 0 on")
            return None
        if step < self._step:
            self._ignore(raw, f"step {step} after step {self._step}")
            return None
        self._step = step
        said = content.get("diverged")
        return Line(
            step=step,
            total=_count(content.get("total")),
            metrics=_numbers(content),
            diverged=said if isinstance(said, str) else "it says so" if said is True else "",
        )

    def _ignore(self, raw: bytes, why: str) -> None:
        self.ignored += 1
        self.first_ignored = self.first_ignored or f"{raw[:80].decode(errors='replace')} ({why})"


def _count(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if whole else None


def _numbers(content: dict[str, Any]) -> dict[str, float]:
    """The numbers of `metrics`, or without that those of the line itself; null is not a number."""
    given = content.get("metrics")
    if not isinstance(given, dict):
        given = {k: v for k, v in content.items() if k not in ("step", "total", "diverged")}
    found = {}
    for name, value in given.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                found[name] = float(value)
            except OverflowError:
                found[name] = math.inf
    return found
