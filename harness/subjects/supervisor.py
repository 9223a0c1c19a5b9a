"""Stands between a worker and a command: when the worker goes, however it goes, both end.

Run as `python supervisor.py GRACE_SECONDS PROGRAM ARGUMENT...`. Its standard input is a pipe whose
other end only the worker holds: the end of that pipe means stop. The command gets SIGTERM, then,
after the grace time, SIGKILL, and so does everything it started, in whatever process group that is.
Exits as the command did, with 128 + N for signal N, as shells do.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from types import FrameType

NOT_STARTED = 127
LOOK_SECONDS = 0.1
_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER: what the command leaves behind becomes our child, and can be found."""


def main(arguments: list[str]) -> int:
    """Run the command to its end, or to that of the worker; returns the exit code."""
    grace = float(arguments[0])
    told: list[int] = []

    def stop(number: int, _frame: FrameType | None) -> None:
        told.append(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    with contextlib.suppress(OSError, AttributeError):  # Linux only
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    try:
        # In a session of its own, so that Ctrl-C reaches the driver alone, which then ends trials
        # in order. One way for all ends of a trial: Ctrl-C, deadline, divergence, a worker killed
        # with SIGKILL. The price is a Python process a trial; a supervisor that is itself killed
        # leaves its command running.
        command = subprocess.Popen(
            arguments[1:], stdin=subprocess.DEVNULL, start_new_session=True, close_fds=True
        )
    except OSError as error:
        print(f"cannot start {arguments[1]}: {error.strerror or error}", file=sys.stderr)
        return NOT_STARTED
    while command.poll() is None and not told:
        readable, _, _ = select.select([sys.stdin], [], [], LOOK_SECONDS)
        if readable and not os.read(sys.stdin.fileno(), 64):
            break
    if command.poll() is None:
        _signal_group(command.pid, signal.SIGTERM)
        until = time.monotonic() + grace
        while command.poll() is None and time.monotonic() < until:
            time.sleep(LOOK_SECONDS / 2)
    _sweep(command.pid)
    code = command.wait()
    return code if code >= 0 else 128 - code


def _sweep(group: int) -> None:
    """Kill what is left of the command and of everything it started."""
    import psutil

    _signal_group(group, signal.SIGKILL)
    left = psutil.Process().children(recursive=True)
    # More than once: what is listed may have started something since.
    while left:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=1.0)
        left = [
            p
            for p in psutil.Process().children(recursive=True)
            if p.is_running() and p.status() != psutil.STATUS_ZOMBIE
        ]


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
