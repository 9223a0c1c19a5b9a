"""`run`, `status`, `show` and `logs` as typed."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.commands import logs, plan, report, run, show, status
from harness.errors import HarnessError
from harness.journal.shards import Shard
from harness.running import summary
from harness.running.run_study import RunResult
from tests.harness.run_place import STUB, Place

STUDY = """\
name: demo
question: Does x help?
subject: harness.testing.stub
recipe: {fault: raise, fault_replicate: 1}
factors: {part.x: [0.0, 1.0]}
baseline: {part.x: 0.0}
replicates: 2
protocol: p
contrasts:
  - {id: H1, claim: x helps, a: {part.x: 1.0}, b: {part.x: 0.0}, expect: higher}
"""


def call(command, *words: str):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").touch()
    made = tmp_path / "study.yaml"
    made.write_text(STUDY)
    return made


@pytest.fixture
def ran(file: Path):
    return call(run.command, str(file), "--inline", "--no-mlflow")


def key_of_a(tmp_path: Path, state: str) -> str:
    found = call(status.command, "--json", "--workspace", str(tmp_path / "stillhouse-workspace"))
    trials = json.loads(found.stdout)["studies"][0]["trials"]
    return next(t["key"] for t in trials if t["state"] == state)


def test_run_ends_with_table_verdict_report_and_what_to_type(ran, tmp_path: Path):
    assert ran.exit_code == 1
    lines = ran.stdout.splitlines()
    assert lines[0] == f"workspace {tmp_path / 'stillhouse-workspace'}"
    table = next(i for i, line in enumerate(lines) if "score" in line and "cost" in line)
    assert "1/2" in lines[table + 1]
    assert any(line.startswith("H1") for line in lines)
    assert "this run   2 done, 2 failed" in lines
    assert any(line.startswith("failed     stillhouse logs ") for line in lines)
    (report,) = [line for line in lines if line.startswith("report ")]
    assert Path(report.split()[-1]).is_file()
    (reproduce,) = [line for line in lines if line.startswith("reproduce ")]
    assert reproduce.endswith(f"--workspace {lines[0].split()[1]}"), "pasted, it finds the trial"
    assert call(show.command, *reproduce.split()[3:]).exit_code == 0
    assert not any("stillhouse ui" in line for line in lines), "MLflow was not asked for"


def test_run_json_is_one_object_progress_elsewhere(file: Path):
    found = call(run.command, str(file), "--inline", "--no-mlflow", "--json")
    assert found.exit_code == 1
    content = json.loads(found.stdout)
    assert content["exit_code"] == 1
    assert sorted(t["state"] for t in content["trials"].values()) == ["done"] * 2 + ["failed"] * 2
    assert content["verdicts"][0]["id"] == "H1"
    assert "workspace" in found.stderr
    assert "failed" in found.stderr


def warned(result: RunResult, place: Place) -> list[str]:
    lines = summary.lines(result, tracked=False, workspace=place.workspace)
    return [line for line in lines if line.startswith("warning")]


def test_run_tells_at_its_end_what_makes_comparisons_unfair(tmp_path: Path, monkeypatch):
    place = Place(tmp_path / "project")
    text = STUB.replace("testing.stub", "testing.stub_measured")
    made = place.study(text)
    assert not warned(place.run(made), place)
    monkeypatch.setenv("STUB_CODE", "newer")
    result = place.run(place.study(text), rerun_stale=True, shard=Shard(2, 2))
    assert any("3 of 6 results were made by other code" in text for text in warned(result, place))


def test_status_says_how_it_stands_and_what_to_type(ran, file: Path):
    before = sorted(f for f in file.parent.rglob("*"))
    found = call(status.command, str(file))
    assert found.exit_code == 0
    assert call(status.command, str(file.parent)).stdout == found.stdout, "its folder will do"
    assert "demo  4 trials: 2 done, 2 failed" in found.stdout
    assert "the stub was asked to raise" in found.stdout
    assert f"stillhouse run {file}  # 2 trials to run" in found.stdout
    assert before == sorted(f for f in file.parent.rglob("*")), "it never writes"


def test_status_says_that_the_file_is_another_than_at_the_last_run(ran, file: Path):
    def told(*words: str) -> str:
        return call(status.command, *words).stdout

    file.write_text(STUDY.replace("replicates: 2", "replicates: 3"))
    text = told(str(file))
    assert "demo  4 trials" in text, "those of the last run"
    assert f"changed     {file}: it is another than at the last run; `stillhouse plan" in text
    assert "trials to run" not in text, "only the plan knows how many"
    assert json.loads(told("--json", str(file)))["studies"][0]["changed"]
    file.write_text(STUDY + "# a remark\n")
    assert "trials to run" in told(str(file))
    assert json.loads(told("--json", str(file)))["studies"][0]["changed"] == ""
    file.write_text(STUDY.replace("baseline", "basline"))
    assert "it cannot be read any more" in told(str(file))


def test_status_knows_a_changed_recipe_file(file: Path):
    recipe = file.with_name("recipe.yaml")
    recipe.write_text("cycles: 2\n")
    file.write_text(STUDY.replace("{fault: raise, fault_replicate: 1}", "recipe.yaml"))
    assert call(run.command, str(file), "--inline", "--no-mlflow").exit_code == 0
    assert "changed  " not in call(status.command, str(file)).stdout
    recipe.write_text("cycles: 3\n")
    assert "it is another than at the last run" in call(status.command, str(file)).stdout


def test_a_mistyped_path_is_told_as_such(file: Path, tmp_path: Path):
    nowhere = tmp_path / "nowhere"
    for command in (report.command, plan.command, run.command):
        found = call(command, str(nowhere / "study.yaml"))
        assert isinstance(found.exception, HarnessError)
        assert str(found.exception).startswith(f"no file {nowhere / 'study.yaml'}. Name a study")
    found = call(report.command, str(file), "--workspace", str(nowhere))
    assert isinstance(found.exception, HarnessError)
    assert "there is nothing to answer from" in str(found.exception)
    assert not nowhere.exists()


def test_status_by_name_from_any_folder(ran, file: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir("/")
    place = str(file.parent / "stillhouse-workspace")
    told = call(status.command, "demo", "--workspace", place).stdout
    assert "4 trials" in told
    assert f"run {file.relative_to('/')}  # 2 trials to run" in told, "a name alone cannot be run"
    found = call(status.command, "other", "--workspace", place)
    assert isinstance(found.exception, HarnessError)
    assert "studies there: demo" in str(found.exception)


def test_nothing_ran_yet(file: Path):
    place = ("--workspace", str(file.parent / "w"))
    for found in (
        call(status.command, str(file)),
        call(logs.command, "ab", *place),
        call(show.command, "ab", *place),
    ):
        assert isinstance(found.exception, HarnessError)
        assert "nothing ran yet" in str(found.exception)
    assert [f.name for f in sorted(file.parent.iterdir())] == ["pyproject.toml", "study.yaml"]


def test_logs_holds_output_traceback_and_endings(ran, tmp_path: Path):
    place = str(tmp_path / "stillhouse-workspace")
    key = key_of_a(tmp_path, "failed")
    found = call(logs.command, key[:8], "--workspace", place)
    assert "attempt 1" in found.stdout
    assert "RuntimeError: the stub was asked to raise" in found.stdout
    last = call(logs.command, key, "--workspace", place, "-n", "1").stdout
    assert len(last.splitlines()) == 1
    assert "failed" in last
    missing = call(logs.command, "zzzz", "--workspace", place)
    assert "no trial 'zzzz'" in str(missing.exception)
    ambiguous = call(logs.command, "", "--workspace", place)
    assert "ambiguous" in str(ambiguous.exception)


def test_show_identity_attempts_metrics(ran, tmp_path: Path):
    place = str(tmp_path / "stillhouse-workspace")
    key = key_of_a(tmp_path, "done")
    text = call(show.command, key[:8], "--workspace", place).stdout
    assert key in text
    assert "attempt 1" in text
    assert "score" in text
    content = json.loads(call(show.command, key, "--workspace", place, "--json").stdout)
    assert content["recipe"]["fault"] == "raise"
    assert content["state"] == "done"
    attempt = content["attempts"][0]
    assert attempt["closed"]["measurements"][0]["metrics"]["score"] > 0
    assert attempt["environment"]["python"]
    assert "not closed" not in text
    short = call(show.command, content["short"], "--workspace", place, "--json")
    assert json.loads(short.stdout)["key"] == key


def test_show_of_a_trial_whose_attempts_cannot_be_read(tmp_path: Path):
    journal = tmp_path / "w" / "journal"
    journal.mkdir(parents=True)
    line = '{"type":"superseded","at":1,"key":"k1f9c2a7b","attempt":1,"study":"s","code":"c"}\n'
    (journal / "a.jsonl").write_text(line)
    with pytest.raises(HarnessError, match="no attempt of trial k1f9c2a7b can be read"):
        show.command("k1f9", workspace=tmp_path / "w")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, "stillhouse ui"),
        ("http://ana:secret@lab:5000", "http://lab:5000"),
        ("sqlite:////elsewhere/x.db", "sqlite:////elsewhere/x.db"),
    ],
)
def test_where_mlflow_is_seen_is_where_it_was_written(given, shown, tmp_path: Path, monkeypatch):
    """`ui` shows the workspace's own database and no other."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    place = Place(tmp_path)
    result = place.run(place.study(STUB))
    told = summary.lines(result, tracked=True, workspace=place.workspace, mlflow=given)
    (line,) = [line for line in told if line.startswith("mlflow")]
    assert line.removeprefix("mlflow     ").startswith(shown)
    assert "secret" not in line
