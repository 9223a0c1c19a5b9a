"""Where a key is looked for: workspaces, results, folders of records, MLflow, and nowhere."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from harness.errors import HarnessError
from harness.journal.workspace import Workspace
from harness.tracking.mlflow_tracker import MlflowTracker
from tests.harness.reproduce_lab import CLAIM, Lab


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Lab:
    root = tmp_path_factory.mktemp("doors") / "lab"
    workspace = Workspace(root / "stillhouse-workspace")
    return Lab(root, replicates=3, more=CLAIM, tracker=lambda: MlflowTracker(workspace))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Workspace:
    """A reviewer's machine: a project without records."""
    (tmp_path / "clone").mkdir()
    (tmp_path / "clone" / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Workspace(tmp_path / "clone" / "stillhouse-workspace")


def test_an_unknown_key_names_every_place_with_what_it_holds(ran):
    results = ran.file.parent / "results"
    results.mkdir(exist_ok=True)
    shutil.copy(ran.workspace.study("again") / "results" / "journal.jsonl", results)
    with pytest.raises(HarnessError) as error:
        ran.again(key="0123456789abcdef")
    text = str(error.value)
    count = len(ran.history.trials)
    assert f"{ran.workspace.journal}: {count} trials" in text
    assert f"{results}: {count} trials" in text
    assert "--from" in text
    with pytest.raises(HarnessError, match="journal: not there"):
        ran.again(key="0123456789abcdef", workspace=Workspace(ran.workspace.root.parent / "none"))


@pytest.mark.parametrize("what", ["workspace", "journal", "results", "study", "project"])
def test_any_folder_with_records_will_do(ran, elsewhere, what):
    results = ran.workspace.study("again") / "results"
    folder = {
        "workspace": ran.workspace.root,
        "journal": ran.workspace.journal,
        "results": results,
        "study": results.parent,
        "project": ran.workspace.root.parent,
    }[what]
    found = ran.again("train", workspace=elsewhere, source=str(folder))
    assert (found.decision, found.exit_code) == ("bit-equal", 0)
    assert elsewhere.root in type(folder)(found.folder).parents
    kept = ran.again("auto", workspace=elsewhere, source=str(folder))
    assert kept.level == ("measure" if what in ("workspace", "journal", "project") else "train")


def test_a_folder_without_records_and_a_place_that_is_not_there(ran, elsewhere, tmp_path):
    (tmp_path / "empty").mkdir()
    found = ran.again(workspace=elsewhere, source=str(tmp_path / "empty"))
    assert (found.decision, found.exit_code) == ("not judged", 3)
    assert "holds no records" in found.reason
    with pytest.raises(HarnessError, match="is not there: give a folder"):
        ran.again(workspace=elsewhere, source=str(tmp_path / "none.zip"))


def test_mlflow_alone_is_enough(ran, elsewhere):
    """The run of the study carries its journal and answer: nothing else of the lab is read."""
    address = f"sqlite:///{ran.workspace.database}"
    key = ran.key
    found = ran.again("train", key, workspace=elsewhere, source=address)
    assert (found.decision, found.exit_code) == ("bit-equal", 0)
    assert ran.again("tables", key, workspace=elsewhere, source=address).decision == "bit-equal"
    claim = ran.again("train", "", contrast="H1", workspace=elsewhere, source=address)
    assert claim.decision == "bit-equal"
    with pytest.raises(HarnessError, match=rf"{ran.workspace.database}, study again, run \w+: 8"):
        ran.again("train", "0123456789abcdef", workspace=elsewhere, source=address)


def test_a_bare_key_is_looked_for_on_the_server_of_the_environment(ran, elsewhere, monkeypatch):
    with pytest.raises(HarnessError, match="no trial"):
        ran.again("train", workspace=elsewhere)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{ran.workspace.database}")
    said: list[str] = []
    found = ran.again("train", workspace=elsewhere, echo=said.append)
    assert found.decision == "bit-equal"
    assert said[0].startswith("looking")


def test_a_server_without_records_says_how_they_get_there(ran, elsewhere, tmp_path):
    root = tmp_path / "bare"
    bare = Workspace(root / "stillhouse-workspace")
    lab = Lab(root, more=CLAIM, tracker=lambda: MlflowTracker(bare))
    for folder in bare.artifacts.rglob("results"):
        shutil.rmtree(folder)
    found = lab.again(workspace=elsewhere, source=f"sqlite:///{bare.database}")
    assert found.decision == "not judged"
    assert "stillhouse sync" in found.reason
    with pytest.raises(HarnessError, match="is not there"):
        lab.again(workspace=elsewhere, source=f"sqlite:///{tmp_path}/typo.db")
    assert not (tmp_path / "typo.db").exists()


def test_the_command_takes_a_claim_from_a_folder(ran, elsewhere):
    command = [sys.executable, "-m", "harness.cli", "reproduce", "--contrast", "H1"]
    command += ["--from", str(ran.workspace.root), "--level", "measure"]
    command += ["--workspace", str(elsewhere.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "claim      H1" in done.stdout
    assert "bit-equal" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_study_of_another_project_is_looked_for_in_that_project(ran, elsewhere, what):
    """Its workspace holds the records, and the kept student."""
    named = ran.file if what == "file" else ran.file.parent
    words = ["reproduce", ran.key, "--level", "measure", "--study", str(named)]
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bit-equal" in done.stdout.splitlines()[-1]
