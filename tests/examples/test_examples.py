"""The examples, as their READMEs say: planned, run in one process, reported."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
STUDIES = sorted((ROOT / "examples").glob("*/study.yaml"))
NAMES = ["diffusers", "fastgen", "scikit_learn"]


def _stillhouse(*words: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # `python` of the commands
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *words], cwd=ROOT, text=True, capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PATH": path}, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _answer(file: str, workspace: Path) -> Any:
    place = ("--workspace", str(workspace))
    _stillhouse("run", file, "--inline", "--no-mlflow", *place)
    return json.loads(_stillhouse("report", file, "--json", *place))


def test_these_are_the_examples() -> None:
    assert [file.parent.name for file in STUDIES] == NAMES
    text = (ROOT / "examples" / "README.md").read_text()
    assert all(f"[`{name}/`]({name}/README.md)" in text for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_plans(name: str, tmp_path: Path) -> None:
    told = _stillhouse("plan", f"examples/{name}/study.yaml", "--workspace", str(tmp_path / "w"))
    assert told.startswith(f"example-{'digits' if name == 'scikit_learn' else name} ")


@pytest.mark.slow
def test_the_classifier_runs_and_is_answered(tmp_path: Path) -> None:
    answer = _answer("examples/scikit_learn/study.yaml", tmp_path / "w")
    (verdict,) = [v for v in answer["verdicts"] if v["planned"]]
    assert verdict["verdict"] == "improves"
    assert [row["n_done"] for row in answer["arms"]] == [6, 6, 6, 6]
    assert Path(answer["report"]).is_file()


@pytest.mark.slow
def test_the_diffusers_script_runs_and_continues(tmp_path: Path) -> None:
    answer = _answer("examples/diffusers/study.yaml", tmp_path / "w")
    assert [row["n_done"] for row in answer["arms"]] == [2, 2]
    for row in answer["arms"]:
        assert 0 < row["cells"]["val/clean_error"]["mean"] < 1
    (verdict,) = [v for v in answer["verdicts"] if v["planned"]]
    assert verdict["n"] == 2
    attempts = list((tmp_path / "w").glob("trials/*/attempts/*"))
    assert len(attempts) == 4
    assert all((a / "student" / "model_index.json").is_file() for a in attempts)
    assert len(list((tmp_path / "w").rglob("checkpoint-*"))) >= 4, "nothing said `keep`"


@pytest.mark.slow
def test_the_diffusers_script_resumes_to_the_same_numbers(tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "examples" / "diffusers" / "train.py"), "--seed", "1"]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    subprocess.run([*script, "--output", str(whole), "--steps", "40"], check=True)
    subprocess.run([*script, "--output", str(parts), "--steps", "20"], check=True)
    shutil.rmtree(parts / "student")
    resume = ["--resume", str(parts / "checkpoint-20"), "--steps", "40"]
    subprocess.run([*script, "--output", str(parts), *resume], check=True)
    last = [(f / "progress.jsonl").read_text().splitlines()[-1] for f in (whole, parts)]
    assert last[0] == last[1]


@pytest.mark.slow
def test_the_fastgen_command_runs_and_its_student_is_measured(tmp_path: Path) -> None:
    copied = shutil.copytree(ROOT / "examples" / "fastgen", tmp_path / "fastgen")
    tiny = ROOT / "tests" / "recipes" / "toyworld-tiny-v1.yaml"  # the shipped one takes minutes
    text = (copied / "study.yaml").read_text()
    (copied / "study.yaml").write_text(text.replace("protocol: toyworld-v1", f"protocol: {tiny}"))
    answer = _answer(str(copied / "study.yaml"), tmp_path / "w")
    arms = {row["arm"]: row for row in answer["arms"] if row["kind"] == "arm"}
    assert [row["n_done"] for row in arms.values()] == [2, 2]
    assert {row["arm"] for row in answer["arms"] if row["kind"] == "reference"} >= {"data"}
    (verdict,) = [v for v in answer["verdicts"] if v["planned"]]
    assert verdict["n"] == 2
    logs = [file.read_text() for file in (tmp_path / "w").glob("trials/*/log.txt")]
    assert sum("resolved {" in text for text in logs) == 4
