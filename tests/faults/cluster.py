"""A Ray cluster of two nodes on this machine, started as people do: `ray start`, twice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.faults.stage import PATIENCE, family, free_port

QUICK_TO_GIVE_UP = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_AUTH_MODE": "disabled",  # a token file in the home folder would switch it on
}
WORKER = "ray::ResourceTrainable"


class Cluster:
    """One CPU a node; `head` and `other` are the pids of their `ray start --block`."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._started: list[subprocess.Popen[bytes]] = []
        self._short = tempfile.TemporaryDirectory(prefix="rf-", dir="/tmp")  # sockets: 107 letters
        self._log = (folder / "cluster.log").open("wb")
        own = ["--head", "--port", str(port), "--include-dashboard=false"]
        self.head = self._start(*own, "--temp-dir", self._short.name)
        self._await_nodes(1)
        self.other = self._start("--address", self.address)
        self._await_nodes(2)

    def workers(self, node: int) -> list[psutil.Process]:
        """Trials' processes on a node."""
        return family(node, (WORKER,))

    def send(self, node: int, number: signal.Signals, names: tuple[str, ...] = ()) -> None:
        """A signal to all processes of a node, or those whose command line holds a name."""
        for process in reversed(family(node, names)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def close(self) -> None:
        """End both nodes."""
        for node in (self.other, self.head):
            self.send(node, signal.SIGCONT)
            self.send(node, signal.SIGKILL)
        for process in self._started:
            process.wait()
        self._log.close()
        self._short.cleanup()

    def _start(self, *options: str) -> int:
        command = [
            *(str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1"),
            *("--object-store-memory", str(80 * 2**20), "--disable-usage-stats", *options),
        ]
        process = subprocess.Popen(
            command, stdout=self._log, stderr=subprocess.STDOUT,
            env=os.environ | QUICK_TO_GIVE_UP, start_new_session=True,
        )  # fmt: skip
        self._started.append(process)
        return process.pid

    def _await_nodes(self, count: int) -> None:
        until = time.monotonic() + PATIENCE
        while Path(self._log.name).read_text().count("Ray runtime started") < count:
            assert time.monotonic() < until, "a node did not come up"
            time.sleep(0.1)
