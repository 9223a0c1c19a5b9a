"""Data or a protocol that is gone: told as missing, and what needs neither is still worked out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.journal.workspace import Workspace
from harness.reproduce.entry import reproduction
from harness.testing import stub_measured
from tests.harness.reproduce_lab import CLAIM, Lab
from tests.harness.run_place import Place
from tests.harness.trainers import COMMAND, OWN, TRAINER

STUDIES = Path(__file__).parents[2] / "studies"
THEIRS = """\
name: theirs
question: Do more steps help?
subject: {subject}
recipe: {{mode: "", train: {{steps: 2}}}}
factors: {{train.steps: [2, 4]}}
replicates: 3
contrasts:
  - {{id: H1, a: {{train.steps: 4}}, b: {{train.steps: 2}}}}
"""


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Lab:
    return Lab(tmp_path_factory.mktemp("gone") / "lab", replicates=3, more=CLAIM)


@pytest.fixture
def lab(ran, tmp_path, monkeypatch) -> Lab:
    """Its data are gone: the subject cannot read them for a digest."""

    def gone(*_):
        raise FileNotFoundError(2, "No such file or directory", "prompts.jsonl")

    monkeypatch.setattr(stub_measured, "fingerprints", gone)
    return ran.copy(tmp_path / "lab")


@pytest.mark.parametrize("depth", ["auto", "record", "measure", "train"])
def test_what_is_missing_is_named(lab, depth):
    found = lab.again(depth)
    assert (found.decision, found.exit_code) == ("not judged", 3)
    assert "prompts.jsonl" in found.reason
    assert "under protocol 'v1'" in found.reason
    claim = lab.again(depth, "", contrast="H1")
    assert (claim.decision, claim.exit_code) == ("not judged", 3)
    assert "prompts.jsonl" in " ".join([claim.reason, *claim.differences])


def test_fresh_seeds_name_it_too(lab):
    for key, contrast in ((None, ""), ("", "H1")):
        found = lab.again("auto", key, contrast=contrast, fresh_seeds=1)
        assert found.decision == "not judged"
        assert "prompts.jsonl" in found.reason


def test_tables_need_neither_data_nor_protocol(lab):
    found = lab.again("tables")
    assert (found.decision, found.exit_code) == ("bit-equal", 0), found.reason
    assert "1 numbers of the trial from its stored items" in found.reason
    assert "numbers of verdicts and tables" in found.reason
    assert lab.again("tables", "", contrast="H1").decision == "bit-equal"


def test_tables_do_not_ask_what_the_data_are_today(lab, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("STUB_DATA", "other")
    assert lab.again("tables").decision == "bit-equal"
    assert "data: " in lab.again("record").reason


def test_a_subject_that_does_not_know_an_old_recipe_any_more(ran, monkeypatch):
    """It raises what it likes: told with its type, never a traceback."""

    def broken(*_):
        raise KeyError("a field that came later")

    monkeypatch.setattr(stub_measured, "recompute", broken)
    found = ran.again("tables")
    assert found.decision == "bit-equal"
    assert "KeyError: 'a field that came later'" in found.reason
    monkeypatch.setattr(stub_measured, "fingerprints", broken)
    for depth in ("record", "train"):
        found = ran.again(depth)
        assert found.decision == "not judged"
        assert "KeyError: 'a field that came later'" in found.reason


def test_a_trainers_data_that_were_deleted(tmp_path):
    place = Place(tmp_path / "p")
    (tmp_path / "p" / "trainer.py").write_text(TRAINER)
    (tmp_path / "p" / "data").mkdir()
    (tmp_path / "p" / "data" / "set.bin").write_bytes(b"1")
    subject = {"command": COMMAND, "code": ["trainer.py"], "metrics": OWN, "data": ["data/"]}
    text = json.dumps(subject).replace("{", "{{").replace("}", "}}")  # `study` fills in the others
    assert place.run(place.study(THEIRS.replace("{subject}", text))).exit_code == 0
    shutil.rmtree(tmp_path / "p" / "data")
    key = next(t.key for t in place.trials())
    for depth, exit_code in (("tables", 0), ("record", 3), ("train", 3)):
        found = reproduction(key, workspace=place.workspace, depth=depth,
                             study=tmp_path / "p" / "study.yaml", echo=print)  # fmt: skip
        assert found.exit_code == exit_code, (depth, found.reason)
        assert "'data/' does not exist" in found.reason or depth == "tables"


def test_a_protocol_that_is_gone(tmp_path):
    """A shipped study, whose journal names a protocol that nobody has any more."""
    results = tmp_path / "results"
    shutil.copytree(STUDIES / "objective-composition" / "results", results)
    journal = results / "journal.jsonl"
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    for record in records:
        if record["type"] == "planned":
            record["study_json"]["protocol"] = "toyworld-v0"
        if record["type"] == "opened":
            record["protocol_name"] = "toyworld-v0"
    journal.write_text("".join(json.dumps(r) + "\n" for r in records))
    key = next(r["key"] for r in records if r["type"] == "opened" and "protocol_name" in r)
    workspace = Workspace(tmp_path / "w")
    for depth, decision in (("record", "not judged"), ("tables", "bit-equal")):
        found = reproduction(
            key, workspace=workspace, depth=depth, source=str(results), echo=lambda _: None
        )
        assert found.decision == decision, found.reason
        assert "toyworld-v0" in found.reason or depth == "tables"
