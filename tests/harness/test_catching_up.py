"""A run with nothing to do: MLflow has everything, or gets it, or one line says what writes it."""

from __future__ import annotations

import http.server
import shlex
import socket
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import mlflow
import pytest

from harness.running.run_study import RunResult
from harness.tracking import mlflow_place, run_write
from harness.tracking.mlflow_place import MlflowPlace
from harness.tracking.mlflow_store import MlflowStore
from harness.tracking.run_write import TAG
from harness.tracking.sync import sync
from tests.harness.run_place import Place

ALL = "nothing to run: all 4 trials are there"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Place(tmp_path / "a place")  # commands are to be pasted


def _run(place: Place, uri: str | None = None, tracked: bool = True) -> RunResult:
    at = MlflowPlace(place.workspace, uri) if tracked else None
    return place.run(place.study(), tracker=at)


def _states(place: Place, uri: str = "") -> list[str]:
    """State of every trial run, and of the study's."""
    client = mlflow.MlflowClient(uri or f"sqlite:///{place.workspace.database}")
    experiment = client.get_experiment_by_name("demo")
    runs = client.search_runs([experiment.experiment_id])
    kinds = {"trial": "", "study": "study ", "arm": "arm "}
    return sorted(
        kinds[r.data.tags[TAG + "kind"]] + r.data.tags[TAG + "state"]
        for r in runs
        if r.info.status == "FINISHED"
    )


WHOLE = ["arm done", "arm done", "done", "done", "done", "done", "study done"]


def test_with_everything_there_mlflow_is_not_touched(place: Place, monkeypatch) -> None:
    assert _run(place).exit_code == 0
    assert _states(place) == WHOLE
    monkeypatch.setattr(MlflowPlace, "__call__", lambda self: pytest.fail("asked for"))
    result = _run(place)
    assert (result.exit_code, result.warnings, place.said[-1]) == (0, [], ALL)


def test_an_earlier_run_without_mlflow_is_caught_up(place: Place) -> None:
    _run(place, tracked=False)
    result = _run(place)
    assert (result.exit_code, result.warnings, place.said[-1]) == (0, [], ALL)
    assert _states(place) == WHOLE


def test_a_deleted_database_is_written_again(place: Place) -> None:
    _run(place)
    for file in place.workspace.root.glob("mlflow.db*"):
        file.unlink()
    assert _run(place).warnings == []
    assert _states(place) == WHOLE


def test_a_deleted_experiment_is_written_again(place: Place) -> None:
    _run(place)
    client = mlflow.MlflowClient(f"sqlite:///{place.workspace.database}")
    client.delete_experiment(client.get_experiment_by_name("demo").experiment_id)
    assert _run(place).warnings == []
    assert client.get_experiment_by_name("demo").lifecycle_stage == "active"
    assert _states(place) == WHOLE


@pytest.mark.parametrize("killed_at", ["connect", "log", "experiment"])
def test_a_kill_after_the_report_was_written(place: Place, monkeypatch, killed_at: str) -> None:
    """Nothing of MLflow, or a part of it, is there; a second run asks for all the rest."""
    calls = []

    def dies(self, *given, **named):
        calls.append(given)
        if len(calls) > 2 or killed_at in ("connect", "experiment"):
            raise ConnectionError("the process is gone")
        return real(self, *given, **named)

    real = getattr(MlflowStore, killed_at)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowStore, killed_at, dies)
        patch.setattr("harness.tracking.background_writer.CLOSING_GRACE", 0.2)
        patch.setattr("harness.tracking.background_writer.ABSENT_GRACE", 0.2)
        assert _run(place).warnings, "it says so"
    assert calls
    result = _run(place)
    assert (result.exit_code, result.warnings, place.said[-1]) == (0, [], ALL)
    assert _states(place) == WHOLE


def test_another_report_than_the_one_there_is_written(place: Place) -> None:
    _run(place)
    page = place.workspace.study("demo") / "report.html"
    page.write_text(page.read_text() + "<!-- again -->")
    assert _run(place).warnings == []
    client = mlflow.MlflowClient(f"sqlite:///{place.workspace.database}")
    (study,) = client.search_runs(
        [client.get_experiment_by_name("demo").experiment_id], f"tags.`{TAG}kind` = 'study'"
    )
    there = client.download_artifacts(study.info.run_id, "report.html")
    assert Path(there).read_text() == page.read_text()


@pytest.mark.parametrize("gone", ["report.md", "results"])
def test_what_lies_beside_the_report_is_made_again(place: Place, gone: str) -> None:
    _run(place, tracked=False)
    folder = place.workspace.study("demo")
    for file in [folder / gone, *(folder / gone).glob("*")]:
        if file.is_file():
            file.unlink()
    _run(place, tracked=False)
    assert (folder / gone).is_file() or list((folder / gone).iterdir())


def _one_line(place: Place, result: RunResult, uri: str) -> list[str]:
    """The words of the command in the only warning."""
    assert result.exit_code == 0
    (line,) = result.warnings
    assert "\n" not in line
    assert place.said[-1] == "nothing to run: all 4 trials ended"
    words = shlex.split(line.partition("written by: ")[2])
    assert words[1:] == ["sync", "demo", "--mlflow", uri, "--workspace", str(place.workspace.root)]
    return words[1:]


def test_without_a_way_to_the_server_one_line_names_the_command(place: Place) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
    _run(place, tracked=False)
    _one_line(place, _run(place, uri), uri)
    secret = uri.replace("//", "//me:word@")
    assert "word" not in _run(place, secret).warnings[0]


def test_a_server_that_trickles_is_not_waited_for(place: Place, monkeypatch) -> None:
    """It sends a byte now and then, for ever: no single read takes long."""
    monkeypatch.setattr(mlflow_place, "LOOK_SECONDS", 0.5)
    _run(place, tracked=False)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def trickle() -> None:
            connection, _ = listening.accept()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not over.wait(0.05):
                connection.sendall(b" ")

        thread = threading.Thread(target=trickle, daemon=True)
        thread.start()
        uri = f"http://127.0.0.1:{listening.getsockname()[1]}"
        _one_line(place, _run(place, uri), uri)
        over.set()
        thread.join()


def test_a_database_that_is_none_is_named_and_left_alone(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    file.write_text("precious notes " * 100)
    _run(place, tracked=False)
    uri = f"sqlite:///{file}"
    _one_line(place, _run(place, uri), uri)
    assert file.read_text() == "precious notes " * 100


def test_the_command_as_it_is_printed_writes_the_rest(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "my own.db"
    file.write_text("x" * 2000)
    _run(place, tracked=False)
    words = _one_line(place, _run(place, f"sqlite:///{file}"), f"sqlite:///{file}")
    file.unlink()
    done = subprocess.run([sys.executable, "-m", "harness.cli", *words], cwd=tmp_path)
    assert done.returncode == 0
    assert _run(place, f"sqlite:///{file}").warnings == []
    assert place.said[-1] == ALL
    assert not any("behind" in line for line in place.said), "sync left word that it wrote all"
    assert _states(place, f"sqlite:///{file}") == WHOLE


def test_what_sync_could_not_write_is_no_word_that_all_is_there(place: Place, monkeypatch) -> None:
    _run(place, tracked=False)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowStore, "put", lambda *_: (_ for _ in ()).throw(OSError("full")))
        patch.setattr("harness.tracking.background_writer.CLOSING_GRACE", 0.2)
        assert sync(place.workspace, study="demo", echo=print)
    with sqlite3.connect(place.workspace.database) as connection:
        assert not connection.execute(
            "select * from experiment_tags where key = ?", (run_write.WRITTEN,)
        ).fetchall()
    assert _run(place).warnings == []
    assert _states(place) == WHOLE


def test_the_look_sends_no_credentials_of_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "of-another")
    try:
        here = f"http://127.0.0.1:{server.server_port}"
        for named in ("http://127.0.0.1:1", here):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", named)
            assert mlflow_place._on_server(here, "demo") == mlflow_place.SeenExperiment(
                "", False, {}
            )
    finally:
        server.shutdown()
    assert seen == [None, "Bearer of-another"]
