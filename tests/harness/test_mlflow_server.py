"""A real `mlflow server`: absent, stopped and restarted in the middle, and `stillhouse ui`."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from harness.errors import HarnessError
from harness.journal.workspace import Workspace
from harness.tracking import background_writer, server
from harness.tracking.mlflow_tracker import MlflowTracker
from harness.tracking.run_write import TAG
from tests.harness.mlflow_records import Recorder, answer_of, plan_of


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind((server.HOST, 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "workspace")
    made.ensure_usable()
    return made


class Server:
    """A server that can be stopped and started again on the same database and port."""

    def __init__(self, workspace: Workspace, port: int) -> None:
        self.workspace, self.port = workspace, port
        self.address = f"http://{server.HOST}:{port}"
        self.log = workspace.root / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = server.start(server.server_command(self.workspace, self.port), self.log)
        server.wait_for(self.process, self.address, self.log)

    def stop(self) -> None:
        if self.process is not None:
            server.stop(self.process)
            self.process = None


@pytest.fixture
def running(workspace: Workspace, port: int) -> Iterator[Server]:
    made = Server(workspace, port)
    made.start()
    yield made
    made.stop()


def test_an_absent_server_is_given_up_and_sync_named(workspace: Workspace, port: int) -> None:
    tracker = MlflowTracker(workspace, f"http://{server.HOST}:{port}")
    recorder = Recorder(workspace, plan_of(), tracker)
    tracker.start(recorder.plan, recorder.history)
    for planned in recorder.plan.trials:
        recorder.whole(planned.trial)
    warnings = tracker.close(timeout=60)
    assert any("nothing was written" in w for w in warnings)
    assert any("stillhouse sync demo" in w for w in warnings)


@pytest.mark.slow
def test_a_server_restarted_in_the_middle_loses_nothing(
    running: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_writer, "LINGER_SECONDS", 0.05)
    monkeypatch.setattr(background_writer, "CLOSING_GRACE", 60.0)
    tracker = MlflowTracker(running.workspace, running.address)
    recorder = Recorder(running.workspace, plan_of(), tracker)
    tracker.start(recorder.plan, recorder.history)
    first, *others, last = (t.trial for t in recorder.plan.trials)
    recorder.whole(first)
    _wait_until(lambda: tracker.links() and not tracker._background.pending)
    opened, folder = recorder.open(last)
    running.stop()
    for trial in others:
        recorder.whole(trial)
    running.start()
    recorder.close(opened, folder, "killed", {})
    tracker.answer(answer_of(recorder.plan), None)
    assert tracker.close(timeout=120) == []
    client = mlflow.MlflowClient(running.address)
    runs = client.search_runs([tracker._store.experiment_id])
    keys = sorted(r.data.tags[TAG + "key"] for r in runs if TAG + "key" in r.data.tags)
    assert keys == sorted(t.trial.key for t in recorder.plan.trials)
    states = {r.data.tags[TAG + "key"]: r.info.status for r in runs if TAG + "key" in r.data.tags}
    assert states[last.key] == "KILLED"
    assert {states[t.key] for t in (first, *others)} == {"FINISHED"}
    for run in runs:
        for name in run.data.metrics:
            steps = [m.step for m in client.get_metric_history(run.info.run_id, name)]
            assert len(steps) == len(set(steps))
    recipe = client.list_artifacts(next(r for r in runs if TAG + "key" in r.data.tags).info.run_id)
    assert [f.path for f in recipe] == ["recipe.json"]
    lines = server.links(running.address)
    assert lines[0] == "demo: Does x help?"
    assert [line.split()[0] for line in lines[1:]] == ["Arms", "Trials", "Failures", "Training"]
    assert [line.split()[1] for line in lines[1:]] == list(tracker.links().values())


def _wait_until(done: object, seconds: float = 60.0) -> None:
    assert callable(done)
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_ui_says_what_to_do_where_nothing_was_recorded(workspace: Workspace) -> None:
    with pytest.raises(HarnessError, match="no study was recorded"):
        server.serve(workspace, 0, lambda line: None)


def test_ui_names_a_port_that_is_taken(workspace: Workspace) -> None:
    workspace.database.write_bytes(b"x")
    with socket.socket() as taken:
        taken.bind((server.HOST, 0))
        taken.listen()
        number = taken.getsockname()[1]
        with pytest.raises(HarnessError, match=f"port {number} .* --port"):
            server.serve(workspace, number, lambda line: None)
