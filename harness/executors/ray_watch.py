"""Watches the Ray that a run depends on. Imports no ray.

Without Ray's control store (GCS) a driver hangs inside Ray's own code, deaf to Ctrl-C, until Ray
ends it a minute later without a word. Without its raylet it waits for new workers for ever.
"""

from __future__ import annotations

import contextlib
import os
import threading

import psutil

from harness.errors import HarnessError
from harness.executors.ray_environment import check_reachable

LOOK_SECONDS = 1.0
HANG_SECONDS = 10.0
"""How long the driver may take to notice by itself that its own Ray is gone."""
AWAY_SECONDS = 45.0
"""How long a cluster's control store may be away: one with fault tolerance comes back. Ray itself
gives up after 60 s."""
EXIT_CODE = 1
CONTROL, LOCAL = "gcs_server", "raylet"


class Watch:
    """Looks every second, from a thread of its own, until it is stopped."""

    def __init__(self, address: str | None) -> None:
        """Watch the cluster at `address`, or the processes that Ray started below this one."""
        self.broken = ""
        """What of our own Ray is gone; empty while all is well."""
        self._address = address
        self._processes = {} if address is not None else _own_processes()
        self._done = threading.Event()
        threading.Thread(target=self._run, name="stillhouse-ray-watch", daemon=True).start()

    def stop(self) -> None:
        """Ray is left on purpose, or its end was noticed."""
        self._done.set()

    def _run(self) -> None:
        away = 0.0
        while not self._done.wait(LOOK_SECONDS):
            if self._address is None:
                gone = [name for name, process in self._processes.items() if not _lives(process)]
                self.broken = f"its {' and '.join(gone)} died" if gone else ""
                hangs = CONTROL in gone  # without its raylet only, the driver can leave by itself
            else:
                hangs = not _answers(self._address)
            away = away + LOOK_SECONDS if hangs else 0.0
            if away > (HANG_SECONDS if self._address is None else AWAY_SECONDS):
                _end(self.broken or f"nothing answers at {self._address} any more")


def _own_processes() -> dict[str, psutil.Process]:
    found = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.name() in (CONTROL, LOCAL):
                found[process.name()] = process
    return found


def _answers(address: str) -> bool:
    try:
        check_reachable(address)
    except HarnessError:
        return False
    return True


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _end(what: str) -> None:
    """The main thread is held in Ray's code: end the process as a kill would, but with a word."""
    text = (
        f"\nRay broke down: {what}. Attempts under way stay open; run the same command again to "
        "continue them from their last checkpoint\n"
    )
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
    os._exit(EXIT_CODE)
