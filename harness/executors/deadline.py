"""A deadline that may come earlier than planned: a file that the driver writes and workers read."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from harness.contract import Context

LOOK_SECONDS = 0.5
"""Between looks at the file: a trial of short steps must not pay for each."""
COME = "come"


class Deadline:
    """When trials should checkpoint and end: at a planned time, or as soon as a notice comes.

    Args:
        file: where the notice is written and read; None where nobody can give one.
        planned: Unix time, or None.
    """

    def __init__(self, file: Path | None = None, planned: float | None = None) -> None:
        self.file = file
        self.planned = planned
        self._looked = 0.0
        self._came: float | None = None

    @contextlib.contextmanager
    def armed(self) -> Iterator[None]:
        """Meanwhile the file is there, empty: an older notice does not count.

        Opening a file that exists asks the server anew; that one is missing, network file systems
        remember for a minute.
        """
        if self.file is None:
            yield
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("")
        try:
            yield
        finally:
            self.file.unlink(missing_ok=True)

    def give_notice(self) -> None:
        """Time is up from now on. Called by a signal handler, so nothing is raised."""
        self._came = time.time()
        if self.file is not None:
            with contextlib.suppress(OSError):
                self.file.write_text(COME)

    @property
    def at(self) -> float | None:
        """Unix time by the clock of this process, or None while there is no end in sight."""
        if self._came is None:
            self._look()
        ends = [end for end in (self.planned, self._came) if end is not None]
        return min(ends, default=None)

    @property
    def past(self) -> bool:
        """True once time is up."""
        end = self.at
        return self._came is not None or (end is not None and time.time() > end)

    def _look(self) -> None:
        now = time.monotonic()
        if self.file is None or now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        with contextlib.suppress(OSError):
            if self.file.read_text() == COME:
                self._came = time.time() - 1e-3  # before whatever the reader compares it with


class WatchedContext(Context):
    """A context whose deadline is looked up each time it is read."""

    watched = Deadline()

    @property
    def deadline(self) -> float | None:
        """See `Context.deadline`."""
        return self.watched.at

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        if value is not None:  # a copy made by `dataclasses.replace` keeps what was known
            object.__setattr__(self, "watched", Deadline(planned=value))


def watch(context: Context, deadline: Deadline) -> WatchedContext:
    """The same context, with a deadline that may move forward."""
    fields = {name: getattr(context, name) for name in Context.__dataclass_fields__}
    made = WatchedContext(**fields)
    object.__setattr__(made, "watched", deadline)
    return made
