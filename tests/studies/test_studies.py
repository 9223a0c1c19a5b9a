"""Every study in `studies/` plans, and what was recorded of it is read as history."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "studies").glob("*/study.yaml"))
RECORDED = [file for file in STUDIES if (file.parent / "results" / "journal.jsonl").is_file()]


def _planned(file: Path, workspace: Path) -> dict:
    command = [sys.executable, "-m", "harness.cli", "plan", str(file), "--json"]
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


def test_there_are_recorded_studies():
    assert RECORDED
