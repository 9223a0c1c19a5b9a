"""The process around Ray: quiet, no telemetry, our signal handlers; and a watch on Ray itself.

Imports no ray. Without Ray's control store (GCS) a driver hangs inside Ray's own code, deaf to
Ctrl-C, until Ray ends it a minute later without a word. Without its raylet it waits for new workers
for ever.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psutil

from harness.errors import HarnessError
from harness.text.spelling import keeping_end

KNOCK_SECONDS = 5.0
OBJECT_STORE_BYTES = 128 * 2**20
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_USAGE_STATS_REPORT_URL": "http://127.0.0.1:9/",  # where "disabled" would be reported to
    # Leave the visible devices of workers without GPUs as they are, in every version of Ray (its
    # issue 54868).
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # The old reporter of Tune, which prints nothing where `verbose=0`.
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_worker_niceness": "0",  # Ray's default, 15, starves trials beside anything else
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    # CSV, JSON and TensorBoard files of every trial; the journal and `reports.jsonl` hold it all.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_INIT": "1",
    # Tune would end the run its own way; the driver's handlers close attempts first.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # Its snapshots of all trials are restored by nobody and grow with each trial.
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "60",
}


def prepare() -> None:
    """Set what Ray and Tune read from the environment, where the user has not."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def own_cluster_options(cpus: float, parallel: int | None) -> dict[str, Any]:
    """Options of `ray.init` for a Ray of our own, with room for `parallel` trials of `cpus`."""
    here = max(float(len(os.sched_getaffinity(0))), cpus)
    return {
        "address": "local",  # not the cluster somebody else may have started here
        "num_cpus": here if parallel is None else parallel * cpus,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }


def join_options(address: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """Options of `ray.init` for a cluster that is there already."""
    return {"address": address, "runtime_env": {"env_vars": dict(variables)}}


def slots(nodes: Iterable[Mapping[str, float]], cpus: float, gpus: float) -> int:
    """Trials that fit at once on the nodes of a cluster, by their resources; none spans two.

    Raises:
        HarnessError: if not even one does.
    """
    listed = list(nodes)
    fit = 0
    for there in listed:
        shares = [there.get("CPU", 0.0) / cpus] + ([there.get("GPU", 0.0) / gpus] if gpus else [])
        # The 1e-9: 0.6 / 0.2 is a hair below 3 in floating point.
        fit += int(min(shares) + 1e-9)
    if fit < 1:
        most = {kind: max((n.get(kind, 0.0) for n in listed), default=0) for kind in ("CPU", "GPU")}
        raise HarnessError(
            f"a trial asks for {cpus:g} CPUs and {gpus:g} GPUs; the largest node of Ray has "
            f"{most['CPU']:g} and {most['GPU']:g}"
        )
    return fit


def name_of(node: Mapping[str, Any]) -> str:
    """What people call a node of `ray.nodes()`: host, address, and the start of Ray's own id."""
    host, address = node["NodeManagerHostname"], node["NodeManagerAddress"]
    return f"{host} ({address}, {node['NodeID'][:6]})"


def silence_ray() -> None:
    """Ray's libraries log errors only; after `ray.init`, which sets their levels.

    That Tune cannot save its state is no news: nothing here is restored from it, and a full disk
    is told by the trials that meet it.
    """
    for name in ("ray.tune", "ray.train", "ray.air", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)


def ray_error_text(error: Exception) -> str:
    """The last line of one of Ray's errors, which are long, with its type."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[-1]}"


def check_reachable(address: str) -> None:
    """Knock at a cluster's `host:port`: Ray itself takes minutes to say that nobody is there.

    Raises:
        HarnessError: if nothing listens.
    """
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdigit():
        return  # `auto` and the like: for Ray to find
    try:
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()
    except OSError as error:
        raise HarnessError(
            f"no Ray cluster answers at {address}: {error.strerror or error}. Start one with "
            "`ray start --head`, give its address, or leave --ray-address out to run on this "
            "machine."
        ) from error


def out_of_memory(error_text: str) -> bool:
    """True where Ray ended a worker because its node ran out of memory."""
    return "low on memory" in error_text or "OutOfMemory" in error_text


def breakdown(error: BaseException, *, told: bool) -> str:
    """Why every attempt under way is lost; `told`: the error is a sentence of our own."""
    if out_of_memory(str(error)):
        return cause_of_death(str(error))
    kind = "" if told else f"{type(error).__name__}: "
    return keeping_end(f"Ray broke down: {kind}{error}", 300)


def cause_of_death(error_text: str) -> str:
    """Why a worker died, from what Ray told; the reason that is recorded."""
    if "creation task" in error_text:
        return f"its worker could not start: {error_text.strip().splitlines()[-1]}"[:300]
    if out_of_memory(error_text):
        return "its worker process was ended by Ray: the node was out of memory"
    if (
        "node has died" in error_text
        or "NodeDied" in error_text
        or "node was terminated" in error_text
    ):
        return "its worker process died: its node was lost"
    return "its worker process died (killed, or out of memory)"


def start_error(address: str | None, error: Exception) -> HarnessError:
    """What to tell the user when Ray does not start or the cluster lets nobody in."""
    message = f"cannot start Ray: {error}."
    if address is not None:
        message = (
            f"cannot join the cluster at {address}: {error}. If it was started with a token, set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN here to the same."
        )
    return HarnessError(f"{message} `--inline` runs without Ray.")


def signal_handlers() -> Callable[[], None]:
    """Remember the signal handlers in force; what is returned puts them back.

    Ray installs its own for SIGTERM when it starts, Tune for SIGUSR1 with each tuner.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}

    def put_back() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    return put_back


@contextmanager
def starting(variables: Mapping[str, str]) -> Iterator[None]:
    """While Ray starts: variables that its local workers inherit, and ours put back afterwards."""
    before = {name: os.environ.get(name) for name in variables}
    put_back = signal_handlers()
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        put_back()


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
                dead = [name for name, process in self._processes.items() if not _lives(process)]
                self.broken = f"its {' and '.join(dead)} died" if dead else ""
                hangs = CONTROL in dead  # without its raylet only, the driver can leave by itself
            else:
                hangs = not _answers(self._address)
            away = away + LOOK_SECONDS if hangs else 0.0
            if away > (HANG_SECONDS if self._address is None else AWAY_SECONDS):
                _end(self.broken or f"nothing answers at {self._address} any more")


def _own_processes() -> dict[str, psutil.Process]:
    by_name = {}
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.name() in (CONTROL, LOCAL):
                by_name[process.name()] = process
    return by_name


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
