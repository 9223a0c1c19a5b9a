"""Every study in `studies/` plans, and what was recorded of it is read as history."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.analysis.model import RULES, Answer
from harness.report import tables

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


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.parent.name)
def test_what_is_recorded_is_todays_answer_from_its_journal(file: Path, tmp_path: Path):
    """Made anew in an empty workspace; numbers to the digits that no order of summing moves."""
    command = [sys.executable, "-m", "harness.cli", "export", str(file), "--to"]
    done = subprocess.run(
        [*command, str(tmp_path / "made"), "--workspace", str(tmp_path / "empty")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    recorded = file.parent / "results"
    assert {p.name for p in (tmp_path / "made").iterdir()} == {p.name for p in recorded.iterdir()}
    then, now = (json.loads((p / "answer.json").read_text()) for p in (recorded, tmp_path / "made"))
    assert then["rules"] == RULES
    _alike(then, now, "answer")


def _alike(then: object, now: object, where: str) -> None:
    """Numbers and verdicts; sentences may be worded anew, and fields may be added."""
    if isinstance(then, dict):
        assert isinstance(now, dict), where
        assert then.keys() <= now.keys(), where
        for name in then:
            _alike(then[name], now[name], f"{where}.{name}")
    elif isinstance(then, list):
        assert isinstance(now, list), where
        if not (then and isinstance(then[0], str)):
            assert len(then) == len(now), where
            for index, (one, other) in enumerate(zip(then, now, strict=True)):
                _alike(one, other, f"{where}[{index}]")
    elif isinstance(then, float):
        assert now == pytest.approx(then, rel=1e-9, abs=1e-12), where
    elif not isinstance(then, str) or where.endswith((".verdict", ".id", ".arm")):
        assert then == now, where


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.parent.name)
def test_tables_of_a_recorded_trial_are_reproduced(file: Path, tmp_path: Path):
    """From the recorded numbers alone; it says that the trial's own items are not here."""
    answer = Answer.model_validate_json((file.parent / "results" / "answer.json").read_text())
    key = next(row for row in answer.arms if row.kind == "arm").keys[0]
    command = [sys.executable, "-m", "harness.cli", "reproduce", key, "--level", "tables"]
    done = subprocess.run(
        [*command, "--study", str(file.parent), "--workspace", str(tmp_path), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["decision"] in ("bit-equal", "same digits")
    assert f"numbers of verdicts and tables in {file.parent / 'results'}" in told["reason"]
    assert "the trial's stored items are not here" in told["reason"]


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.parent.name)
def test_a_readme_prints_its_answer(file: Path):
    """Every declared contrast and every arm, as the report prints them; nothing else."""
    answer = Answer.model_validate_json((file.parent / "results" / "answer.json").read_text())
    lines = (file.parent / "README.md").read_text().splitlines()
    told = tables.to_markdown(tables.verdict_table(answer)).splitlines()[2:]
    start = lines.index(told[0])
    assert lines[start : start + len(told)] == told
    assert not lines[start + len(told)].startswith("|")
    heads = next(line for line in lines if line.startswith("| arm |") and "t2i/kd" in line)
    named = [head.split()[0] for head in heads.strip("| ").split(" | ")[2:] if head != "keys"]
    places = {metric: tables.column_places(answer, metric) for metric in named}
    for row in answer.arms:
        cells = [tables.printed_cell(row.cells[m], places[m]) for m in named]
        label = row.arm + (" (baseline)" if row.baseline else "")
        label += " (reference)" if row.kind == "reference" else ""
        begun = f"| {' | '.join([label, tables.count(row), *cells])} |"
        assert any(line.startswith(begun) for line in lines), begun


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.parent.name)
def test_a_readme_says_what_verdicts_reach_over(file: Path):
    answer = Answer.model_validate_json((file.parent / "results" / "answer.json").read_text())
    readme = (file.parent / "README.md").read_text()
    planned = [verdict for verdict in answer.verdicts if verdict.planned]
    assert planned
    if not any(verdict.n_prompts for verdict in planned):
        assert "Recorded without items" in readme
    assert "on exactly these prompts" in readme
    assert "docs/statistics.md" in readme


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
