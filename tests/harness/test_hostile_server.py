"""`reproduce --from http://...`: what a server says is data, whatever it says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.errors import HarnessError
from harness.journal.trial import Trial, key_of
from harness.journal.workspace import Workspace
from harness.reproduce.places import places_given
from harness.text.identifiers import ForeignError, identifier, inside
from harness.tracking import remote
from harness.tracking.background_writer import BackgroundWriter
from harness.tracking.mlflow_results import fetch
from harness.tracking.run_write import KnownRun, RefusedError, RunWrite
from tests.harness import hostile_server as bad
from tests.harness.hostile_server import Hostile
from tests.harness.reproduce_lab import Lab

PAYLOAD = """
import pathlib
pathlib.Path({mark!r}).touch()
from harness.testing.stub_measured import *
from harness.testing.stub_measured import measure, metrics
"""
ODD_RUNS = (
    "../../../../studies/mine",
    "..",
    ".hidden",
    "a/b",
    "a\\b",
    "a\x00b",
    "",
    "\x1b[2J",
    "x" * 400,
)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("ran") / "lab")


@pytest.fixture
def server() -> Iterator[Hostile]:
    with bad.hostile() as made:
        yield made


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The reader's project."""
    project = tmp_path / "mine"
    (project / "studies").mkdir(parents=True)
    (project / "pyproject.toml").touch()
    monkeypatch.chdir(project)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME"):
        monkeypatch.delenv(name, raising=False)
    return Workspace(project / "stillhouse-workspace")


def records(lab: Lab) -> bad.Files:
    folder = lab.workspace.study("again") / "results"
    return {f"results/{f.name}": f.read_bytes() for f in folder.glob("*.json*")}


def of_another_subject(journal: bytes, key: str) -> tuple[bytes, str]:
    """The journal as if the planted module had made its trials, keys and all; and a key of it."""
    journal = journal.replace(b"harness.testing.stub_measured", b"planted_module")
    for line in journal.split(b"\n"):
        if line.startswith(b'{"type":"trial"'):
            said = json.loads(line)
            known = {k: v for k, v in said["is"].items() if k != "key_schema"}
            trial = Trial.model_validate({**known, "key": said["key"], "arm": "a"})
            parts = trial.recipe, trial.replicate, trial.data, trial.kind, trial.rerun
            new = key_of(*parts, subject=trial.subject)
            journal = journal.replace(said["key"].encode(), new.encode())
            key = new if key == said["key"] else key
    return journal, key


def around(workspace: Workspace) -> set[Path]:
    """Everything in the reader's project that is not the workspace's own cache."""
    project = workspace.root.parent
    return {p for p in project.rglob("*") if not p.is_relative_to(workspace.cache)}


def cli(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "harness.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_honest_server_is_read_over_http_alone(
    ran: Lab, server: Hostile, mine: Workspace
) -> None:
    server.files = records(ran)
    found = ran.again("train", workspace=mine, source=server.address)
    assert found.decision == "bit-equal", found.reason
    assert all("get-artifact" in a or "/api/2.0/mlflow/" in a for a in server.asked)


@pytest.mark.parametrize("how", ["absolute", "relative"])
def test_a_server_plants_no_study_and_so_gets_no_module_imported(
    how: str, ran: Lab, server: Hostile, mine: Workspace
) -> None:
    """The run's id as the place of a study that names the server's module, in the project."""
    project, mark = mine.root.parent, mine.root.parent.parent / "ran"
    target = project / "studies" / "planted"
    server.run_id = str(target) if how == "absolute" else "../../../../studies/planted"
    module = PAYLOAD.format(mark=str(mark))
    journal = records(ran)["results/journal.jsonl"]
    journal = journal.replace(b"harness.testing.stub_measured", b"planted_module")
    server.files = {
        "results/journal.jsonl": journal,
        "results/../study.yaml": b"name: planted\nsubject: planted_module\n",
        "results/../../../planted_module.py": module.encode(),
    }
    before = around(mine)
    done = cli("reproduce", ran.key, "--from", server.address, "--level", "train")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "run_id" in done.stderr
    assert not mark.exists()
    made = around(mine) - before
    assert not any(p.is_relative_to(target) or p.suffix in (".py", ".yaml") for p in made), made


def test_what_arrives_during_a_command_widens_no_trust(
    ran: Lab, server: Hostile, mine: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a study that names the module were there by the time the subject is asked for."""
    server.files = records(ran)
    journal = server.files["results/journal.jsonl"]
    server.files["results/journal.jsonl"], key = of_another_subject(journal, ran.key)
    mark = mine.root.parent.parent / "ran"
    real = fetch

    def planting(uri: str, workspace: Workspace) -> dict[Path, str]:
        project = workspace.root.parent
        (project / "planted_module.py").write_text(PAYLOAD.format(mark=str(mark)))
        folder = project / "studies" / "planted"
        folder.mkdir()
        (folder / "study.yaml").write_text("name: planted\nsubject: planted_module\n")
        return real(uri, workspace)

    monkeypatch.setattr("harness.tracking.mlflow_results.fetch", planting)
    found = ran.again("train", key, workspace=mine, source=server.address)
    assert (found.decision, found.exit_code) == ("not judged", 3)
    assert "none of your studies names" in found.reason
    assert not mark.exists()


@pytest.mark.parametrize("run_id", ODD_RUNS)
def test_a_run_id_that_is_none_is_refused(run_id: str, server: Hostile, mine: Workspace) -> None:
    server.run_id, server.files = run_id, {"results/journal.jsonl": b""}
    before = around(mine)
    with pytest.raises(ForeignError, match="run_id"):
        fetch(server.address, mine)
    assert not [p for p in around(mine) - before if p.is_file()]


@pytest.mark.parametrize("name", [
    "results/../journal.jsonl", "results//etc/x.json", "/etc/x.json", "results/a/b.json",
    "results/.hidden.json", "other/x.json", "results/\x1b]0;x.json", "../results/x.json",
])  # fmt: skip
def test_a_file_name_that_leaves_is_refused(name: str, server: Hostile, mine: Workspace) -> None:
    server.files = {name: b"{}"}
    with pytest.raises(ForeignError, match="refused") as error:
        fetch(server.address, mine)
    assert "\x1b" not in str(error.value)
    assert not list(mine.cache.rglob("*.json"))


def test_a_link_in_the_cache_leads_nowhere(
    server: Hostile, mine: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "run").symlink_to(tmp_path / "outside")
    with pytest.raises(ForeignError, match="leads out"):
        inside(tmp_path / "in", "run", "run")
    with pytest.raises(ForeignError, match="refused"):
        identifier("run", "..")


@pytest.mark.parametrize(
    "where", ["experiments/search", "runs/search", "artifacts/list", "get-art"]
)
@pytest.mark.parametrize("how", [bad.trickle, bad.trickling_head])
def test_a_byte_now_and_then_does_not_prolong_a_deadline(
    where: str, how, server: Hostile, mine: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "REQUEST_SECONDS", 0.6)
    monkeypatch.setattr(remote, "FILE_SECONDS", 0.6)
    server.files, server.hooks[where] = {"results/journal.jsonl": b"x"}, how
    with pytest.raises(ForeignError, match="within 1 s"):
        fetch(server.address, mine)


def test_the_whole_reading_has_a_deadline(
    server: Hostile, mine: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "ALL_SECONDS", 0.5)
    count = iter(range(10**9))
    server.pages = lambda body: str(next(count))
    monkeypatch.setattr(remote, "MOST_PAGES", 10**9)
    with pytest.raises(ForeignError, match=r"in all|within"):
        fetch(server.address, mine)


@pytest.mark.parametrize(("pages", "said"), [
    (lambda body: "same", "repeat without end"),
    (lambda body: str(int(body.get("page_token", "0")) + 1), "more than 100 pages"),
])  # fmt: skip
def test_pages_end(pages, said: str, server: Hostile, mine: Workspace) -> None:
    server.pages = pages
    with pytest.raises(ForeignError, match=said):
        fetch(server.address, mine)
    assert len(server.asked) <= 3 * remote.MOST_PAGES


@pytest.mark.parametrize("where", ["experiments/search", "get-artifact"])
def test_a_flood_ends(
    where: str, server: Hostile, mine: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MOST_ANSWER_BYTES", 2**22)
    monkeypatch.setattr(remote, "MOST_FILE_BYTES", 2**22)
    server.files, server.hooks[where] = {"results/journal.jsonl": b"x"}, bad.flood
    with pytest.raises(ForeignError, match="larger than 4 MiB"):
        fetch(server.address, mine)
    assert not list(mine.cache.rglob("*.jsonl")), "nothing of it is left"


def test_a_declared_size_is_believed_where_it_is_too_large(
    server: Hostile, mine: Workspace
) -> None:
    server.files = {"results/journal.jsonl": b"x"}
    server.sizes = {"results/journal.jsonl": 5 * 2**30}
    with pytest.raises(ForeignError, match="larger than 256 MiB"):
        fetch(server.address, mine)
    assert not [a for a in server.asked if "get-artifact" in a]


def test_many_files_that_are_large_together(
    server: Hostile, mine: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MOST_BYTES", 2**20)
    server.files = {f"results/{n}.jsonl": b"x" * 2**19 for n in range(9)}
    with pytest.raises(ForeignError, match="larger than 1 MiB in all"):
        fetch(server.address, mine)


@pytest.mark.parametrize("where", ["experiments/search", "get-artifact"])
def test_a_redirect_is_not_followed(where: str, server: Hostile, mine: Workspace) -> None:
    with bad.hostile() as other:
        server.hooks[where] = bad.redirect(f"{other.address}/api/2.0/mlflow/x")
        server.files = {"results/journal.jsonl": b"x"}
        with pytest.raises(ForeignError, match="redirects to"):
            fetch(server.address, mine)
        assert not other.asked


@pytest.mark.parametrize("answer", [
    b"", b"[]", b"null", b"\xff\xfe", b'{"experiments": 3}', b'{"experiments": [{}]}',
    b"[" * 100_000, b'{"experiments": [{"experiment_id": "../1"}]}', b"<html>",
])  # fmt: skip
def test_nonsense_is_told_in_a_line(answer: bytes, server: Hostile, mine: Workspace) -> None:
    server.hooks["experiments/search"] = lambda handler: handler.send(answer)  # type: ignore[attr-defined]
    done = cli("reproduce", "1f9c2a7b", "--from", server.address)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "cannot be read" in done.stderr


@pytest.mark.parametrize("address", ["file://{}", "{}", "file:{}", "FILE://{}"])
def test_an_artifact_address_of_this_machine_is_neither_read_nor_written(
    address: str, ran: Lab, server: Hostile, mine: Workspace, tmp_path: Path
) -> None:
    from harness.tracking.mlflow_store import MlflowStore

    theirs = tmp_path / "private"
    (theirs / "results").mkdir(parents=True)
    (theirs / "results" / "secret.jsonl").write_text("secret\n")
    server.artifact_uri = address.format(theirs)
    server.files = {"results/journal.jsonl": b""}
    copies = fetch(server.address, mine)
    assert not [f for c in copies for f in c.rglob("*") if "secret" in f.name]
    store = MlflowStore(mine, server.address)
    known = KnownRun("0" * 32, "RUNNING", server.artifact_uri, {}, {}, {})
    mine.ensure_usable()
    with pytest.raises(ForeignError, match="refused"):
        store.put(known, RunWrite(ident="x", files={"report.html": b"x"}))
    assert sorted(p.name for p in theirs.rglob("*")) == ["results", "secret.jsonl"]
    known.artifact_uri = address.format(mine.artifacts / "1" / "run")
    store.put(known, RunWrite(ident="x", files={"report.html": b"x"}))
    assert (mine.artifacts / "1" / "run" / "report.html").is_file()


@pytest.mark.parametrize("field", ["key", "nonce", "study"])
def test_a_record_with_an_identifier_that_is_none(
    field: str, ran: Lab, server: Hostile, mine: Workspace
) -> None:
    server.files = records(ran)
    lines = server.files["results/journal.jsonl"].splitlines()
    changed = []
    for line in lines:
        record = json.loads(line)
        if field in record:
            record[field] = "../../../../tmp/x"
        changed.append(json.dumps(record).encode())
    server.files["results/journal.jsonl"] = b"\n".join(changed) + b"\n"
    done = cli("reproduce", ran.key, "--from", server.address)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "is no identifier" in done.stderr


@pytest.mark.parametrize("field", ["key", "nonce"])
def test_such_a_record_of_a_folder_is_passed_over_with_its_line(
    field: str, ran: Lab, tmp_path: Path
) -> None:
    lab = ran.copy(tmp_path / "copy")
    journal = next(iter(lab.workspace.journal.glob("*.jsonl")))
    found = json.loads(next(x for x in journal.read_text().splitlines() if '"opened"' in x))
    found[field] = "../../../../tmp/x"
    with journal.open("a") as out:
        out.write(json.dumps(found) + "\n\n")
    done = cli("plan", str(lab.file))
    assert done.returncode == 0
    assert f"unreadable record ({field} '../../../../tmp/x' is no identifier)" in done.stdout


def test_credentials_go_to_the_server_they_are_for_and_are_not_told(
    server: Hostile, mine: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere.example:5000")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    server.run_id = ".."
    with pytest.raises(HarnessError):
        fetch(server.address, mine)
    assert all("Authorization" not in seen for seen in server.headers_seen)
    named = server.address.replace("http://", "http://ada:hunter2@")
    done = cli("reproduce", "1f9c2a7b", "--from", named)
    assert server.headers_seen[-1]["Authorization"] == "Basic YWRhOmh1bnRlcjI="
    assert "hunter2" not in done.stdout + done.stderr


def test_an_older_copy_is_replaced(ran: Lab, server: Hostile, mine: Workspace) -> None:
    server.files = records(ran)
    (folder,) = fetch(server.address, mine)
    (folder / "left.jsonl").write_text("{}")
    (again,) = fetch(server.address, mine)
    assert again == folder
    assert sorted(f"results/{f.name}" for f in folder.iterdir()) == sorted(records(ran))
    shutil.rmtree(folder)


def test_the_reader_of_places_asks_for_trust_first(mine: Workspace, tmp_path: Path) -> None:
    (mine.root.parent / "studies" / "own").mkdir()
    (mine.root.parent / "studies" / "own" / "study.yaml").write_text("subject: my_lab.own\n")
    folder = tmp_path / "unpacked" / "results"
    folder.mkdir(parents=True)
    (folder / "journal.jsonl").touch()
    assert places_given(str(folder), mine).trusted == {"my_lab.own"}


@pytest.mark.parametrize("token", [lambda n: "same", str])
def test_pages_end_where_a_server_is_written_to(token, mine: Workspace, monkeypatch) -> None:
    from harness.tracking import mlflow_store

    class Page(list[object]):
        token = ""

    class Client:
        count = 0

        def search_runs(self, *_: object, **__: object) -> Page:
            self.count += 1
            page = Page()
            page.token = token(self.count)
            return page

    monkeypatch.setattr(mlflow_store, "MOST_PAGES", 50)
    store = mlflow_store.MlflowStore(mine, "http://127.0.0.1:9")
    store._client = Client()
    with pytest.raises(RefusedError, match="no end"):
        list(store._search(""))
    assert store._client.count <= 50


def test_a_place_for_files_that_is_refused_is_told_once(mine: Workspace) -> None:
    """The rest of the runs goes on."""
    store, put = SimpleNamespace(log=lambda *_: None, set_status=lambda *_: None), []

    def refuse(known: KnownRun, write: RunWrite) -> None:
        put.append(known.run_id)
        raise ForeignError("refused")

    store.put = refuse
    background = BackgroundWriter(store)  # type: ignore[arg-type]
    background.known = {}
    for n in range(3):
        background.known[f"r{n}"] = KnownRun(f"r{n}", "RUNNING", "file:///x", {}, {}, {})
        background._write(RunWrite(ident=f"r{n}", files={"a": b""}, status="FINISHED"))
    assert put == ["r0", "r1", "r2"]
    assert background.warnings == ["MLflow: refused"]


@pytest.mark.parametrize("how", [bad.trickle, bad.trickling_head, bad.flood, "redirect"])
def test_doctor_waits_for_no_trickle(how, server: Hostile, mine: Workspace, monkeypatch) -> None:
    from harness.doctor import services

    monkeypatch.setattr(remote, "REQUEST_SECONDS", 0.6)
    monkeypatch.setattr(remote, "MOST_ANSWER_BYTES", 2**22)
    hook = bad.redirect("http://ada:hunter2@elsewhere/") if how == "redirect" else how
    server.hooks["version"] = hook
    (found,) = services.mlflow(mine, server.address)
    assert found.state == "fail"
    assert any(w in found.found for w in ("did not finish", "larger than", "redirects"))
    assert "hunter2" not in found.found


@pytest.mark.parametrize("run_id", ["../../../../studies/planted", "/tmp/planted", ".."])
def test_a_database_of_somebody_else_is_no_better(
    run_id: str, mine: Workspace, tmp_path: Path
) -> None:
    """Its rows name runs and folders, too."""
    import sqlite3

    from harness.tracking.mlflow_store import MlflowStore

    file = tmp_path / "theirs.db"
    theirs = Workspace(tmp_path / "theirs")
    theirs.ensure_usable()
    store = MlflowStore(theirs, f"sqlite:///{file}")
    store.experiment_name = "again"
    store.connect()
    made = store.create(RunWrite(ident="STUDY", name="again"), {"stillhouse.kind": "study"})
    store.close()
    with sqlite3.connect(file) as rows:
        for table in ("runs", "tags"):
            rows.execute(f"UPDATE {table} SET run_uuid = ? WHERE run_uuid = ?",
                         (run_id, made.run_id))  # fmt: skip
    before = around(mine)
    with pytest.raises(ForeignError, match="refused"):
        fetch(f"sqlite:///{file}", mine)
    made_here = [p.name for p in around(mine) - before if p.is_file()]
    assert made_here in ([], ["mlflow.lock"])
