"""`export`: what git keeps is enough to plan, answer and reproduce from."""

import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.commands import export, plan, report, reproduce, run, status
from harness.errors import NotJudgedError
from harness.journal.history import History

STUDY = """\
name: demo
question: Does x help?
subject: harness.testing.stub
recipe: {cycles: 3}
factors: {part.x: [0.0, 1.0]}
baseline: {part.x: 0.0}
replicates: 3
protocol: p
contrasts:
  - {id: H1, claim: x helps, a: {part.x: 1.0}, b: {part.x: 0.0}, expect: higher}
"""


def call(command, *words: str):
    app = typer.Typer()
    app.command()(command)
    found = CliRunner().invoke(app, list(words))
    if isinstance(found.exception, NotJudgedError):
        raise found.exception
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").touch()
    made = tmp_path / "study.yaml"
    made.write_text(STUDY)
    return made


def _answer(file: Path) -> dict:
    return json.loads(call(report.command, str(file), "--json").stdout)


def test_a_clone_with_only_the_results_plans_and_answers_alike(file: Path, tmp_path: Path):
    assert call(run.command, str(file), "--inline", "--no-mlflow").exit_code == 0
    before = _answer(file)
    told = json.loads(call(export.command, str(file), "--json").stdout)
    assert told["done"] == told["planned"] == 6
    shutil.rmtree(tmp_path / "stillhouse-workspace")
    planned = json.loads(call(plan.command, str(file), "--json").stdout)
    assert {t["state"] for t in planned["trials"]} == {"reuse"}
    after = _answer(file)
    assert after["verdicts"] == before["verdicts"]
    assert [a["cells"] for a in after["arms"]] == [a["cells"] for a in before["arms"]]


def test_the_journal_names_no_machine_and_lists_sources_once(file: Path, tmp_path: Path):
    call(run.command, str(file), "--inline", "--no-mlflow")
    call(export.command, str(file))
    lines = (tmp_path / "results" / "journal.jsonl").read_text().splitlines()
    opened = [r for r in map(json.loads, lines) if r["type"] == "opened"]
    assert not any(r.get("host") for r in opened)
    assert sum("code_files" in r for r in opened) <= 1
    known = History.read([tmp_path / "results"]).trials
    assert len({json.dumps(k.complete.opened.code_files) for k in known.values()}) == 1


def test_exporting_takes_nothing_from_the_workspace_it_came_from(file: Path, tmp_path: Path):
    """The compact journal is read beside the whole one; files and student stay known."""
    measured = STUDY.replace("harness.testing.stub", "harness.testing.stub_measured")
    file.write_text(measured)
    call(run.command, str(file), "--inline", "--no-mlflow")
    whole = History.read([tmp_path / "stillhouse-workspace" / "journal"])
    assert any(known.complete.closed.artifacts for known in whole.trials.values())
    call(export.command, str(file))
    both = History.read([tmp_path / "stillhouse-workspace" / "journal", tmp_path / "results"])
    for key, known in whole.trials.items():
        assert both.trials[key].complete == known.complete
    file.write_text(measured.replace("protocol: p", "protocol: q"))
    states = json.loads(call(plan.command, str(file), "--json").stdout)["trials"]
    assert sum(t["state"] == "measure" for t in states) == 6


def test_a_clone_knows_how_a_trial_ran(file: Path, tmp_path: Path):
    call(run.command, str(file), "--inline", "--no-mlflow")
    call(export.command, str(file))
    shutil.rmtree(tmp_path / "stillhouse-workspace")
    key = json.loads(call(plan.command, str(file), "--json").stdout)["trials"][0]["key"]
    words = [key, "--study", str(file), "--level", "train"]
    found = call(reproduce.command, *words, "--workspace", str(tmp_path / "elsewhere"))
    assert found.exit_code == 0, found.output
    assert "bit-equal: 2 of 2" in found.stdout
    assert call(run.command, str(file), "--inline", "--no-mlflow").exit_code == 0
    told = json.loads(call(status.command, str(file), "--json").stdout)["studies"]
    assert told[0]["counts"]["done"] == 6


def test_failures_are_exported_too(file: Path, tmp_path: Path):
    """A missing replicate is part of the answer: without it a verdict may flip."""
    file.write_text(STUDY.replace("{cycles: 3}", "{fault: raise, fault_replicate: 1}"))
    call(run.command, str(file), "--inline", "--no-mlflow")
    before = _answer(file)
    call(export.command, str(file))
    shutil.rmtree(tmp_path / "stillhouse-workspace")
    after = _answer(file)
    assert after["failures"] == before["failures"] != {}
    assert after["verdicts"] == before["verdicts"]


def test_exporting_again_gives_the_same_bytes(file: Path, tmp_path: Path):
    call(run.command, str(file), "--inline", "--no-mlflow")
    files = [call(export.command, str(file), "--to", str(tmp_path / n)) and n for n in ("a", "b")]
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in files)
    assert one == two


def test_a_study_without_results_is_refused(file: Path, tmp_path: Path):
    with pytest.raises(NotJudgedError, match="run it first"):
        call(export.command, str(file))
    assert not (tmp_path / "results").exists()
