"""Reproducing a trial from its key: bit-equal, not reproduced, and what cannot be judged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.journal.records import Closed
from harness.journal.workspace import Workspace
from harness.reproduce.entry import reproduce, reproduction
from harness.reproduce.reproduction import lines, to_json
from tests.harness.reproduce_lab import STUDY, Lab


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def lab(ran, tmp_path) -> Lab:
    """A copy of the lab that a test may spoil."""
    return ran.copy(tmp_path / "lab")


@pytest.mark.parametrize(("depth", "expected"), [("auto", "measure"), ("train", "train")])
def test_an_unchanged_trial_is_bit_equal(ran, depth, expected):
    before = sorted(p for p in ran.workspace.trial(ran.key).rglob("*"))
    found = ran.again(depth)
    assert (found.decision, found.exit_code, found.level) == ("bit-equal", 0, expected)
    assert {v.metric for v in found.values} == {"score", "cost"}
    assert all(v.equal and v.recorded == v.now for v in found.values)
    assert found.differences == []
    assert sorted(p for p in ran.workspace.trial(ran.key).rglob("*")) == before
    assert Path(found.folder).is_relative_to(ran.workspace.root / "reproductions")
    assert (Path(found.folder) / "reproduction.json").is_file()


def test_a_prefix_or_short_name_is_enough_and_an_unknown_one_is_an_error(ran):
    said: list[str] = []
    assert reproduce(ran.key[:6], workspace=ran.workspace, echo=said.append) == 0
    assert said[-1].startswith("bit-equal: 2 of 2")
    assert any("the stored recipe hashes to the key" in line for line in said)
    short = ran.history.trials[ran.key].ordered[0].opened.trial.short
    assert ran.again(key=short).key == ran.key
    with pytest.raises(HarnessError, match="ffffffff"):
        ran.again(key="ffffffff")
    with pytest.raises(HarnessError, match="auto, record, tables, measure, train"):
        ran.again("all")


def test_reference_rows_are_run_again(ran):
    key = next(
        k for k, t in ran.history.trials.items() if t.ordered[0].opened.trial.kind == "reference"
    )
    found = ran.again(key=key)
    assert (found.decision, found.level) == ("bit-equal", "train")


def test_a_moved_number_without_a_scale_is_not_judged(lab):
    """Two replicates and no reruns: nothing says whether 1e-9 is much."""

    def change(record):
        if record["type"] == "closed" and record["key"] == lab.key:
            record["measurements"][0]["metrics"]["score"] += 1e-9

    lab.edit_journal(change)
    found = lab.again("train")
    assert (found.decision, found.exit_code) == ("not judged", 3)
    assert "3 replicates of the arm, or `reruns:`" in found.reason
    wrong = next(v for v in found.values if not v.equal)
    assert wrong.metric == "score"
    assert wrong.spread is not None
    assert wrong.spread > 0
    assert any("SD of the arm's replicates" in line for line in lines(found))
    assert json.loads(to_json(found))["exit_code"] == 3


def test_a_changed_student_is_not_reproduced(lab):
    weights = next(lab.workspace.trial(lab.key).rglob("weights.json"))
    weights.write_text(json.dumps({"score": 0.5}))
    found = lab.again("measure")
    assert (found.decision, found.exit_code) == ("not reproduced", 1)
    assert {v.metric: v.now for v in found.values} == {"score": 0.5, "cost": None}


@pytest.mark.parametrize("place", ["journal", "trial.json"])
def test_a_tampered_recipe_is_not_judged(lab, place):
    key = lab.key
    if place == "journal":

        def change(record):
            if record["type"] == "trial" and record["key"] == key:
                record["is"]["recipe"]["part"]["x"] = 9.0

        lab.edit_journal(change)
    else:
        file = lab.workspace.trial(key) / "trial.json"
        content = json.loads(file.read_text())
        content["replicate"] += 1
        file.write_text(json.dumps(content))
    found = lab.again()
    assert (found.decision, found.exit_code) == ("not judged", 3)
    assert "changed after the trial ran" in found.reason
    assert place in found.reason


def test_changed_code_is_named_by_file_and_still_judged(lab, monkeypatch):
    monkeypatch.setenv("STUB_CODE", "newer")
    found = lab.again("train")
    assert found.decision == "bit-equal"
    assert found.differences == ["code: stub.py (changed)"]


def test_changed_data_is_not_judged_by_training_but_by_measuring(lab, monkeypatch):
    monkeypatch.setenv("STUB_DATA", "newer")
    trained = lab.again("train")
    assert (trained.decision, trained.folder) == ("not judged", "")
    assert trained.differences == ["data: stub-data then, newer now"]
    assert lab.again("measure").decision == "bit-equal"


@pytest.mark.parametrize("depth", ["measure", "train"])
def test_a_trial_that_another_study_measured_since_is_its_own_studys(lab, depth):
    """Trials are shared by key: the other study measured the kept student under its protocol."""
    other = lab.file.read_text().replace("name: again", "name: later")
    lab.run_other("later", other.replace("protocol: v1", "protocol: v2"))
    modes = [a.opened.mode for a in lab.history.trials[lab.key].ordered]
    assert modes == ["train", "measure"]
    found = lab.again(depth)
    assert found.decision == "bit-equal", found.reason
    assert {v.metric for v in found.values} == {"score", "cost"}


def test_a_changed_protocol_is_not_judged(lab):
    def change(record):
        if record["type"] == "opened":
            record["protocol"] = "older"

    lab.edit_journal(change)
    found = lab.again()
    assert found.decision == "not judged"
    assert "protocol" in found.reason
    assert any(d.startswith("protocol v1: older then") for d in found.differences)


def test_other_versions_and_devices_are_named(lab):
    def change(record):
        if record["type"] == "opened":
            record["environment"]["numpy"] = "0.1"
            record["device"] = "abacus"

    lab.edit_journal(change)
    said = "; ".join(lab.again().differences)
    assert "numpy 0.1 then" in said
    assert "device: abacus then" in said


def test_a_missing_student_falls_back_to_training_or_is_not_judged(lab):
    shutil.rmtree(next(lab.workspace.trial(lab.key).rglob("student")))
    assert lab.again("auto").level == "train"
    found = lab.again("measure")
    assert (found.decision, found.exit_code) == ("not judged", 3)
    assert "student was not kept, or is gone" in found.reason


def test_a_trial_without_result_is_not_judged(lab):
    def change(record):
        if record["type"] == "closed":
            record["state"] = "killed"

    lab.edit_journal(change)
    assert "its state is killed" in lab.again().reason


def test_a_lost_planning_record_is_not_judged(lab):
    for file in lab.workspace.journal.glob("*.jsonl"):
        kept = [line for line in file.read_text().splitlines() if '"type":"planned"' not in line]
        file.write_text("\n".join(kept) + "\n")
    found = lab.again()
    assert found.decision == "not judged"
    assert "lacks the planning record" in found.reason


def test_results_beside_a_study_are_enough(lab, monkeypatch):
    """What a reviewer has: a clone with recorded results, no workspace, and a key."""
    key, root = lab.key, lab.workspace.root.parent
    shutil.copytree(lab.workspace.journal, lab.file.parent / "results")
    shutil.rmtree(lab.workspace.root)
    monkeypatch.chdir(root)
    found = lab.again(key=key)
    assert (found.decision, found.level) == ("bit-equal", "train")
    elsewhere = Workspace(root.parent / "elsewhere")
    given = reproduction(key, workspace=elsewhere, study=lab.file, echo=lambda _: None)
    assert given.decision == "bit-equal"


def test_a_divergence_is_reproduced(tmp_path):
    lab = Lab.__new__(Lab)
    (tmp_path / "pyproject.toml").write_text("")
    lab.file = tmp_path / "study.yaml"
    text = STUDY.format(subject="harness.testing.stub_measured", replicates=2)
    lab.file.write_text(text.replace("cycles: 2", "cycles: 4, fault: diverge"))
    lab.workspace = Workspace(tmp_path / "w")
    lab.run()
    closed = lab.history.trials[lab.key].ordered[-1].closed
    assert isinstance(closed, Closed)
    assert closed.state == "diverged"
    found = lab.again()
    assert found.decision == "bit-equal"
    assert "diverged at cycle" in found.reason


def test_the_command_prints_one_json_object_and_exits_with_the_decision(ran):
    command = [sys.executable, "-m", "harness.cli", "reproduce", ran.key, "--json"]
    command += ["--workspace", str(ran.workspace.root), "--level", "train"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["decision"] == "bit-equal"
    assert "hashes to the key" in done.stderr
