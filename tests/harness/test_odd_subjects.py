"""Subjects that break the contract while they run: told as such; others, answer, warnings go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import SubjectError
from harness.running import summary
from harness.study.load import load_study
from harness.subjects.load import load_subject
from tests.harness.run_place import Place

SUBJECT = """
import os, shutil
from harness.contract import *
from harness.testing.stub import Recipe as _R
from pydantic import BaseModel

class Recipe(BaseModel):
    how: str = "well"

class Mute(Exception):
    def __str__(self): raise RuntimeError("no words")
    __repr__ = __str__

class Outer(BaseException): pass

metrics = {"score": MetricSpec(headline=True)}

def fingerprints(recipe, protocol):
    return Fingerprints(data="d", protocol="p", code="c")

def run(recipe, context):
    how = recipe["how"]
    if how == "no generator": return None
    return steps(how, context)

def steps(how, context):
    yield Report(step=1, metrics={"train/loss": 1.0})
    match how:
        case "mute": raise Mute()
        case "mute cause":
            try: raise Mute()
            except Mute as error: raise ValueError("told") from error
        case "generator exit": raise GeneratorExit("gone")
        case "outer": raise Outer("far out")
        case "exit": raise SystemExit(3)
        case "none": yield None
        case "dict": yield {"step": 2, "score": 1.0}
        case "integers": yield Report(step=2).model_copy(update={"metrics": {1: 2.0}})
        case "text": yield Report.model_construct(step="two", metrics={"score": "high"})
        case "surrogate": raise ValueError("half a pair " + chr(0xD800))
        case "folder": shutil.rmtree(context.folder)
        case "trial folder": shutil.rmtree(context.folder.parent.parent)
        case "closes badly":
            try:
                yield Report(
                    step=3, metrics={"score": 2.0}, measured=True, outcome=Outcome(state="done")
                )
            finally:
                raise ValueError("while closing")
    yield Report(step=3, metrics={"score": 1.0}, measured=True, outcome=Outcome(state="done"))
"""
STUDY = """\
name: odd
question: Does the rest go on?
subject: odd_subject
recipe: {{how: well}}
factors: {{how: [{how}, well, fine]}}
replicates: 2
contrasts: [{{id: H1, a: {{how: fine}}, b: {{how: well}}, metric: score}}]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path)
    (tmp_path / "odd_subject.py").write_text(SUBJECT)
    yield made
    sys.modules.pop("odd_subject", None)
    sys.path[:] = [p for p in sys.path if p != str(tmp_path)]


def _study(place: Place, how: str):
    file = place.folder / "study.yaml"
    file.write_text(STUDY.format(how=how))
    return load_study(file)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("mute", "Mute: its message cannot be printed"),
        ("mute cause", "ValueError: told"),
        ("generator exit", "SubjectError: the subject raised GeneratorExit: gone"),
        ("outer", "SubjectError: the subject raised Outer: far out"),
        ("exit", "SystemExit: 3"),
        ("none", "SubjectError: the subject yielded None; "),
        ("dict", "SubjectError: the subject yielded a dict; "),
        ("integers", "SubjectError: the subject yielded a Report that is none: metrics.1"),
        ("text", "SubjectError: the subject yielded a Report that is none: step"),
        ("surrogate", "ValueError: half a pair "),
        ("no generator", "SubjectError: the subject's `run` gave None"),
        ("folder", "FileNotFoundError"),
        ("trial folder", ""),
    ],
)
def test_it_is_told_and_the_rest_goes_on(place: Place, how: str, told: str) -> None:
    result = place.run(_study(place, how))
    assert result.exit_code == 1
    assert result.warnings == []
    assert result.answer is not None
    assert result.report is not None
    ends = {t.latest.opened.trial.levels["how"]: [] for t in place.trials() if t.latest}
    for trial in place.trials():
        assert trial.latest is not None
        assert trial.latest.closed is not None
        level = trial.latest.opened.trial.levels["how"]
        ends[level].append((trial.latest.closed.state, trial.latest.closed.reason))
    assert ends.pop("well") == ends.pop("fine") == [("done", "")] * 2
    ((first, second),) = ends.values()
    for state, reason in (first, second):
        assert state == "failed"
        assert reason.startswith(told), reason


def test_what_is_raised_while_closing_changes_nothing(place: Place) -> None:
    assert place.run(_study(place, "closes badly")).exit_code == 0
    assert all(t.state == "done" for t in place.trials())


def test_metrics_are_named_by_text(place: Place) -> None:
    text = SUBJECT.replace('{"score":', "{3:")
    (place.folder / "odd_subject.py").write_text(text)
    with pytest.raises(SubjectError, match=r"names in `metrics` must be text: 3"):
        load_subject("odd_subject", project=place.folder)


def test_a_deleted_current_folder_is_no_traceback(place: Place, tmp_path: Path) -> None:
    made = _study(place, "well2")
    place.folder.joinpath("study.yaml").write_text(STUDY.format(how="other"))
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd {gone} && rmdir {gone} && exec {sys.executable} -P -m harness.cli"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    for words in ("status", "plan", "run --inline --no-mlflow"):
        command = f"{script} {words} {made.file}"
        told = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True)
        assert "Traceback" not in told.stderr, told.stderr
        assert told.returncode in (0, 2), told.stderr


def test_a_current_folder_deleted_while_it_runs_costs_nothing(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, gone = _study(place, "other"), tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    result = place.run(made)
    assert result.exit_code == 0
    told = summary.lines(result, tracked=True, workspace=place.workspace)
    assert any(line.startswith("report ") for line in told)


@pytest.mark.parametrize("words", ["status", "logs abc", "sync", "reproduce abcd", "run x.yaml"])
def test_a_deleted_current_folder_is_told_in_a_line(tmp_path: Path, words: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"cd {gone} && rmdir {gone} && exec {sys.executable} -P -m harness.cli {words}"
    env = {k: v for k, v in os.environ.items() if k != "STILLHOUSE_WORKSPACE"}
    env |= {"PYTHONPATH": str(Path(__file__).parents[2])}
    told = subprocess.run(["sh", "-c", script], env=env, capture_output=True, text=True)
    assert told.returncode == 2, told.stderr
    assert "Traceback" not in told.stderr
