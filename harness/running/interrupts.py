"""Ctrl-C and SIGTERM: the first asks for a clean end, the second forces one."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Notes signals while in force; calling it tells whether one arrived.

    A second signal ends the process at once: attempts under way stay open in the journal, which
    `status` shows as interrupted and the next `run` continues.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._previous: dict[int, Any] = {}

    def __call__(self) -> bool:
        """True once a signal arrived."""
        return self.number is not None

    @property
    def exit_code(self) -> int:
        """128 + signal number: 130 for Ctrl-C, 143 for SIGTERM."""
        assert self.number is not None
        return 128 + self.number

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.signal(s, self._note) for s in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            _say("forced to end; run the same command again to continue")
            os._exit(128 + number)
        self.number = number
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        _say(f"{name}: ending cleanly (once more forces it)")


def _say(text: str) -> None:
    # straight to the descriptor: print() may be the very call that the signal interrupted
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode())
