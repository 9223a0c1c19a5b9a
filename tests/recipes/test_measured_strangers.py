"""A trial's student measured as a stranger, by the command line: the same numbers, bit for bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from scipy import stats

from harness.journal.prompt_values import PromptTables
from harness.journal.workspace import Workspace
from harness.planning.make import make_plan
from harness.study.load import load_study
from harness.study.opened_study import OpenedStudy

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
    kinds = {
        record["key"]: record["is"]["kind"]
        for file in (workspace / "journal").glob("*.jsonl")
        for record in map(json.loads, file.read_text().splitlines())
        if record["type"] == "trial"
    }
    assert {kinds[key] for key in again} == {"trial"}, "reference rows are shared, not made again"
    _in_pairs(content, workspace)


def _in_pairs(content: dict, workspace: Path) -> None:
    """Each pair is scipy's paired t over the prompts of every stratum, strata put together."""
    study = load_study(Path(content["study"]))
    history = OpenedStudy(study, Workspace(workspace)).history
    tables = PromptTables(history)
    protocol = make_plan(
        OpenedStudy(study, Workspace(workspace), history=history)
    ).fingerprints.protocol
    keys = {f"arm={row['levels']['arm']}": row["key"] for row in content["students"]}
    pairs = content["pairs"]
    assert {p["about"] for p in pairs} == {"checkpoints"}
    judged = [p for p in pairs if p["p"] is not None]
    assert judged
    for pair in judged:
        a, b = (tables.of(keys[pair[s]], None, protocol, pair["metric"]) for s in ("a", "b"))
        variance = fourth = 0.0
        for stratum, weight in a.strata.items():
            shared = sorted(a.values[stratum])
            known = stats.ttest_rel(*([t.values[stratum][p] for p in shared] for t in (a, b)))
            ends = known.confidence_interval()
            half = (ends.high - ends.low) / 2 / stats.t.ppf(0.975, known.df)
            variance += (weight * half) ** 2
            fourth += (weight * half) ** 4 / known.df
        df = variance**2 / fourth
        half = stats.t.ppf(1 - (1 - pair["level"]) / 2, df) * variance**0.5
        ends = pair["difference"] - half, pair["difference"] + half
        assert (pair["lo"], pair["hi"]) == pytest.approx(ends, rel=1e-6), pair["metric"]
        assert "these checkpoints, over" in pair["words"]
