"""A workspace's id: one, whoever asks at once; made by what writes, and read by everybody."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.errors import WorkspaceError
from harness.journal import workspace
from harness.journal.history import History
from harness.journal.workspace import Workspace, make_workspace_id, read_workspace_id
from tests.harness.run_place import Place

MAKE = """\
import sys, time
from pathlib import Path
from harness.journal.workspace import make_workspace_id
gate = Path(sys.argv[2])
print("ready", flush=True)
while not gate.exists():
    pass
print(make_workspace_id(Path(sys.argv[1])))
"""


def test_it_is_no_number_and_no_key(tmp_path: Path) -> None:
    made = make_workspace_id(tmp_path / "w")
    assert re.fullmatch(r"w[0-9a-f]{32}", made)
    assert made != make_workspace_id(tmp_path / "other")
    assert make_workspace_id(tmp_path / "w") == made == read_workspace_id(tmp_path / "w")
    assert json.loads((tmp_path / "w" / "workspace.json").read_text()) == {"format": 1, "id": made}
    assert [p.name for p in (tmp_path / "w").iterdir()] == ["workspace.json"]


@pytest.mark.parametrize("links", [True, False], ids=["links", "no-links"])
def test_threads_that_make_it_at_once_agree(tmp_path: Path, monkeypatch, links: bool) -> None:
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links")))
    gate, found = threading.Barrier(8), []

    def make() -> None:
        gate.wait(30)
        found.append(make_workspace_id(tmp_path))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [read_workspace_id(tmp_path)] * 8
    assert [p.name for p in tmp_path.iterdir()] == ["workspace.json"]


def test_processes_that_make_it_at_once_agree(tmp_path: Path) -> None:
    gate, root = tmp_path / "gate", tmp_path / "w"
    command = [sys.executable, "-c", MAKE, str(root), str(gate)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    gate.touch()
    assert {p.communicate(timeout=60)[0].strip() for p in running} == {read_workspace_id(root)}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 0, "id": "w1"}',
                                  '{"format": 1, "id": "../up"}'])  # fmt: skip
def test_a_file_that_says_something_else_is_named(tmp_path: Path, monkeypatch, text: str) -> None:
    monkeypatch.setattr(workspace, "_SETTLING_SECONDS", 0.0)
    (tmp_path / "workspace.json").write_text(text)
    with pytest.raises(WorkspaceError, match="does not say which workspace"):
        Workspace(tmp_path).ensure_usable()
    assert (tmp_path / "workspace.json").read_text() == text


def test_one_of_a_later_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "workspace.json").write_text('{"format": 2, "id": "w1", "new": true}')
    with pytest.raises(WorkspaceError, match="later version"):
        Workspace(tmp_path).ensure_usable()


def test_reading_makes_none_and_the_first_run_does(tmp_path: Path) -> None:
    place = Place(tmp_path / "p")
    made = place.study()
    assert place.workspace.id == ""
    assert not place.workspace.root.exists()
    place.run(made)
    opened = [a.opened for t in place.trials() for a in t.ordered]
    assert {o.workspace for o in opened} == {place.workspace.id} != {""}


def test_a_workspace_of_an_earlier_version_gets_one(tmp_path: Path) -> None:
    place = Place(tmp_path / "p")
    place.run(place.study())
    (place.workspace.root / "workspace.json").unlink()
    for file in place.workspace.journal.glob("*.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            line.pop("workspace", None)
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    place.run(place.study(recipe="{cycles: 4}"))
    found = {a.opened.workspace for t in place.trials() for a in t.ordered}
    assert found == {"", place.workspace.id}
    assert not [
        a for t in place.trials() for a in t.ordered if a.opened.is_elsewhere(place.workspace.id)
    ]


def test_attempts_made_elsewhere_are_shown_so(tmp_path: Path, capsys) -> None:
    other, mine = Place(tmp_path / "other"), Place(tmp_path / "mine")
    other.run(other.study())
    mine.run(mine.study(recipe="{cycles: 4}"))
    results = other.workspace.study("demo") / "results"
    shutil.copytree(results, mine.folder / "results")
    mine.run(mine.study())
    theirs = other.trials()[0].key
    asked = ["--workspace", str(mine.workspace.root)]
    shown = _json("status", str(mine.folder / "study.yaml"), *asked, "--json")
    assert {t["made_in"] for t in shown["studies"][0]["trials"]} == {other.workspace.id}
    assert "4 made in other workspaces" in _said("status", str(mine.folder / "study.yaml"), *asked)
    page = (mine.workspace.study("demo") / "report.html").read_text()
    assert other.workspace.id in page
    assert mine.workspace.id not in page, "of what counts here nothing was made here"
    history = History.read([mine.folder / "results"])
    kept = {a.opened.workspace for a in history.trials[theirs].ordered}
    assert kept == {other.workspace.id}, "an export keeps it"


def test_show_says_where_an_attempt_was_made(tmp_path: Path) -> None:
    place, other = Place(tmp_path / "p"), Place(tmp_path / "other")
    place.run(place.study())
    other.run(other.study(recipe="{cycles: 4}"))
    own, foreign = place.trials()[0].key, other.trials()[0].key
    for file in other.workspace.journal.glob("*.jsonl"):
        shutil.copy(file, place.workspace.journal)
    asked = ["--workspace", str(place.workspace.root)]
    told = {key: _json("show", key, *asked, "--json")["attempts"][0] for key in (own, foreign)}
    assert [told[k]["elsewhere"] for k in (own, foreign)] == [False, True]
    assert told[foreign]["workspace"] == other.workspace.id
    assert f"made elsewhere, in workspace {other.workspace.id}" in _said("show", foreign, *asked)
    assert "elsewhere" not in _said("show", own, *asked)


def _said(*words: str) -> str:
    command = [sys.executable, "-m", "harness.cli", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _json(*words: str) -> dict:
    return json.loads(_said(*words))


def test_a_file_that_fills_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "workspace.json"
    file.touch()
    reading = read_workspace_id

    def late(root: Path) -> str:
        """Sees the empty file; the other process writes before anything else is asked."""
        try:
            return reading(root)
        finally:
            if not file.stat().st_size:
                file.write_text('{"format": 1, "id": "w1"}\n')

    monkeypatch.setattr(workspace, "read_workspace_id", late)
    assert make_workspace_id(tmp_path) == "w1"
