"""Several workspaces on one MLflow server: no run of another is changed or answered with."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from harness.errors import HarnessError
from harness.journal.history import History
from harness.journal.workspace import Workspace
from harness.running.run_study import RunResult
from harness.tracking import ownership, server
from harness.tracking.address import ARTIFACTS
from harness.tracking.mlflow_place import MlflowPlace
from harness.tracking.mlflow_results import fetch
from harness.tracking.mlflow_store import MlflowStore
from harness.tracking.mlflow_tracker import MlflowTracker
from harness.tracking.ownership import EPOCH, WORKSPACE, ElsewhereError, Ownership
from harness.tracking.run_write import TAG
from harness.tracking.sync import sync
from tests.harness.run_place import STUB, Place

LATER = "{cycles: 4}"
"""A recipe of other keys."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = Workspace(tmp_path_factory.mktemp("server"))
    place.ensure_usable()
    with socket.socket() as probe:
        probe.bind((server.HOST, 0))
        port = probe.getsockname()[1]
    log = place.root / "server.log"
    running = server.start(server.server_command(place, port), log)
    before, os.environ[ARTIFACTS] = os.environ.get(ARTIFACTS), str(place.artifacts)
    try:
        server.wait_for(running, f"http://{server.HOST}:{port}", log)
        yield f"http://{server.HOST}:{port}"
    finally:
        server.stop(running)
        del os.environ[ARTIFACTS]
        if before is not None:
            os.environ[ARTIFACTS] = before


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('database')}/shared.db"


@pytest.fixture
def uri(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that both name, or a server; the experiments of earlier tests are forgotten."""
    found: str = request.getfixturevalue(getattr(request, "param", "database"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv(ownership.VARIABLE, raising=False)
    client = mlflow.MlflowClient(found)
    for experiment in client.search_experiments():
        if experiment.name != "Default":
            client.rename_experiment(experiment.experiment_id, f"old-{experiment.experiment_id}")
    return found


_SERVER = pytest.param("shared", marks=pytest.mark.backend)
on_server = pytest.mark.parametrize("uri", [_SERVER], indirect=True)
on_both = pytest.mark.parametrize("uri", ["database", _SERVER], indirect=True)


@pytest.fixture
def a(tmp_path: Path) -> Place:
    return Place(tmp_path / "a")


@pytest.fixture
def b(tmp_path: Path) -> Place:
    return Place(tmp_path / "b")


def run(place: Place, uri: str, recipe: str = "{}", **answers: Any) -> RunResult:
    tracker = MlflowPlace(place.workspace, uri, **answers)
    return place.run(place.study(recipe=recipe), tracker=tracker)


def experiments(uri: str) -> list[str]:
    found = mlflow.MlflowClient(uri).search_experiments()
    return sorted(e.name for e in found if e.name != "Default" and not e.name.startswith("old-"))


def content(uri: str, name: str = "demo") -> dict[str, Any]:
    """All of an experiment that a reader would miss."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    found: dict[str, Any] = {"": {k: v for k, v in experiment.tags.items() if "epoch" not in k}}
    for run in client.search_runs([experiment.experiment_id]):
        files = {}
        for file in Path(run.info.artifact_uri.removeprefix("file://")).rglob("*"):
            files |= {str(file): file.read_bytes()} if file.is_file() else {}
        found[run.info.run_id] = (run.data.tags, run.data.metrics, run.info.status, files)
    return found


def keys(uri: str, name: str) -> list[str]:
    """Key of every trial's run; a key stands as often as it has a run."""
    return sorted(
        r[0][TAG + "key"] for n, r in content(uri, name).items() if n and TAG + "key" in r[0]
    )


@on_both
@pytest.mark.parametrize("recipe", ["{}", LATER], ids=["same-trials", "other-trials"])
def test_a_second_workspace_is_asked_before_any_trial_runs(
    a: Place, b: Place, uri: str, recipe: str
) -> None:
    assert run(a, uri).warnings == []
    before = content(uri)
    with pytest.raises(ElsewhereError, match=r"--as demo-.*--adopt") as caught:
        run(b, uri, recipe)
    assert caught.value.exit_code == 2
    assert f"--as {caught.value.proposal} " in str(caught.value)
    assert not b.workspace.root.exists(), "nothing was started"
    assert content(uri) == before
    assert experiments(uri) == ["demo"]


@on_server
def test_written_beside_under_a_name_that_is_remembered(a: Place, b: Place, uri: str) -> None:
    run(a, uri)
    before = content(uri)
    assert run(b, uri, LATER, beside="anna").warnings == []
    assert experiments(uri) == ["anna", "demo"]
    assert content(uri) == before
    assert len(keys(uri, "anna")) == 4
    assert {r[0][WORKSPACE] for n, r in content(uri, "anna").items() if n} == {b.workspace.id}
    assert run(b, uri).warnings == [], "the name need not be given again"
    assert content(uri) == before
    assert len(keys(uri, "anna")) == 8
    sync(b.workspace, uri=uri, echo=b.said.append)
    assert any("experiment anna" in line for line in b.said)
    there = content(uri, "anna")
    assert run(a, uri, LATER).warnings == [], "the first goes on undisturbed"
    assert content(uri, "anna") == there


def test_a_variable_answers_for_batch_jobs(
    a: Place, b: Place, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(a, uri)
    monkeypatch.setenv(ownership.VARIABLE, "batch")
    assert run(b, uri).warnings == []
    assert experiments(uri) == ["batch", "demo"]


@pytest.mark.parametrize("name", ["my name", "a/b", "../up", "", "-x", "x" * 200, "a\x1b[31m"])
def test_names_that_are_none_are_refused(name: str, b: Place, monkeypatch) -> None:
    with pytest.raises(ValueError, match="--as"):
        MlflowPlace(b.workspace, None, beside=name)
    if name and "\0" not in name:
        monkeypatch.setenv(ownership.VARIABLE, name)
        with pytest.raises(ValueError, match=ownership.VARIABLE):
            MlflowPlace(b.workspace, None)


def test_a_name_under_which_another_study_stands_is_refused(a: Place, uri: str) -> None:
    """Though this workspace wrote it: the second study would take the first one's arms away."""
    run(a, uri)
    before = content(uri)
    other = a.study(STUB.replace("name: demo", "name: other"), recipe=LATER)
    with pytest.raises(ElsewhereError, match="holds the study 'demo'"):
        a.run(other, tracker=MlflowPlace(a.workspace, uri, beside="demo"))
    assert content(uri) == before


@on_both
def test_adopted_only_with_the_whole_history(a: Place, b: Place, uri: str) -> None:
    run(a, uri)
    before = content(uri)
    with pytest.raises(ElsewhereError, match=r"cannot be adopted.*x0-r0") as caught:
        run(b, uri, adopt=True)
    assert "results/" in str(caught.value)
    assert content(uri) == before
    shutil.copytree(a.workspace.study("demo") / "results", b.folder / "results")
    with pytest.raises(ElsewhereError):
        run(b, uri, LATER)
    assert content(uri) == before
    assert run(b, uri, LATER, adopt=True).warnings == []
    assert len(keys(uri, "demo")) == 8, "one run a trial"
    kinds = [r[0][TAG + "kind"] for n, r in content(uri).items() if n]
    assert (kinds.count("study"), kinds.count("arm")) == (1, 2)
    assert run(b, uri, "{cycles: 5}").warnings == [], "it is b's now"
    with pytest.raises(ElsewhereError):
        run(a, uri, "{cycles: 7}")


@on_server
def test_a_run_with_nothing_to_do_says_so_in_a_line(a: Place, b: Place, uri: str) -> None:
    run(a, uri)
    before = content(uri)
    b.run(b.study())
    result = run(b, uri)
    assert result.exit_code == 0
    (line,) = result.warnings
    assert "continued from elsewhere" in line
    assert "sync demo --mlflow" in line
    assert "--as demo-" in line
    assert content(uri) == before
    with pytest.raises(ElsewhereError):
        run(b, uri, adopt=True)
    assert run(b, uri, beside="mine").warnings == []
    assert len(keys(uri, "mine")) == 4
    assert content(uri) == before


def test_results_of_others_that_count_here_do_not_make_their_runs_ours(
    a: Place, b: Place, uri: str
) -> None:
    """Every trial is reused, and the report is the very same: still it is a's experiment."""
    run(a, uri)
    before = content(uri)
    shutil.copytree(a.workspace.study("demo") / "results", b.folder / "results")
    b.run(b.study())
    assert [w for w in run(b, uri).warnings if "elsewhere" in w]
    assert content(uri) == before


def test_a_copy_and_its_original_do_not_both_go_on(a: Place, uri: str, tmp_path: Path) -> None:
    run(a, uri)
    shutil.copytree(a.folder, tmp_path / "copy")
    copy = Place(tmp_path / "copy")
    assert copy.workspace.id == a.workspace.id
    assert run(copy, uri, LATER).warnings == [], "as if it had been moved"
    before = content(uri)
    with pytest.raises(ElsewhereError, match="copy of this one"):
        run(a, uri, "{cycles: 5}")
    assert content(uri) == before
    assert run(a, uri, "{cycles: 5}", beside="original").warnings == []
    assert content(uri) == before


def test_a_moved_workspace_goes_on(a: Place, uri: str, tmp_path: Path) -> None:
    run(a, uri)
    shutil.move(a.folder, tmp_path / "moved")
    moved = Place(tmp_path / "moved")
    assert run(moved, uri, LATER).warnings == []
    assert len(keys(uri, "demo")) == 8
    assert not a.folder.exists()


def _as_earlier(uri: str, place: Place) -> None:
    """What a version without workspaces' ids had left."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("demo")
    for name in experiment.tags:
        if name.startswith(EPOCH):
            client.delete_experiment_tag(experiment.experiment_id, name)
    for found in client.search_runs([experiment.experiment_id]):
        if WORKSPACE in found.data.tags:
            client.delete_tag(found.info.run_id, WORKSPACE)
    (place.workspace.root / "workspace.json").unlink()
    shutil.rmtree(place.workspace.root / ownership.EPOCHS)


@on_both
def test_runs_of_an_earlier_version_are_known_by_the_journal(a: Place, b: Place, uri: str) -> None:
    run(a, uri)
    _as_earlier(uri, a)
    before = content(uri)
    with pytest.raises(ElsewhereError, match="holds runs of another workspace"):
        run(b, uri, LATER)
    shutil.copytree(a.workspace.study("demo") / "results", b.folder / "results")
    with pytest.raises(ElsewhereError):
        run(b, uri, LATER)
    assert content(uri) == before
    assert run(a, uri, LATER).warnings == []
    runs = [r[0] for n, r in content(uri).items() if n]
    assert len(keys(uri, "demo")) == 8
    assert [r[TAG + "kind"] for r in runs].count("study") == 1
    assert [r[TAG + "kind"] for r in runs].count("orphan") == 4, "a plans other trials now"


def test_a_run_with_nothing_to_do_does_not_read_all_that_an_earlier_version_wrote(
    a: Place, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(a, uri)
    _as_earlier(uri, a)
    monkeypatch.setattr(MlflowPlace, "_run_tags", lambda *_: pytest.fail("asked for all runs"))
    assert run(a, uri).warnings == []
    assert a.said[-1] == "nothing to run: all 4 trials are there"


def test_what_an_earlier_version_left_of_two_is_neithers(a: Place, b: Place, uri: str) -> None:
    run(a, uri)
    run(b, uri, LATER, beside="b")
    client = mlflow.MlflowClient(uri)
    there = client.get_experiment_by_name("demo").experiment_id
    key = keys(uri, "b")[0]
    client.create_run(
        there, tags={TAG + "kind": "trial", TAG + "key": key, TAG + "attempt": "1-of-b"}
    )
    _as_earlier(uri, a)
    for place in (a, b):
        with pytest.raises(ElsewhereError):
            run(place, uri, "{cycles: 5}", **({"beside": "demo"} if place is b else {}))


def test_a_run_of_a_stranger_inside_ones_own_experiment_is_left_alone(a: Place, uri: str) -> None:
    """An earlier version elsewhere does not ask; what it made is still not ours."""
    run(a, uri)
    client = mlflow.MlflowClient(uri)
    there = client.get_experiment_by_name("demo").experiment_id
    tags = {TAG + "kind": "trial", TAG + "key": keys(uri, "demo")[0], TAG + "attempt": "1-theirs"}
    theirs = client.create_run(there, tags=tags)
    study = client.create_run(there, tags={TAG + "kind": "study", WORKSPACE: "w-of-others"})
    before = {i: content(uri)[i] for i in (theirs.info.run_id, study.info.run_id)}
    assert run(a, uri, LATER).warnings == []
    assert sync(a.workspace, uri=uri, echo=print) == []
    after = content(uri)
    assert {i: after[i] for i in before} == before


@on_both
def test_an_experiment_deleted_by_its_owner_is_not_taken_over(a: Place, b: Place, uri: str) -> None:
    run(a, uri)
    client = mlflow.MlflowClient(uri)
    number = client.get_experiment_by_name("demo").experiment_id
    client.delete_experiment(number)
    with pytest.raises(ElsewhereError):
        run(b, uri, LATER)
    assert client.get_experiment(number).lifecycle_stage == "deleted"
    assert run(a, uri, LATER).warnings == []
    assert client.get_experiment(number).lifecycle_stage == "active"


@on_server
def test_a_server_away_at_the_start_ends_with_the_command(
    a: Place, b: Place, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is back before the end, and only then shows that others were there first."""
    run(a, uri)
    before = content(uri)
    monkeypatch.setattr(MlflowPlace, "_seen", _away)
    result = run(b, uri)
    assert result.exit_code == 0
    assert result.tally is not None
    assert result.tally.count("done") == 4
    assert content(uri) == before
    (command,) = [w for w in result.warnings if "sync demo" in w]
    assert "--as demo-" in command
    words = command.partition(": ")[2].partition(" writes the rest")[0].split()
    assert words[0].endswith("stillhouse")
    done = cli(*words[1:])
    assert done.returncode == 0, done.stderr
    assert content(uri) == before
    (own,) = [name for name in experiments(uri) if name != "demo"]
    assert len(keys(uri, own)) == 4


def _away(*_: object) -> None:
    from harness.tracking.mlflow_place import AwayError

    raise AwayError("nobody answers")


@on_server
def test_where_only_the_client_is_let_in_its_word_is_awaited(
    a: Place, b: Place, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(a, uri)
    before = content(uri)
    monkeypatch.setattr("harness.tracking.mlflow_place._on_server", lambda *_: None)
    with pytest.raises(ElsewhereError):
        run(b, uri)
    assert not b.history().trials
    assert content(uri) == before
    with pytest.raises(ElsewhereError):
        sync(b.workspace, uri=uri, echo=print)


@on_both
def test_of_two_that_start_at_once_one_is_the_owner(
    a: Place, b: Place, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen that nothing is there; making the experiment decides."""
    gate = threading.Barrier(2)
    real = MlflowStore._made

    def together(self: MlflowStore, *given: Any) -> bool:
        gate.wait(60)
        return real(self, *given)

    monkeypatch.setattr(MlflowStore, "_made", together)
    stores = []
    for place in (a, b):
        place.run(place.study())
        stores.append(_store(place, uri))
    told: list[object] = []

    def connect(store: MlflowStore) -> None:
        try:
            store.connect()
            told.append("owner")
        except ElsewhereError as error:
            told.append(error)

    threads = [threading.Thread(target=connect, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert told.count("owner") == 1
    assert len(told) == 2


@on_both
def test_of_a_copy_and_its_original_that_start_at_once_at_most_one_goes_on(
    a: Place, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both have seen nothing but what both know, before either leaves its epoch."""
    run(a, uri)
    shutil.copytree(a.folder, tmp_path / "copy")
    stores = [_store(place, uri) for place in (a, Place(tmp_path / "copy"))]
    gate, real, told = threading.Barrier(2), MlflowStore._claim, list[str]()

    def together(self: MlflowStore, *given: Any) -> None:
        gate.wait(60)
        real(self, *given)

    def connect(store: MlflowStore) -> None:
        try:
            store.connect()
            told.append("goes on")
        except ElsewhereError:
            told.append("asked")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowStore, "_claim", together)
        threads = [threading.Thread(target=connect, args=(store,)) for store in stores]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(told) == 2
    assert told.count("goes on") <= 1
    told.clear()
    for store in [_store(place, uri) for place in (a, Place(tmp_path / "copy"))]:
        connect(store)
    assert told.count("goes on") == 1, "and the next that comes is not shut out"


def test_one_that_was_taken_over_meanwhile_leaves_the_answer_alone(a: Place, uri: str) -> None:
    run(a, uri)
    store = _connected(a, uri)
    client = mlflow.MlflowClient(uri)
    there = client.get_experiment_by_name("demo")
    client.set_experiment_tag(there.experiment_id, EPOCH + "ab" * 16, "w-of-others")
    with pytest.raises(ElsewhereError):
        store.experiment({"mlflow.note.content": "mine"}, {})
    assert client.get_experiment_by_name("demo").tags["mlflow.note.content"] != "mine"


def test_two_processes_of_one_workspace_are_no_strangers(
    a: Place, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each sees the epoch of the other, left after it had looked itself."""
    run(a, uri)
    first, second = (_connected(a, uri) for _ in range(2))
    assert first.connect().keys() == second.connect().keys() == first.connect().keys()
    tags = mlflow.MlflowClient(uri).get_experiment_by_name("demo").tags
    assert len([name for name in tags if name.startswith(EPOCH)]) == 1, "earlier ones have gone"


def _connected(place: Place, uri: str) -> MlflowStore:
    store = _store(place, uri)
    store.connect()
    return store


def _store(place: Place, uri: str) -> MlflowStore:
    store = MlflowStore(place.workspace, uri)
    store.owner = Ownership(place.workspace, uri, "demo")
    store.owner.know(place.history())
    store.experiment_name = "demo"
    return store


def test_a_trial_that_another_process_of_the_workspace_began_is_ours(a: Place, uri: str) -> None:
    """A shard looks before the other one opens its attempt, and finds the run afterwards."""
    early = Ownership(a.workspace, uri, "demo")
    early.know(a.history())
    run(a, uri)
    early.settled({})
    runs = [r[0] for n, r in content(uri).items() if n]
    assert all(early.owns(tags) for tags in runs)


@pytest.mark.slow
def test_shards_and_the_run_that_ends_them(a: Place, uri: str, tmp_path: Path) -> None:
    a.study()
    file = str(a.folder / "study.yaml")
    options = ["--inline", "--workspace", str(a.workspace.root), "--mlflow", uri]
    shards = [start("run", file, *options, "--shard", f"{i}/2") for i in (1, 2)]
    for shard in shards:
        told, _ = shard.communicate(timeout=240)
        assert shard.returncode == 0, told
        assert "elsewhere" not in told
    done = cli("run", file, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stdout
    assert len(keys(uri, "demo")) == 4
    assert len(set(keys(uri, "demo"))) == 4


def test_the_command_line_asks_and_takes_the_answer(a: Place, b: Place, uri: str) -> None:
    run(a, uri)
    before = content(uri)
    b.study()
    file = str(b.folder / "study.yaml")
    options = ["--inline", "--workspace", str(b.workspace.root), "--mlflow", uri]
    done = cli("run", file, *options)
    assert done.returncode == 2
    assert "--as demo-" in done.stderr
    assert cli("run", file, *options, "--as", "b", "--adopt").returncode == 2
    assert cli("run", file, *options, "--as", "b b").returncode == 2
    assert cli("run", file, "--inline", "--no-mlflow", "--as", "b").returncode == 2
    assert experiments(uri) == ["demo"]
    done = cli("run", file, *options, "--as", "b")
    assert done.returncode == 0, done.stderr
    assert experiments(uri) == ["b", "demo"]
    words = ["--workspace", str(b.workspace.root), "--mlflow", uri]
    assert cli("sync", *words, "--as", "demo").returncode == 2
    assert cli("sync", *words).returncode == 0
    assert content(uri) == before


@on_server
def test_a_reader_of_the_server_is_answered_with_what_one_of_them_wrote(
    a: Place, b: Place, uri: str, tmp_path: Path
) -> None:
    """Both ran the same trials under one study name: a key stands for two numbers there."""
    run(a, uri)
    run(b, uri, beside="b")
    reader = Workspace(tmp_path / "reader")
    reader.ensure_usable()

    def writers(address: str) -> set[str]:
        history = History.read(fetch(address, reader))
        return {o.opened.workspace for t in history.trials.values() for o in t.ordered}

    assert writers(uri) == {a.workspace.id}
    assert writers(f"{uri}#b") == {b.workspace.id}
    (said,) = fetch(uri, reader).values()
    assert "#b" in said
    with pytest.raises(HarnessError, match="there are: b, demo"):
        fetch(f"{uri}#c", reader)
    run(a, uri, LATER, beside="a")
    client = mlflow.MlflowClient(uri)
    client.delete_experiment(client.get_experiment_by_name("demo").experiment_id)
    with pytest.raises(HarnessError, match=r"several workspaces wrote it.*#a, #b"):
        fetch(uri, reader)


def test_a_name_for_one_study_is_not_given_to_several(a: Place, uri: str) -> None:
    a.run(a.study())
    a.run(a.study(STUB.replace("name: demo", "name: other"), recipe=LATER))
    with pytest.raises(ValueError, match="say which"):
        sync(a.workspace, uri=uri, beside="x", echo=print)
    assert experiments(uri) == []


def test_a_tracker_made_without_the_look_writes_nothing_either(
    a: Place, b: Place, uri: str
) -> None:
    run(a, uri)
    before = content(uri)
    result = b.run(b.study(), tracker=lambda: MlflowTracker(b.workspace, uri))
    assert [w for w in result.warnings if "continued from elsewhere" in w]
    assert content(uri) == before


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def start(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "harness.cli", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
