"""A command as a subject: the contract, what it is given, what it tells, how it fails."""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.contract import Context, CorruptCheckpoint, Measurement, Report
from harness.errors import SubjectError
from harness.journal import attempts
from harness.subjects.command import CommandSubject
from harness.subjects.load import load_subject
from harness.subjects.trainer import OutOfMemoryError, TrainerError
from harness.testing.subject_contract import SubjectContract
from tests.harness import trainers
from tests.harness.trainers import RECIPE, command, context, recipe


class TestTheTrainer(SubjectContract):
    @pytest.fixture
    def subject(self, tmp_path_factory: pytest.TempPathFactory) -> CommandSubject:
        return command(tmp_path_factory.mktemp("trainer"))

    @pytest.fixture
    def recipe(self) -> dict[str, Any]:
        return recipe("slow", steps=3)  # a checkpoint is seen before the last step

    @pytest.fixture
    def protocol(self) -> str:
        return "trainer"


class TestATrainerWhoseStudentIsMeasured(SubjectContract):
    @pytest.fixture
    def subject(self, tmp_path_factory: pytest.TempPathFactory) -> object:
        folder = tmp_path_factory.mktemp("trainer")
        (folder / "trainer.py").write_text(trainers.TRAINER)
        measured = {"student": "{attempt}/student", "metrics": {}}
        own = trainers.settings(**measured, measured_by="harness.testing.stub_measured")
        return load_subject(own, project=folder)

    @pytest.fixture
    def recipe(self) -> dict[str, Any]:
        return RECIPE

    @pytest.fixture
    def protocol(self) -> str:
        return "default"


def _run(subject: CommandSubject, made: dict[str, Any], place: Context) -> list[Report]:
    return list(subject.run(made, place))


def _argv(folder: Path) -> Any:
    lines = (folder / "output.txt").read_text().splitlines()
    return json.loads(next(line for line in lines if line.startswith("argv ")).split(" ", 1)[1])


@pytest.fixture(autouse=True)
def _no_file_behind_stdout(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the trainer's output goes to the attempt's own file, as it does in no trial."""
    monkeypatch.setattr(sys, "stdout", io.StringIO())


def test_values_reach_the_program_as_single_arguments(tmp_path: Path) -> None:
    nasty = "a b; touch pwned $(touch pwned) `x` 'q' \"d\" {key} --flag=1 \\ *"
    subject = command(tmp_path, command=[*trainers.COMMAND, "name={recipe.name}", "k={key}"])
    _run(subject, recipe() | {"name": nasty}, context(tmp_path / "a"))
    assert _argv(tmp_path / "a")[-2:] == [f"name={nasty}", "k=" + "0" * 16]
    assert not list(tmp_path.rglob("pwned"))


def test_text_is_split_before_values_are_filled_in(tmp_path: Path) -> None:
    line = f"{trainers.COMMAND[0]} trainer.py 'out={{attempt}}' seed=1 note='a {{recipe.name}} c'"
    _run(command(tmp_path, command=line), {"name": "x ' y"}, context(tmp_path / "a"))
    assert _argv(tmp_path / "a") == [f"out={tmp_path / 'a'}", "seed=1", "note=a x ' y c"]


def test_types_arrive_as_json_and_hydra_read_them(tmp_path: Path) -> None:
    values = {"t": True, "n": None, "f": 1e-4, "l": [1, 2.5], "m": {"a": "b"}, "s": "1e-4"}
    words = [*trainers.COMMAND, *(f"{k}={{recipe.v.{k}}}" for k in values)]
    _run(command(tmp_path, command=words), recipe() | {"v": values}, context(tmp_path / "a"))
    told = dict(word.split("=", 1) for word in _argv(tmp_path / "a"))
    assert {k: told[k] for k in values if k != "s"} == {
        "t": "true", "n": "null", "f": "0.0001", "l": "[1,2.5]", "m": '{"a":"b"}',
    }  # fmt: skip
    assert told["s"] == "1e-4"
    assert json.loads((tmp_path / "a" / "recipe.json").read_text())["v"] == values


def test_seeds_fit_what_numpy_takes_and_streams_differ(tmp_path: Path) -> None:
    words = [*trainers.COMMAND, "x={seed.init}", "y={seed.noise}", "g={gpus}"]
    subject = command(tmp_path, command=words, env={"COLOUR": "r{replicate}"})
    _run(subject, recipe(), context(tmp_path / "a", gpus=0.5))
    _, _, _, _, x, y, g = _argv(tmp_path / "a")
    assert x[2:] != y[2:]
    assert all(0 <= int(word[2:]) < 2**31 for word in (x, y))
    assert g == "g=1"
    assert "env r0" in (tmp_path / "a" / "output.txt").read_text()


def test_a_failure_tells_the_code_and_the_last_lines(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match=r"code 3: .*Traceback: shapes do not match"):
        _run(command(tmp_path), recipe("breaks"), context(tmp_path / "a"))


def test_running_out_of_memory_is_the_machines_doing(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemoryError, match="CUDA out of memory"):
        _run(command(tmp_path), recipe("memory"), context(tmp_path / "a"))


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    subject = command(tmp_path, command=["no-such-trainer", "--x"])
    with pytest.raises(TrainerError, match="cannot start no-such-trainer: No such file"):
        _run(subject, recipe(), context(tmp_path / "a"))


@pytest.mark.parametrize(
    ("mode", "reason"),
    [("nan", "train/loss not finite at step 2"), ("gives up", "weights exploded")],
)
def test_divergence_is_a_result(tmp_path: Path, mode: str, reason: str) -> None:
    *_, last = _run(command(tmp_path), recipe(mode), context(tmp_path / "a"))
    assert last.outcome is not None
    assert (last.outcome.state, last.outcome.reason, last.step) == ("diverged", reason, 2)


def test_what_is_no_progress_is_counted_and_the_rest_is_kept(tmp_path: Path) -> None:
    reports = _run(command(tmp_path), recipe("noisy"), context(tmp_path / "a"))
    assert [r.step for r in reports if "train/loss" in r.metrics] == [1, 2, 3, 4]
    (told,) = [r.info["progress"] for r in reports if "progress" in r.info]
    assert told.startswith("8 line(s) of progress.jsonl ignored, the first: epoch 1 of 3")


def test_a_declared_metric_that_never_comes_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(TrainerError, match="never reported score"):
        _run(command(tmp_path), recipe("silent"), context(tmp_path / "a"))


def test_declared_metrics_are_measurements_at_the_steps_asked_for(tmp_path: Path) -> None:
    place = context(tmp_path / "a", measurement=Measurement(protocol="trainer", at=(2, 4)))
    reports = _run(command(tmp_path), recipe(), place)
    assert [(r.step, list(r.metrics)) for r in reports if r.measured] == [
        (2, ["score"]), (4, ["score"]), (4, ["score"]),
    ]  # fmt: skip
    assert not any("score" in r.metrics for r in reports if not r.measured)


def test_resuming_a_program_that_cannot_read_its_checkpoint(tmp_path: Path) -> None:
    broken = tmp_path / "a" / "checkpoint-2"
    broken.mkdir(parents=True)
    (broken / "state.json").write_text("{")
    place = context(tmp_path / "a", resume_from=broken)
    with pytest.raises(CorruptCheckpoint, match="code 1"):
        _run(command(tmp_path), recipe(), place)


def test_the_newest_checkpoint_is_that_of_the_largest_number(tmp_path: Path) -> None:
    for number in (9, 10):
        (tmp_path / "a" / f"checkpoint-{number}").mkdir(parents=True)
    place = context(tmp_path / "a", deadline=time.time())
    reports = _run(command(tmp_path, grace_seconds=0.0), recipe("stubborn"), place)
    told = [a.path for r in reports for a in r.artifacts if a.kind == "checkpoint"]
    assert told[0] == "checkpoint-10"


def test_a_student_that_was_not_left(tmp_path: Path) -> None:
    (tmp_path / "trainer.py").write_text(trainers.TRAINER)
    measured = {"student": "{attempt}/student", "metrics": {}}
    own = trainers.settings(**measured, measured_by="harness.testing.stub_measured")
    subject = load_subject(own, project=tmp_path)
    with pytest.raises(TrainerError, match=r"left no student at .*/a/student"):
        list(subject.run(recipe("homeless"), context(tmp_path / "a")))


def test_measured_by_something_that_cannot_measure(tmp_path: Path) -> None:
    own = trainers.settings(student="{attempt}/student", measured_by="harness.testing.stub")
    with pytest.raises(SubjectError, match="has no `measure`"):
        load_subject(own, project=tmp_path)


def test_digests_tell_trainers_apart_and_notice_changes(tmp_path: Path) -> None:
    def marks(**changes: Any) -> Any:
        own = trainers.settings(**changes)
        return CommandSubject(own, tmp_path).fingerprints({}, "trainer")

    command(tmp_path)
    (tmp_path / "rows.csv").write_text("1")
    before = marks(data=["rows.csv"])
    assert marks(data=["rows.csv"]) == before
    other = ["/elsewhere/bin/" + Path(trainers.COMMAND[0]).name, *trainers.COMMAND[1:]]
    assert marks(data=["rows.csv"], command=other) == before
    fast = marks(data=["rows.csv"], command=[*other, "--fast"])
    assert fast.data == before.data, "words are compared like code"
    assert fast.code != before.code
    assert fast.invocation == (*before.invocation, "--fast")
    assert marks(data=["rows.csv"], env={"A": "1"}).data == before.data
    assert marks(data=["rows.csv"], env={"A": "1"}).code != before.code
    (tmp_path / "rows.csv").write_text("2")
    assert marks(data=["rows.csv"]).data != before.data
    (tmp_path / "trainer.py").write_text("")
    changed = marks(data=["rows.csv"])
    assert changed.code != before.code
    assert changed.code_files["trainer.py"] != before.code_files["trainer.py"]


def test_a_deadline_asks_it_to_save_and_leaves_the_trial_unfinished(tmp_path: Path) -> None:
    subject = command(tmp_path, grace_seconds=20.0)
    place = context(tmp_path / "a")
    reports = []
    for report in subject.run(recipe("polite"), place):
        reports.append(report)
        if report.step == 2:  # its time is up then, however slow the machine is
            object.__setattr__(place, "deadline", time.time() - 1.0)
    assert all(r.outcome is None for r in reports)
    assert "saved before stopping" in (tmp_path / "a" / "output.txt").read_text()
    kept = [a.path for r in reports for a in r.artifacts]
    assert kept[-1] == "checkpoint-2"
    rest = context(tmp_path / "c", resume_from=tmp_path / "a" / "checkpoint-2")
    again = _run(subject, recipe(), rest)
    assert again[-1].metrics == _run(subject, recipe(), context(tmp_path / "b"))[-1].metrics


def test_what_was_reported_before_a_checkpoint_is_not_lost(tmp_path: Path) -> None:
    """Continuing from its last checkpoint a trainer has nothing left to report."""
    place = context(tmp_path / "a", resume_from=tmp_path / "a" / "checkpoint-4")
    subject = command(tmp_path)
    told = _run(subject, recipe("slow"), context(tmp_path / "a"))
    for report in told[:-1]:
        attempts.append_report(tmp_path / "a", 0.0, report)
    (tmp_path / "a" / "progress.jsonl").unlink()
    again = _run(subject, recipe(), place)
    assert again[-1].metrics == told[-1].metrics
