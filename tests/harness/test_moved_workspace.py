"""A workspace that was moved or copied: nothing is written, or read, where it was before."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import mlflow
import pytest

from harness.journal.workspace import Workspace
from harness.running.run_study import RunResult
from harness.tracking import server, sqlite_file
from harness.tracking.address import sqlite_uri
from harness.tracking.mlflow_place import MlflowPlace
from harness.tracking.mlflow_results import fetch
from harness.tracking.mlflow_store import MlflowStore
from harness.tracking.ownership import Ownership
from harness.tracking.run_write import TAG, RunWrite
from harness.tracking.sync import sync
from tests.harness.run_place import KEEPER, Place

NAMES = ["plain", "100% a#b ü?"]
LATER = "{cycles: 4}"


@pytest.fixture(autouse=True)
def own_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def run(place: Place, recipe: str = "{}", uri: str | None = None) -> RunResult:
    return place.run(place.study(recipe=recipe), tracker=MlflowPlace(place.workspace, uri))


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    found = [p for p in folder.rglob("*") if p.is_file()]
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in found}


def addresses(file: Path) -> list[str]:
    """Every address that the database's rows give."""
    with sqlite3.connect(file) as rows:
        columns = ("artifact_location FROM experiments", "artifact_uri FROM runs")
        return [a for c in columns for (a,) in rows.execute(f"SELECT {c}")]


def reports(uri: str, to: Path) -> dict[str, str]:
    """The report of every study, as MLflow hands it out."""
    client, found = mlflow.MlflowClient(uri), {}
    for experiment in client.search_experiments():
        for r in client.search_runs([experiment.experiment_id], f"tags.`{TAG}kind` = 'study'"):
            to.mkdir(exist_ok=True)
            there = client.download_artifacts(r.info.run_id, "report.html", str(to))
            found[experiment.name] = Path(there).read_text()
    return found


def forget_the_mark(place: Place) -> None:
    """As an earlier version had left the database."""
    with sqlite3.connect(place.workspace.database) as rows:
        rows.execute("DELETE FROM experiment_tags WHERE key = ?", (sqlite_file.ARTIFACTS_TAG,))


@pytest.mark.parametrize("earlier", [False, True], ids=["marked", "earlier"])
@pytest.mark.parametrize("name", NAMES)
def test_a_moved_one_leaves_its_old_place(tmp_path: Path, name: str, earlier: bool) -> None:
    old = Place(tmp_path / "old")
    run(old)
    if earlier:
        forget_the_mark(old)
    shutil.move(old.folder, tmp_path / name)
    new = Place(tmp_path / name)
    assert run(new, LATER).warnings == []
    assert not old.folder.exists()
    home = new.workspace.artifacts.as_uri()
    assert {a.startswith(home) for a in addresses(new.workspace.database)} == {True}
    page = new.workspace.study("demo") / "report.html"
    told = reports(sqlite_uri(new.workspace.database), tmp_path / "read")
    assert told == {"demo": page.read_text()}


@pytest.mark.parametrize("earlier", [False, True], ids=["marked", "earlier"])
@pytest.mark.parametrize("name", NAMES)
def test_a_copy_never_writes_into_its_original(tmp_path: Path, name: str, earlier: bool) -> None:
    original = Place(tmp_path / name)
    run(original)
    if earlier:
        forget_the_mark(original)
    before = files(original.workspace.artifacts)
    shutil.copytree(original.folder, tmp_path / "copy")
    copy = Place(tmp_path / "copy")
    assert run(copy, LATER).warnings == []
    assert sync(copy.workspace, echo=print) == []
    assert files(original.workspace.artifacts) == before
    home = copy.workspace.artifacts.as_uri()
    assert {a.startswith(home) for a in addresses(copy.workspace.database)} == {True}
    assert run(original, LATER).warnings == [], "its own database is its own"


def test_a_database_elsewhere_follows_for_the_one_study(tmp_path: Path) -> None:
    """Two workspaces keep their files at home; one of them moves."""
    uri = f"sqlite:///{tmp_path}/shared.db"
    moving, other = Place(tmp_path / "old"), Place(tmp_path / "other")
    run(moving, uri=uri)
    other.run(other.study().model_copy(update={"name": "other"}),
              tracker=MlflowPlace(other.workspace, uri))  # fmt: skip
    theirs = [a for a in addresses(tmp_path / "shared.db") if "/other/" in a]
    shutil.move(moving.folder, tmp_path / "new")
    new = Place(tmp_path / "new")
    assert run(new, LATER, uri).warnings == []
    assert not moving.folder.exists()
    told = addresses(tmp_path / "shared.db")
    assert [a for a in told if "/other/" in a] == theirs
    assert not [a for a in told if "/old/" in a and not a.endswith("/0")], "but MLflow's Default"
    assert set(reports(uri, tmp_path / "read")) == {"demo", "other"}


def test_files_of_another_workspace_stay_where_they_are(tmp_path: Path) -> None:
    """It has a study in this one's own database, which looks after its own only."""
    host, guest = Place(tmp_path / "host"), Place(tmp_path / "guest")
    run(host)
    uri = sqlite_uri(host.workspace.database)
    study = guest.study().model_copy(update={"name": "other"})
    guest.run(study, tracker=MlflowPlace(guest.workspace, uri))
    theirs = guest.workspace.artifacts.as_uri()
    before = [a for a in addresses(host.workspace.database) if a.startswith(theirs)]
    assert before
    shutil.move(host.folder, tmp_path / "moved")
    moved = Place(tmp_path / "moved")
    assert run(moved, LATER).warnings == []
    told = addresses(moved.workspace.database)
    assert [a for a in told if a.startswith(theirs)] == before
    home = moved.workspace.artifacts.as_uri()
    assert {a.startswith(home) for a in told if a not in before} == {True}


@pytest.mark.parametrize("anew", [False, True], ids=["same-id", "own-id"])
def test_a_copy_with_an_id_of_its_own_keeps_to_itself_as_well(tmp_path: Path, anew: bool) -> None:
    original = Place(tmp_path / "original")
    run(original)
    shutil.copytree(original.folder, tmp_path / "copy")
    copy = Place(tmp_path / "copy")
    if anew:
        (copy.workspace.root / "workspace.json").unlink()
    before = files(original.workspace.artifacts)
    assert run(copy, LATER).warnings == []
    assert files(original.workspace.artifacts) == before
    assert (copy.workspace.id == original.workspace.id) != anew
    client = mlflow.MlflowClient(sqlite_uri(copy.workspace.database))
    runs = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    assert [r.data.tags[TAG + "kind"] for r in runs].count("study") == 1


def test_what_was_adopted_is_still_found_where_it_lies(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/shared.db"
    old, new = Place(tmp_path / "old"), Place(tmp_path / "new")
    run(old, uri=uri)
    shutil.copytree(old.workspace.study("demo") / "results", new.folder / "results")
    before = files(old.workspace.artifacts)
    tracker = MlflowPlace(new.workspace, uri, adopt=True)
    assert new.run(new.study(recipe=LATER), tracker=tracker).warnings == []
    client = mlflow.MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    trials = [r for r in runs if TAG + "key" in r.data.tags]
    assert len(trials) == 8
    for found in trials:
        assert [f.path for f in client.list_artifacts(found.info.run_id)] == ["recipe.json"]
    assert files(old.workspace.artifacts) == before


def test_a_place_that_the_user_chose_is_kept(tmp_path: Path) -> None:
    """An experiment that was made beforehand, with its files where there is room."""
    room = tmp_path / "room" / "artifacts"
    old = Place(tmp_path / "old")
    run(old, uri=f"sqlite:///{tmp_path}/first.db")
    uri = f"sqlite:///{tmp_path}/shared.db"
    mlflow.MlflowClient(uri).create_experiment("demo", room.as_uri())
    assert run(old, uri=uri).warnings == []
    shutil.move(old.folder, tmp_path / "new")
    assert run(Place(tmp_path / "new"), LATER, uri).warnings == []
    assert {a.startswith(room.as_uri()) for a in addresses(tmp_path / "shared.db") if "/0" not in a}
    assert list(room.rglob("report.html"))


def test_files_go_home_whatever_a_row_says(tmp_path: Path) -> None:
    """Another machine sees the workspace under another path, and has written that meanwhile."""
    place = Place(tmp_path / "p")
    run(place)
    store = MlflowStore(place.workspace, sqlite_uri(place.workspace.database))
    store.owner, store.experiment_name = Ownership(place.workspace, store.uri, "demo"), "demo"
    known = store.connect()["study"]
    known.artifact_uri = known.artifact_uri.replace(str(place.folder), str(tmp_path / "mounted"))
    store.put(known, RunWrite(ident="study", files={"later.txt": b"x"}))
    store.close()
    assert not (tmp_path / "mounted").exists()
    assert [p.name for p in place.workspace.artifacts.rglob("later.txt")] == ["later.txt"]


def test_pages_of_a_moved_one_show_its_files(tmp_path: Path, monkeypatch) -> None:
    """`ui` is the first that opens the database there."""
    run(Place(tmp_path / "old"))
    shutil.move(tmp_path / "old", tmp_path / "new")
    place = Workspace(tmp_path / "new" / "w")

    def seen(*_: Any) -> None:
        told.extend(addresses(place.database))
        raise KeyboardInterrupt

    told: list[str] = []
    monkeypatch.setattr(server, "wait_for", seen)
    assert server.serve(place, 0, lambda line: None) == 0
    assert told
    assert {a.startswith(place.artifacts.as_uri()) for a in told} == {True}


def test_records_are_read_beside_the_database(tmp_path: Path) -> None:
    """By somebody who may not write there: of a copy, not of its original."""
    original = Place(tmp_path / "original")
    run(original)
    shutil.copytree(original.folder, tmp_path / "copy")
    copy = Workspace(tmp_path / "copy" / "w")
    for file in copy.artifacts.rglob("journal.jsonl"):
        file.write_text(file.read_text() + "\n")
    reader = Workspace(tmp_path / "reader")
    reader.ensure_usable()
    (folder,) = fetch(sqlite_uri(copy.database), reader)
    assert (folder / "journal.jsonl").read_text().endswith("\n\n")
    shutil.rmtree(original.folder)
    assert fetch(sqlite_uri(copy.database), reader)


def test_nothing_else_in_a_workspace_says_where_it_lies(tmp_path: Path) -> None:
    """What is not written cannot be wrong: logs tell, the database is looked after."""
    place = Place(tmp_path / "a-place")
    run(place)
    place.run(place.study(KEEPER), tracker=MlflowPlace(place.workspace))
    where = str(place.folder).encode()
    told = {p.relative_to(place.workspace.root).as_posix() for p in place.workspace.root.rglob("*")
            if p.is_file() and where in p.read_bytes()}  # fmt: skip
    assert {name for name in told if not name.startswith("mlflow.db")} == set()
