"""Signals: a notice lets trials checkpoint; Ctrl-C asks for a clean end; a second one forces it.

Why it ends so: docs/decisions/2026-11-24-how-a-run-ends.md.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTICE = signal.SIGUSR1
"""What batch systems are told to send some time before they end a job."""
GRACE_SECONDS = 20.0
"""After SIGTERM: schedulers usually kill 30 s later."""


class Interrupts:
    """Notes signals while in force; calling it tells whether one asks for the end now.

    SIGUSR1 is a notice: nothing new starts, trials checkpoint and end. SIGTERM is the same with
    `GRACE_SECONDS` to do it; after that, or at a second SIGTERM, it is a Ctrl-C. Ctrl-C cuts trials
    short; they continue from their last checkpoint. One more signal ends the process at once:
    attempts under way stay open in the journal, which `status` shows as interrupted and the next
    `run` continues.

    Args:
        give_notice: tells trials to checkpoint and end; without it every signal asks for the end.
    """

    def __init__(self, give_notice: Callable[[], None] | None = None) -> None:
        self.number: int | None = None
        self.notice: int | None = None
        """Signal that gave notice, if one did."""
        self._give_notice = give_notice
        self._previous: dict[int, Any] = {}
        self._alarm: Any = None

    def __call__(self) -> bool:
        """True once a signal asked for the end now."""
        return self.number is not None

    @property
    def exit_code(self) -> int:
        """128 + signal number: 130 for Ctrl-C, 143 for SIGTERM, 138 for SIGUSR1."""
        number = self.number or self.notice
        assert number is not None
        return 128 + number

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            self._previous = {s: signal.signal(s, self._note) for s in (*SIGNALS, NOTICE)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self._alarm is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._alarm)
            self._alarm = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        notice = number == NOTICE or (number == signal.SIGTERM and self._alarm is None)
        if notice and self._give_notice is not None and not self():
            self._noticed(number, name)
            return
        if self.number is not None:
            if number == NOTICE:
                return
            _say("forced to end; run the same command again to continue")
            os._exit(128 + number)
        self.number = number
        _say(f"{name}: ending cleanly (once more forces it)")

    def _noticed(self, number: int, name: str) -> None:
        assert self._give_notice is not None
        self.notice = number
        # Checkpointed instead of cut, as far as the time allows: batch systems kill 30 s after
        # SIGTERM.
        self._give_notice()
        told = f"{name}: nothing new starts, trials checkpoint and end"
        if number == signal.SIGTERM:
            self._alarm = signal.signal(signal.SIGALRM, _terminate)
            signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
            told += f"; cut short in {GRACE_SECONDS:.0f} s, or now if it comes again"
        _say(told)


def _terminate(number: int, frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)  # through whichever handler is in force by then


def _say(text: str) -> None:
    # straight to the descriptor: print() may be the very call that the signal interrupted
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode())
