"""`stillhouse plan` and `stillhouse schema` as commands: output, exit codes, what they import."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.commands import plan as plan_command
from harness.commands import schema as schema_command
from harness.errors import StudyError
from tests.harness.study_files import BODY, write

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "ray", "mlflow", "scipy", "pandas", "numpy", "matplotlib", "filelock")


def invoke(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments],
        capture_output=True, text=True, check=False, cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.fixture
def runner() -> CliRunner:
    for command in (plan_command, schema_command):
        name = command.__name__.split(".")[-1]
        if name not in {info.name for info in app.registered_commands}:
            app.command(name)(command.command)
    return CliRunner()


def test_text(tmp_path: Path, runner: CliRunner) -> None:
    result = runner.invoke(app, ["plan", str(write(tmp_path))])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("demo  6 arms x 6 = 36 trials   new 36")


def test_json(tmp_path: Path, runner: CliRunner) -> None:
    result = runner.invoke(app, ["plan", str(write(tmp_path)), "--json"])
    content = json.loads(result.output)
    assert [arm["name"] for arm in content["arms"]][:2] == ["x0-warm", "x0-cool"]
    assert content["arms"][0]["recipe"]["part"] == {"x": 0.0, "y": 0}
    assert len(content["trials"]) == 36
    assert set(content["trials"][0]) >= {"key", "arm", "replicate", "state", "short", "kind"}
    assert content["counts"]["new"] == 36
    assert content["contrasts"][0]["pairs"] == [["x2-warm", "x0-warm"], ["x2-cool", "x0-cool"]]
    assert content["workspace"] == str(tmp_path / "stillhouse-workspace")


def test_plan_writes_nothing(tmp_path: Path, runner: CliRunner) -> None:
    file = write(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert runner.invoke(app, ["plan", str(file)]).exit_code == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_recorded_results_beside_the_study_are_history(tmp_path: Path, runner: CliRunner) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x.jsonl").write_text('{"type": "nonsense"}\n{}\n')
    output = runner.invoke(app, ["plan", str(write(tmp_path))]).output
    assert "results/x.jsonl:1: unreadable record" in output


def test_mistakes_are_raised_for_the_entry_point(tmp_path: Path, runner: CliRunner) -> None:
    result = runner.invoke(app, ["plan", str(write(tmp_path, BODY + "replicas: 3\n"))])
    assert isinstance(result.exception, StudyError)


def test_mistakes_exit_with_2_and_no_traceback(tmp_path: Path) -> None:
    file = write(tmp_path, BODY + "replicas: 3\nprimary: scor\n")
    done = invoke("plan", str(file), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[0] == f"{file}: 2 mistakes; nothing was written"
    assert f"{file}:14:1: unknown key 'replicas'; did you mean 'replicates'?" in done.stderr
    assert f"{file}:15:10: no metric 'scor'; did you mean 'score'?" in done.stderr


def test_schema(tmp_path: Path, runner: CliRunner) -> None:
    file = tmp_path / "study.schema.json"
    assert runner.invoke(app, ["schema", "-o", str(file)]).exit_code == 0
    schema = json.loads(file.read_text())
    assert schema["required"] == ["name", "question", "recipe", "factors"]
    assert schema["additionalProperties"] is False
    assert json.loads(runner.invoke(app, ["schema"]).output) == schema
    missing = runner.invoke(app, ["schema", "-o", str(tmp_path / "no" / "file.json")])
    assert "cannot write" in str(missing.exception)


def _imported_by(arguments: list[str]) -> list[str]:
    code = (
        "import sys\n"
        f"sys.argv = {['stillhouse', *arguments]!r}\n"
        "from harness.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('HEAVY', *[m for m in {HEAVY!r} if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1].split()[1:]


def test_help_and_plan_import_nothing_heavy(tmp_path: Path) -> None:
    assert _imported_by(["--help"]) == []
    assert _imported_by(["plan", str(write(tmp_path))]) == []
