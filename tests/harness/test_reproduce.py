"""Reproducing a trial from its key: identical, not identical, and what cannot be judged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import study as studies
from harness.errors import HarnessError
from harness.journal import Closed, History
from harness.reproduce import Reproduction, lines, reproduce, reproduction, to_json
from harness.run import run_study
from harness.workspace import Workspace

STUDY = """
name: again
question: Does it come out again?
subject: {subject}
recipe: {{cycles: 2}}
factors:
  part.x: [0.0, 1.0]
replicates: 2
protocol: v1
primary: score
"""


class Lab:
    """A project with one study that has run."""

    def __init__(self, root: Path, subject: str = "harness.testing.stub_measured") -> None:
        (root / "pyproject.toml").write_text("")
        self.file = root / "studies" / "again" / "study.yaml"
        self.file.parent.mkdir(parents=True)
        self.file.write_text(STUDY.format(subject=subject))
        self.workspace = Workspace(root / "stillhouse-workspace")
        self.run()

    def run(self) -> None:
        loaded = studies.load(self.file)
        code = run_study(
            loaded, workspace=self.workspace, executor="inline", tracker=None, echo=lambda _: None
        )
        assert code == 0

    @property
    def history(self) -> History:
        return History.read([self.workspace.journal])

    @property
    def key(self) -> str:
        return next(
            k
            for k, t in sorted(self.history.trials.items())
            if t.ordered[0].opened.trial.kind == "trial"
        )

    def again(self, level="auto", key=None, **options) -> Reproduction:
        return reproduction(
            key or self.key, workspace=self.workspace, level=level, echo=lambda _: None, **options
        )

    def edit_journal(self, change) -> None:
        """Rewrite every record of the journal by hand, as one should not."""
        for file in self.workspace.journal.glob("*.jsonl"):
            records = [json.loads(line) for line in file.read_text().splitlines()]
            for record in records:
                change(record)
            file.write_text("".join(json.dumps(r) + "\n" for r in records))


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def lab(ran, tmp_path) -> Lab:
    """A copy of the lab that a test may spoil."""
    copied = object.__new__(Lab)
    root = tmp_path / "lab"
    shutil.copytree(ran.workspace.root.parent, root)
    copied.file = root / "studies" / "again" / "study.yaml"
    copied.workspace = Workspace(root / "stillhouse-workspace")
    return copied


@pytest.mark.parametrize(("level", "expected"), [("auto", "measure"), ("train", "train")])
def test_an_unchanged_trial_is_identical(ran, level, expected):
    before = sorted(p for p in ran.workspace.trial(ran.key).rglob("*"))
    found = ran.again(level)
    assert (found.decision, found.exit_code, found.level) == ("identical", 0, expected)
    assert {v.metric for v in found.values} == {"score", "cost"}
    assert all(v.equal and v.recorded == v.now for v in found.values)
    assert found.differences == []
    assert sorted(p for p in ran.workspace.trial(ran.key).rglob("*")) == before
    assert Path(found.folder).is_relative_to(ran.workspace.root / "reproductions")
    assert (Path(found.folder) / "reproduction.json").is_file()


def test_a_prefix_or_short_name_is_enough_and_an_unknown_one_is_an_error(ran):
    said: list[str] = []
    assert reproduce(ran.key[:6], workspace=ran.workspace, echo=said.append) == 0
    assert said[-1].startswith("identical: 2 of 2")
    assert any("the stored recipe hashes to the key" in line for line in said)
    short = ran.history.trials[ran.key].ordered[0].opened.trial.short
    assert ran.again(key=short).key == ran.key
    with pytest.raises(HarnessError, match="ffffffff"):
        ran.again(key="ffffffff")
    with pytest.raises(HarnessError, match="auto, measure, train"):
        ran.again("all")


def test_reference_rows_are_run_again(ran):
    key = next(
        k for k, t in ran.history.trials.items() if t.ordered[0].opened.trial.kind == "reference"
    )
    found = ran.again(key=key)
    assert (found.decision, found.level) == ("identical", "train")


def test_a_recorded_number_that_does_not_come_out_is_not_identical(lab):
    def change(record):
        if record["type"] == "closed" and record["key"] == lab.key:
            record["measurements"][0]["metrics"]["score"] += 1e-9

    lab.edit_journal(change)
    found = lab.again("train")
    assert (found.decision, found.exit_code) == ("not identical", 1)
    wrong = next(v for v in found.values if not v.equal)
    assert wrong.metric == "score"
    assert wrong.spread is not None
    assert wrong.spread > 0
    assert any("SD of the arm's replicates" in line for line in lines(found))
    assert json.loads(to_json(found))["exit_code"] == 1


def test_a_changed_student_is_not_identical(lab):
    weights = next(lab.workspace.trial(lab.key).rglob("weights.json"))
    weights.write_text(json.dumps({"score": 0.5}))
    found = lab.again("measure")
    assert found.decision == "not identical"
    assert {v.metric: v.now for v in found.values} == {"score": 0.5, "cost": None}


@pytest.mark.parametrize("place", ["journal", "trial.json"])
def test_a_tampered_recipe_is_not_judged(lab, place):
    key = lab.key
    if place == "journal":

        def change(record):
            if record["type"] == "opened" and record["key"] == key:
                record["trial"]["recipe"]["part"]["x"] = 9.0

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
    assert found.decision == "identical"
    assert found.differences == ["code: stub.py (changed)"]


def test_changed_data_is_not_judged_by_training_but_by_measuring(lab, monkeypatch):
    monkeypatch.setenv("STUB_DATA", "newer")
    trained = lab.again("train")
    assert (trained.decision, trained.folder) == ("not judged", "")
    assert trained.differences == ["data: stub-data then, newer now"]
    assert lab.again("measure").decision == "identical"


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
    assert (found.decision, found.level) == ("identical", "train")
    elsewhere = Workspace(root.parent / "elsewhere")
    given = reproduction(key, workspace=elsewhere, study=lab.file, echo=lambda _: None)
    assert given.decision == "identical"


def test_a_divergence_is_reproduced(tmp_path):
    lab = Lab.__new__(Lab)
    (tmp_path / "pyproject.toml").write_text("")
    lab.file = tmp_path / "study.yaml"
    text = STUDY.format(subject="harness.testing.stub_measured")
    lab.file.write_text(text.replace("cycles: 2", "cycles: 4, fault: diverge"))
    lab.workspace = Workspace(tmp_path / "w")
    lab.run()
    closed = lab.history.trials[lab.key].ordered[-1].closed
    assert isinstance(closed, Closed)
    assert closed.state == "diverged"
    found = lab.again()
    assert found.decision == "identical"
    assert "diverged at cycle" in found.reason


def test_the_command_prints_one_json_object_and_exits_with_the_decision(ran):
    command = [sys.executable, "-m", "harness.cli", "reproduce", ran.key, "--json"]
    command += ["--workspace", str(ran.workspace.root), "--level", "train"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["decision"] == "identical"
    assert "hashes to the key" in done.stderr
