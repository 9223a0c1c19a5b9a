"""Workspaces whose paths mean something in a URL, that may not be written, or hold odd records."""

import json
import os
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer
from typer.testing import CliRunner

from harness import cli
from harness.commands import report, status
from harness.errors import HarnessError, WorkspaceError
from harness.journal.history import History
from harness.journal.workspace import Workspace
from harness.report import page
from harness.tracking.address import sqlite_file, sqlite_uri, tracking_uri
from harness.tracking.server import server_command, start

from .run_place import Place

ODD = "a%20b?c#d&e 'f' é+g%"


def call(command, *words: str):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(words))


def test_the_database_of_an_odd_path_is_its_own(tmp_path: Path, monkeypatch):
    from sqlalchemy.engine import make_url

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = Workspace(tmp_path / ODD)
    uri = tracking_uri(workspace)
    assert sqlite_file(uri) == workspace.database
    assert make_url(uri).database == str(workspace.database)
    assert tracking_uri(workspace, uri) == uri
    assert uri in server_command(workspace, 5000)
    assert sqlite_uri(Path("/plain path/x.db")) == "sqlite:////plain path/x.db"
    with pytest.raises(HarnessError, match="%3F"):
        tracking_uri(workspace, f"sqlite:////{tmp_path}/a?b.db")


def test_mlflow_of_an_odd_path_is_in_it_and_nowhere_else(tmp_path: Path, monkeypatch):
    from harness.tracking.mlflow_tracker import MlflowTracker

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    place = Place(tmp_path / "p")
    place.workspace = Workspace(place.folder / ODD)
    made = place.study()
    place.run(made, tracker=lambda: MlflowTracker(place.workspace))
    assert place.workspace.database.stat().st_size
    assert list(place.workspace.artifacts.rglob("report.html"))
    assert sorted(p.name for p in place.folder.iterdir()) == sorted(
        [ODD, "pyproject.toml", "study.yaml"]
    )
    assert [unquote(p.name) for p in tmp_path.iterdir()] == ["p"]


def test_a_workspace_that_is_read_only_answers_all_the_same(tmp_path: Path, monkeypatch):
    place = Place(tmp_path)
    made = place.study()
    place.run(made)

    def refuse(*args: object, **options: object) -> None:
        raise OSError(30, "Read-only file system", str(place.workspace.root))

    monkeypatch.setattr(page, "_write", refuse)
    where = ["--workspace", str(place.workspace.root)]
    done = call(report.command, str(made.file), *where)
    assert isinstance(done.exception, WorkspaceError)
    assert "Read-only file system" in str(done.exception)
    assert "x helps" in done.stdout or "H1" in done.stdout
    assert "report   " not in done.stdout
    done = call(report.command, str(made.file), *where, "--json")
    assert json.loads(done.stdout)["report"] is None


def test_ui_where_its_log_cannot_be_written(tmp_path: Path):
    with pytest.raises(WorkspaceError, match="copy the workspace"):
        start(["true"], tmp_path / "gone" / "mlflow-server.log")


@pytest.mark.parametrize(("number", "said"), [(30, "read-only"), (28, "space"), (13, "permission")])
def test_what_a_file_system_refuses_has_its_place(number: int, said: str, monkeypatch, capsys):
    def refuse() -> None:
        raise OSError(number, os.strerror(number), "/some/results")

    monkeypatch.setattr(cli, "_register", refuse)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("/some/results: ")
    assert said in told


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_is_none_makes_a_line_unreadable(constant: str, tmp_path: Path):
    place = Place(tmp_path)
    made = place.study(recipe="{fault: 'NaN in Infinity'}")
    place.run(made)
    (file,) = place.workspace.journal.glob("*.jsonl")
    assert not History.read([place.workspace.journal]).warnings, "words are no numbers"
    lines = file.read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if '"closed"' in line)
    record = json.loads(lines[number])
    record["measurements"][-1]["metrics"]["score"] = float(constant.replace("Infinity", "inf"))
    lines[number] = json.dumps(record)
    file.write_text("\n".join(lines) + "\n")
    (warning,) = History.read([place.workspace.journal]).warnings
    assert warning.startswith(f"{file}:{number + 1}: ")
    assert f"{constant} is no JSON number" in warning
    told = call(status.command, str(made.file), "--workspace", str(place.workspace.root))
    assert f"{constant} is no JSON number" in told.stdout
    assert place.run(made).exit_code == 0, "it is run again"


def test_a_journal_that_cannot_be_read_is_an_error_with_its_place(tmp_path: Path):
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(WorkspaceError, match=r"a\.jsonl"):
        History.read([tmp_path])
