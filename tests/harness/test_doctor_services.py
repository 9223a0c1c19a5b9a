"""`doctor` on MLflow and Ray: absent, wrong, locked, of an old schema, with another clock."""

from __future__ import annotations

import http.server
import socket
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.doctor import services
from harness.journal.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "w")
    made.ensure_usable()
    return made


@pytest.fixture(autouse=True)
def _no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


class Odd(http.server.BaseHTTPRequestHandler):
    """A server with another clock; it answers with the class's own code and version."""

    code, version = 200, "3.0.0"

    def do_GET(self) -> None:
        self.send_response(self.code)
        self.end_headers()
        self.wfile.write(self.version.encode())

    def date_time_string(self, timestamp: float | None = None) -> str:
        return "Tue, 01 Jan 2030 00:00:00 GMT"

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def odd() -> Iterator[str]:
    made = http.server.HTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    made.server_close()


def test_an_mlflow_server_with_another_clock(odd: str, workspace: Workspace):
    reached, clock = services.mlflow(workspace, odd)
    assert reached.state == "ok"
    assert clock.state == "warn"
    assert "s behind the MLflow server" in clock.found


@pytest.mark.parametrize(
    ("code", "version", "told", "fix"),
    [
        (401, "", "401", "MLFLOW_TRACKING_USERNAME"),
        (404, "", "404", "mlflow server"),
        (200, "<html>", "<html>", "is that an MLflow server?"),
        (200, "1.30.0", "1.30.0", "same major version"),
    ],
)
def test_a_server_that_is_not_the_right_one(code, version, told, fix, odd, workspace, monkeypatch):
    monkeypatch.setattr(Odd, "code", code)
    monkeypatch.setattr(Odd, "version", version)
    found = services.mlflow(workspace, odd)[0]
    assert found.state == "fail"
    assert told in found.found
    assert fix in found.fix


def test_an_address_where_nobody_listens(workspace: Workspace):
    with socket.socket() as probed:
        probed.bind(("127.0.0.1", 0))
        port = probed.getsockname()[1]
        (found,) = services.mlflow(workspace, f"http://127.0.0.1:{port}")
        assert found.state == "fail"
        assert "does not answer" in found.found
        ray = services.ray(f"127.0.0.1:{port}", 1, 0)
    assert ray.state == "fail"
    assert "no Ray cluster answers" in ray.found
    assert "ray start --head" in ray.fix


def test_a_file_store_is_refused(workspace: Workspace):
    (found,) = services.mlflow(workspace, "./mlruns")
    assert found.state == "fail"
    assert "file store" in found.found


@pytest.mark.slow
def test_a_database_that_is_locked_or_of_an_old_schema(workspace: Workspace):
    connection = sqlite3.connect(workspace.database, isolation_level=None)
    connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
    connection.execute("INSERT INTO alembic_version VALUES ('451aebb31d03')")
    (found,) = services.mlflow(workspace, None)
    assert found.state == "fail"
    assert "451aebb31d03" in found.found
    assert f"mlflow db upgrade sqlite:///{workspace.database}" in found.fix
    connection.execute("BEGIN EXCLUSIVE")
    (found,) = services.mlflow(workspace, None)
    connection.close()
    assert found.state == "fail"
    assert "locked" in found.found
    assert "another program holds it" in found.fix


def test_a_password_is_not_shown(workspace: Workspace):
    (found,) = services.mlflow(workspace, "postgresql+psycopg2://u:secret@127.0.0.1:1/db")
    assert found.state == "fail"
    assert "secret" not in found.found.split(" cannot be read")[0]
    assert "127.0.0.1:1/db" in found.found
