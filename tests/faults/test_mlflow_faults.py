"""A real MLflow server behind a proxy that errs; one that stops; a SQLite file that is locked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.journal.workspace import Workspace
from harness.tracking import mlflow_store, server
from harness.tracking.address import ARTIFACTS
from tests.faults.aftermath import Undisturbed, assert_clean
from tests.faults.fault_proxy import PASS, Choose, Fault, FaultProxy
from tests.faults.stage import Stage, free_port


class Server:
    """An `mlflow server` with a database and artifacts of its own, that may be stopped."""

    def __init__(self, folder: Path) -> None:
        self.place = Workspace(folder)
        self.place.ensure_usable()
        self.port = free_port()
        self.address = f"http://{server.HOST}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = self.place.root / "server.log"
        self._process = server.start(server.server_command(self.place, self.port), log)
        server.wait_for(self._process, self.address, log)
        os.environ[ARTIFACTS] = str(self.place.artifacts)  # a folder that it shares

    def stop(self) -> None:
        if self._process is not None:
            server.stop(self._process)
            self._process = None
            os.environ.pop(ARTIFACTS, None)

    def holds_runs(self) -> bool:
        """Whether somebody's runs have arrived."""
        from mlflow import MlflowClient

        client = MlflowClient(self.address)
        found = client.get_experiment_by_name("demo")
        return found is not None and bool(client.search_runs([found.experiment_id]))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def behind(shared: Server) -> Iterator[Callable[[Choose], FaultProxy]]:
    """A proxy before the server, which forgets the experiments of the tests before."""
    from mlflow import MlflowClient

    client = MlflowClient(shared.address)
    for experiment in client.search_experiments():
        if experiment.name != "Default":
            client.rename_experiment(experiment.experiment_id, f"{experiment.name}-{time.time()}")
    made: list[FaultProxy] = []

    def make(choose: Choose) -> FaultProxy:
        made.append(FaultProxy(shared.port, choose))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


def every(count: int, *faults: Fault) -> Choose:
    """One request in `count` meets one of the faults, in turn."""

    def choose(number: int, method: str, path: str) -> Fault:
        return PASS if number % count else faults[number // count % len(faults)]

    return choose


ERRORS = (
    Fault("status", status=500),
    Fault("status", status=429),
    Fault("status", status=502),
    Fault("status", status=503, body=b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "x"}'),
    Fault("drop"),
    Fault("drop-after"),
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "choose", [every(3, *ERRORS), every(1, Fault("slow", seconds=0.3))], ids=["errors", "slow"]
)
def test_everything_arrives_once(
    behind, shared: Server, stage: Stage, expected: Undisturbed, choose: Choose
) -> None:
    proxy = behind(choose)
    output = stage.completes("--inline", "--mlflow", proxy.address)
    assert "warning" not in output
    assert len(proxy.done) > 1 or proxy.done["slow"] > 10
    assert_clean(stage.workspace, expected, uri=shared.address)


@pytest.mark.slow
def test_a_request_that_comes_late_makes_no_second_run(
    behind, shared: Server, stage: Stage, expected: Undisturbed
) -> None:
    """The server hears the first request to create each run twice: at once again, and late."""
    seen: list[str] = []

    def choose(number: int, method: str, path: str) -> Fault:
        if not path.endswith("/runs/create"):
            return PASS
        seen.append(path)
        return Fault("late", seconds=1.0) if len(seen) % 2 else PASS

    proxy = behind(choose)
    stage.disturb(seconds=0.2)
    stage.completes("--inline", "--mlflow", proxy.address)
    proxy.settle()
    stage.completes("--inline", "--mlflow", proxy.address)  # nothing to run
    assert proxy.done["late"] >= 4
    assert stage.sync("--mlflow", shared.address).returncode == 0
    assert_clean(stage.workspace, expected, uri=shared.address)


@pytest.mark.slow
def test_a_refusal_in_passing_is_made_up_for(
    behind, shared: Server, stage: Stage, expected: Undisturbed
) -> None:
    """A database in trouble is told as BAD_REQUEST, like a request that is wrong for ever."""
    body = b'{"error_code": "BAD_REQUEST", "message": "(sqlite3.InterfaceError) bad connection"}'
    seen: list[str] = []

    def choose(number: int, method: str, path: str) -> Fault:
        if path.endswith("/runs/log-batch"):
            seen.append(path)
            return Fault("status", status=400, body=body) if len(seen) in (2, 3) else PASS
        return PASS

    proxy = behind(choose)
    output = stage.completes("--inline", "--mlflow", proxy.address)
    assert proxy.done["status"] == 2
    assert "refused" not in output
    assert_clean(stage.workspace, expected, uri=shared.address)


@pytest.mark.slow
def test_a_server_stopped_in_the_middle_and_started_again(
    tmp_path: Path, stage: Stage, expected: Undisturbed
) -> None:
    made = Server(tmp_path / "server")
    made.start()
    try:
        stage.disturb(seconds=0.5)
        process = stage.start("--inline", "--mlflow", made.address)
        stage.await_that(made.holds_runs, process)  # a server that never was there is given up soon
        stage.await_reports(process, 5)
        made.stop()
        stage.await_reports(process, 20)
        made.start()
        stage.disturb()
        output = stage.finish(process)
        assert process.returncode == 0, output
        assert "warning" not in output
        assert_clean(stage.workspace, expected, uri=made.address)
        made.stop()
        made.place.database.unlink()  # and now it is lost with all it had
        made.start()
        assert stage.sync("--mlflow", made.address).returncode == 0
        assert_clean(stage.workspace, expected, uri=made.address)
    finally:
        made.stop()


LOCK = """\
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
"""


def lock(database: Path, seconds: float) -> subprocess.Popen[str]:
    """Another process that holds the write lock; returned once it does."""
    command = [sys.executable, "-c", LOCK, str(database), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_a_locked_database_stalls_no_trial_and_loses_nothing(
    stage: Stage, expected: Undisturbed
) -> None:
    """Locked before the run, and for longer than it takes."""
    mlflow_store._prepare_sqlite(stage.workspace.database, stage.workspace.artifacts)
    holder = lock(stage.workspace.database, 600)
    try:
        process = stage.start("--inline")
        stage.await_that(lambda: len(stage.scores()) == 4, process)
        assert holder.poll() is None, "the trials were done while the database was locked"
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    output = stage.finish(process)
    assert process.returncode == 0, output
    assert stage.sync().returncode == 0
    assert_clean(stage.workspace, expected, uri=f"sqlite:///{stage.workspace.database}")
