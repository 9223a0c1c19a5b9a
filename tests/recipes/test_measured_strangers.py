"""A trial's student measured as a stranger, by the command line: the same numbers, bit for bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
STUDY = """\
name: own
question: Does guidance matter?
recipe: {train: {cycles: 2, batch_size: 4}}
protocol: toyworld-tiny-v1.yaml
factors: {guidance.scale: [1.0, 2.0]}
replicates: 1
"""


def _stillhouse(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", *words, "--no-mlflow"], cwd=folder, text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_numbers_are_those_of_the_trial(tmp_path):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "study.yaml").write_text(STUDY)
    shutil.copy(Path(__file__).parent / "toyworld-tiny-v1.yaml", tmp_path)
    _stillhouse(tmp_path, "run", "study.yaml", "--inline")
    workspace = tmp_path / "stillhouse-workspace"
    closed = {}
    for file in (workspace / "journal").glob("*.jsonl"):
        for record in map(json.loads, file.read_text().splitlines()):
            if record["type"] == "closed":
                closed[record["key"]] = record
    students = {
        p.parent.parent.parent.name: p for p in workspace.glob("trials/*/attempts/*/student")
    }
    assert len(students) == 2
    for key, path in students.items():
        shutil.copytree(path, tmp_path / "elsewhere" / key)
    told = _stillhouse(
        tmp_path, "measure", *(f"elsewhere/{key}" for key in students), "--protocol",
        "toyworld-tiny-v1.yaml", "--json",
    )  # fmt: skip
    content = json.loads(told.splitlines()[-1])
    assert Path(content["report"]).is_file()
    assert len(content["students"]) == 2
    for row in content["students"]:
        (measured,) = closed[row["levels"]["arm"]]["measurements"]
        assert row["metrics"]
        assert row["metrics"] == {name: measured["metrics"][name] for name in row["metrics"]}
        spans = {e["name"]: [e["lo"], e["hi"]] for e in measured["estimates"]}
        assert row["intervals"] == {name: spans[name] for name in row["intervals"]}
    again = {
        record["key"]
        for file in (workspace / "journal").glob("*.jsonl")
        for record in map(json.loads, file.read_text().splitlines())
        if record["type"] == "opened" and record["study"] == "measured"
    }
    kinds = {t["key"]: t["kind"] for t in _planned(workspace, "measured")}
    assert {kinds[key] for key in again} == {"trial"}, "reference rows are shared, not made again"


def _planned(workspace: Path, study: str) -> list[dict]:
    return [
        trial
        for file in (workspace / "journal").glob("*.jsonl")
        for record in map(json.loads, file.read_text().splitlines())
        if record["type"] == "planned" and record["study"] == study
        for trial in record["trials"]
    ]
