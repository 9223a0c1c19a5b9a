"""MLflow's own server for a workspace: starts it, waits, prints links. Imports no mlflow."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, WorkspaceError
from harness.journal.command_line import typed
from harness.journal.workspace import Workspace
from harness.tracking.address import sqlite_uri
from harness.tracking.pages import VIEWS, link
from harness.tracking.run_write import TAG
from harness.tracking.sqlite_file import follow_artifacts, no_stray_folders

HOST = "127.0.0.1"
START_SECONDS = 180.0
# no telemetry, and no job runners: seven idle processes that outlive a server that is killed
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONSAFEPATH": "1",  # what lies in the current folder is not imported, by its workers either
}


def server_command(workspace: Workspace, port: int) -> list[str]:
    """Command line of MLflow's server on the workspace's database and artifacts."""
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", sqlite_uri(workspace.database)),
        *("--default-artifact-root", workspace.artifacts.as_uri()),
        *("--host", HOST, "--port", str(port), "--workers", "1"),
    ]


def serve(workspace: Workspace, port: int, echo: Callable[[str], None]) -> int:
    """Run the server until interrupted; returns its exit code (0 after Ctrl-C).

    Raises:
        HarnessError: if nothing was recorded yet, or the port is taken.
    """
    if not workspace.database.exists():
        raise HarnessError(
            f"{workspace.database} does not exist: no study was recorded in this workspace. "
            "Run one first, name its workspace with --workspace, or replay the journal with "
            f"`{typed('sync', workspace=workspace)}`."
        )
    port = _free_port(port)
    with contextlib.suppress(sqlite3.Error):  # the server shows what it can
        follow_artifacts(workspace, workspace.database)
    log = workspace.root / "mlflow-server.log"
    echo(f"workspace {workspace.root}")
    echo("starting MLflow's server ...")
    server = start(server_command(workspace, port), log)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the server must not outlive us
    try:
        address = f"http://{HOST}:{port}"
        with no_stray_folders(workspace.database):
            wait_for(server, address, log)
        echo(f"MLflow    {address}   (Ctrl-C stops it)")
        for line in links(address):
            echo(line)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        stop(server)


def start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a server in its own process group, its output in a file."""
    try:
        stream = log.open("wb")
    except OSError as error:
        raise WorkspaceError(
            f"{log} cannot be written: {error.strerror or error}. MLflow writes where it shows: "
            "copy the workspace to where that may be, and name the copy with --workspace."
        ) from error
    with stream as output:
        return subprocess.Popen(
            command,
            env=os.environ | ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and its workers, by force after five seconds."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(5)
        # Even where it has ended: its workers may live on.
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def links(address: str) -> list[str]:
    """One line for each saved view of each study on the server."""
    lines = []
    experiments = _call(address, "experiments/search", {"max_results": 1000}).get("experiments", [])
    for experiment in experiments:
        tags = {t["key"]: t["value"] for t in experiment.get("tags", [])}
        if TAG + "study" in tags:
            lines.append(f"{experiment['name']}: {tags.get(TAG + 'question', '')}")
            lines += [
                f"  {view.name:9} {link(address, experiment['experiment_id'], view)}"
                for view in VIEWS
            ]
    return lines


def wait_for(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Return once the server answers.

    Raises:
        HarnessError: if it ended, or does not answer in time; shows the end of its log.
    """
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            raise HarnessError(f"MLflow's server ended at once:\n{log.read_text()[-2000:]}")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise HarnessError(f"MLflow's server did not answer within {START_SECONDS:.0f} s; see {log}")


def _call(address: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    request = urllib.request.Request(
        f"{address}/api/2.0/mlflow/{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        content: dict[str, Any] = json.load(answer)
        return content


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        # A port whose last connections still linger (TIME_WAIT) is free for the server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise HarnessError(
                f"port {port} on {HOST} is taken ({error.strerror}). Give another with --port, "
                "or --port 0 for a free one."
            ) from error
        return int(probe.getsockname()[1])
