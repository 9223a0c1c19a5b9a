"""Every study in `studies/` plans, and what was recorded of it is read as history."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "studies").glob("*/study.yaml"))
TWINS = sorted((ROOT / "studies").glob("*/full-scale.yaml"))
RECORDED = [file for file in STUDIES if (file.parent / "results" / "journal.jsonl").is_file()]


def _planned(file: Path, workspace: Path, *options: str) -> dict:
    command = [sys.executable, "-m", "harness.cli", "plan", str(file), "--json", *options]
    done = subprocess.run(
        [*command, "--workspace", str(workspace)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.parent.name)
def test_a_study_plans_and_tells_its_story(file: Path, tmp_path: Path):
    planned = _planned(file, tmp_path)
    assert planned["trials"]
    readme = (file.parent / "README.md").read_text()
    assert "toy world" in readme
    log = (ROOT / "studies" / "LOG.md").read_text()
    assert f"[{file.parent.name}]({file.parent.name}/README.md)" in log


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.parent.name)
def test_recorded_trials_are_known(file: Path, tmp_path: Path):
    """Done, or stale where code changed since: never unknown."""
    trials = [t for t in _planned(file, tmp_path)["trials"] if t["state"] != "reference"]
    assert {t["state"] for t in trials} <= {"reuse", "stale"}
    verdicts = json.loads((file.parent / "results" / "answer.json").read_text())["verdicts"]
    readme = (file.parent / "README.md").read_text()
    for verdict in verdicts:
        if verdict["planned"]:
            assert f"| {verdict['id']} |" in readme, "every declared contrast is reported"


def test_every_question_but_the_quickstart_has_a_full_scale_twin():
    asked = {file.parent.name for file in STUDIES} - {"quickstart"}
    assert {file.parent.name for file in TWINS} == asked
    assert len(asked) == 5


@pytest.mark.parametrize("file", TWINS, ids=lambda file: file.parent.name)
def test_a_full_scale_twin_plans_anywhere_with_its_cost(file: Path, tmp_path: Path):
    planned = _planned(file, tmp_path, "--gpus", "64")
    assert planned["cost"]["gpu_hours"] > 0
    assert planned["cost"]["parallel"] == 64
    assert planned["cost"]["basis"].startswith("estimated, no trial measured")
    assert planned["cost"]["memory_gb"] < 141
    assert any("hf download" in line for line in planned["not_here"])
    assert not list(tmp_path.iterdir())
    assert "full-scale.yaml" in (file.parent / "README.md").read_text()


@pytest.mark.parametrize("file", TWINS, ids=lambda file: file.parent.name)
def test_a_twin_asks_what_its_study_asks(file: Path, tmp_path: Path):
    """The same arms and contrasts; only data, lengths, replicates and numbers of a claim differ."""
    twin, own = (
        _planned(each, tmp_path, "--elsewhere") for each in (file, file.with_name("study.yaml"))
    )
    assert len(twin["arms"]) == len(own["arms"])
    assert twin["replicates"] >= max(6, own["replicates"]), "what its contrasts need"
    for mine, theirs in zip(twin["contrasts"], own["contrasts"], strict=True):
        for part in ("id", "metric", "expect", "margin"):
            assert mine[part] == theirs[part]
        assert len(mine["pairs"]) == len(theirs["pairs"])
    for arm in twin["arms"]:
        assert arm["recipe"]["family"] == "qwen-image"
        assert arm["recipe"]["train"]["cycles"] == 2000
        assert arm["recipe"]["student"]["rungs"] == 4


def test_planning_a_twin_imports_nothing_heavy(tmp_path: Path):
    code = (
        "import sys\n"
        "from harness.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'ray', 'mlflow', 'pandas', 'scipy', 'diffusers', 'transformers'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    arguments = ["plan", str(TWINS[0]), "--gpus", "8", "--workspace", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "not here yet" in done.stdout


def test_there_are_recorded_studies():
    assert RECORDED
