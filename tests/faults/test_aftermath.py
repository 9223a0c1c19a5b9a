"""The checker of the other tests here finds what is wrong with a doctored workspace."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.journal import claims
from harness.journal.workspace import Workspace
from tests.faults.aftermath import Undisturbed, assert_clean, problems
from tests.faults.stage import Stage
from tests.support import trainer


@pytest.fixture
def doctored(whole: Stage, tmp_path: Path) -> Workspace:
    """A copy of the undisturbed workspace, to be spoilt."""
    shutil.copytree(whole.workspace.root, tmp_path / "w")
    return Workspace(tmp_path / "w")


@pytest.fixture
def attempt(doctored: Workspace) -> Path:
    """Folder of the first trial's only attempt."""
    return min(doctored.root.glob("trials/*/attempts/*"))


def rewrite(file: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Change a file of JSON lines; None drops a line."""
    lines = [change(json.loads(line)) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines if line is not None))


def closing(workspace: Workspace, **changes: Any) -> None:
    """Change the first closing record."""
    (file,) = workspace.journal.glob("*.jsonl")
    changed: list[str] = []

    def change(line: dict[str, Any]) -> dict[str, Any] | None:
        if line["type"] != "closed" or (changed and line["key"] not in changed):
            return line
        changed.append(line["key"])
        return {**line, **changes} if changes else None

    rewrite(file, change)


def test_an_undisturbed_workspace_is_clean(whole: Stage, expected: Undisturbed) -> None:
    assert len(expected) == 4
    assert_clean(whole.workspace, expected, uri=f"sqlite:///{whole.workspace.database}")


def test_a_lost_closing_record_is_found(doctored: Workspace, expected: Undisturbed) -> None:
    closing(doctored)
    found = " ".join(problems(doctored, expected))
    assert "was never closed" in found
    assert "is running, without a result" in found
    assert "'interrupted': 1" in found


def test_a_record_written_twice_is_found(doctored: Workspace, expected: Undisturbed) -> None:
    (file,) = doctored.journal.glob("*.jsonl")
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines, lines[-1]]) + "\n")
    assert any("was closed 2 times" in p for p in problems(doctored, expected))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": "killed"}, "is killed, without a result"),
        ({"seconds": -3600.0}, "ended before it began"),
        ({"at": 1.0}, "ended before it began"),
        ({"measurements": []}, "the journal's measurements are {}"),
    ],
)
def test_an_untrue_closing_record_is_found(
    doctored: Workspace, expected: Undisturbed, changes: dict[str, Any], words: str
) -> None:
    closing(doctored, **changes)
    assert any(words in p for p in problems(doctored, expected))


def test_a_torn_record_in_the_middle_is_found(doctored: Workspace, expected: Undisturbed) -> None:
    (file,) = doctored.journal.glob("*.jsonl")
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], lines[2][:40], *lines[3:]]) + "\n")
    assert any("unreadable record" in p for p in problems(doctored, expected))


def test_a_lost_step_is_found(doctored: Workspace, attempt: Path, expected: Undisturbed) -> None:
    loss = "train/loss"

    def drop(line: dict[str, Any]) -> dict[str, Any] | None:
        report = line["report"]
        return None if report["step"] == 5 and loss in report["metrics"] else line

    rewrite(attempt / "reports.jsonl", drop)
    assert any(f"{loss} at step 5 is None" in p for p in problems(doctored, expected))


def test_a_step_told_twice_is_found(doctored: Workspace, attempt: Path, expected) -> None:
    file = attempt / "reports.jsonl"
    file.write_text(file.read_text().splitlines()[0] + "\n" + file.read_text())
    assert any("train/loss at step 1 is told 2 times" in p for p in problems(doctored, expected))


def test_a_last_bit_of_the_student_is_found(doctored: Workspace, attempt: Path, expected) -> None:
    weights = attempt / "student" / "weights.json"
    weights.write_text(weights.read_text().replace("1", "2", 1))
    assert any("student is not that of undisturbed" in p for p in problems(doctored, expected))


def test_what_is_left_over_is_found(doctored: Workspace, attempt: Path, expected) -> None:
    (attempt / "checkpoint-7").mkdir()
    (attempt / "panel-8.png").unlink()
    other = attempt.with_name("2-other")
    shutil.copytree(attempt, other)
    found = " ".join(problems(doctored, expected))
    assert "checkpoint-7 is left over" in found
    assert "panel-8.png is recorded and not there" in found
    assert "2-other holds a result that the journal does not know" in found


def test_a_claim_that_is_still_held_is_found(doctored: Workspace, attempt: Path, expected) -> None:
    claim = claims.try_claim(attempt.parent.parent / claims.TRIAL_LOCK)
    assert claim is not None
    with claim:
        assert any("is still claimed" in p for p in problems(doctored, expected))


@pytest.fixture(scope="module")
def recorded(whole: Stage, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy with a database of its own, as the artifacts' address is part of one."""
    from harness.tracking.sync import sync

    made = Workspace(tmp_path_factory.mktemp("recorded") / "w")
    shutil.copytree(whole.workspace.root, made.root)
    shutil.copy(trainer.__file__, made.root.parent)  # the subject stands in the study's project
    with contextlib.chdir(made.root):  # elsewhere, results recorded in that project count too
        assert sync(made, uri=f"sqlite:///{made.root / 'own.db'}", echo=lambda line: None) == []
    return made


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("twin", "has 2 runs"),
        ("gone", "has 0 runs"),
        ("running", "is RUNNING"),
        ("point", "written 2 times"),
        ("state", "says killed of attempt"),
        ("attempt", "of attempt 9-x"),
        ("picture", "shows 1 pictures of 2"),
    ],
)
def test_what_mlflow_has_wrong_is_found(
    recorded: Workspace, expected: Undisturbed, tmp_path: Path, spoil: str, words: str
) -> None:
    from mlflow import MlflowClient

    database = tmp_path / "spoilt.db"
    shutil.copy(recorded.root / "own.db", database)
    uri = f"sqlite:///{database}"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("demo").experiment_id
    run = client.search_runs([experiment], "tags.`stillhouse.kind` = 'trial'")[0]
    number = run.info.run_id
    pictures = sorted((recorded.artifacts / number / "artifacts/images").glob("*.png"))
    hidden = pictures[0].with_suffix(".hidden")
    if spoil == "twin":
        tags = {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.log")}
        client.set_terminated(client.create_run(experiment, tags=tags).info.run_id)
    elif spoil == "gone":
        client.delete_run(number)
    elif spoil == "running":
        client.update_run(number, status="RUNNING")
    elif spoil == "point":
        client.log_metric(number, "score", 1.0, step=8)
    elif spoil == "state":
        client.set_tag(number, "stillhouse.state", "killed")
    elif spoil == "attempt":
        client.set_tag(number, "stillhouse.attempt", "9-x")
    elif spoil == "picture":
        pictures[0].rename(hidden)
    try:
        found = problems(recorded, expected, uri=uri)
    finally:
        if hidden.exists():
            hidden.rename(pictures[0])
    assert any(p.startswith("mlflow: ") and words in p for p in found)


@pytest.mark.slow
def test_a_point_that_mlflow_lacks_is_found(doctored: Workspace, expected: Undisturbed) -> None:
    from harness.tracking.sync import sync

    for file in doctored.root.glob("trials/*/attempts/*/reports.jsonl"):
        rewrite(file, lambda line: None if line["report"]["step"] == 4 else line)
    (journal,) = doctored.journal.glob("*.jsonl")
    rewrite(journal, lambda line: {**line, "measurements": line.get("measurements", [])[1:]})
    uri = f"sqlite:///{doctored.root / 'less.db'}"
    sync(doctored, uri=uri, echo=lambda line: None)
    found = problems(doctored, expected, uri=uri)
    assert any(p.startswith("mlflow: ") and "reach at step 4 is None" in p for p in found)
