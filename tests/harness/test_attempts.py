import errno
import json
import math
from pathlib import Path

import pytest

from harness.contract import Artifact, Estimate, Outcome, Report
from harness.journal import attempts
from harness.journal.history import Attempt as Recorded
from harness.journal.history import TrialHistory
from harness.journal.records import Closed, Opened
from harness.journal.trial import Trial, key_of
from harness.journal.workspace import Workspace
from harness.testing import stub

RECIPE = stub.Recipe().model_dump()


@pytest.fixture
def trial() -> Trial:
    key = key_of(RECIPE, 2, "d", subject="s")
    return Trial(
        key=key, arm="a", levels={"x": "0"}, replicate=2, recipe=RECIPE, data="d", subject="s"
    )


def report(step: int, *names: str, measured: bool = False, **metrics: float) -> Report:
    artifacts = tuple(
        Artifact(kind="checkpoint" if n.startswith("c") else "panel", path=n, step=step)
        for n in names
    )
    return Report(step=step, metrics=metrics, measured=measured, artifacts=artifacts)


def record(folder: Path, *reports: Report) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, made in enumerate(reports):
        attempts.append_report(folder, 1000.5 + number, made)
        for artifact in made.artifacts:
            (folder / artifact.path).write_text(f"{artifact.path} at {made.step}")


def history(trial: Trial, *states: str | None, reason: str = "", code: str = "c") -> TrialHistory:
    made = TrialHistory(trial.key)
    for number, state in enumerate(states, 1):
        opened = Opened(
            at=1.0, key=trial.key, attempt=number, nonce="n", study="s", trial=trial,
            protocol="p", code=code,
        )  # fmt: skip
        closed = None
        if state:
            closed = Closed(
                at=2.0, key=trial.key, attempt=number, nonce="n", state=state, reason=reason
            )
        made.attempts[number, "n"] = Recorded(opened=opened, closed=closed)
    return made


def test_folder_is_new_and_identity_is_kept(tmp_path: Path, trial: Trial):
    workspace = Workspace(tmp_path)
    nonce, folder = attempts.make_folder(workspace, trial, 1)
    assert folder == workspace.trial(trial.key) / "attempts" / f"1-{nonce}"
    assert list(folder.iterdir()) == []
    content = json.loads((workspace.trial(trial.key) / "trial.json").read_text())
    known = {k: content[k] for k in trial.identity()}
    assert key_of(known["recipe"], known["replicate"], known["data"], subject="s") == trial.key
    assert (content["arm"], content["levels"]) == ("a", {"x": "0"})
    assert attempts.next_number(workspace, history(trial, None, None, None), trial.key) == 4


def test_the_same_folder_twice_is_refused(
    tmp_path: Path, trial: Trial, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("harness.journal.attempts.secrets.token_hex", lambda n: "same")
    attempts.make_folder(Workspace(tmp_path), trial, 1)
    with pytest.raises(FileExistsError):
        attempts.make_folder(Workspace(tmp_path), trial, 1)


def test_reports_come_back_and_hold_no_nan(tmp_path: Path):
    made = Report(
        step=3,
        metrics={"a": 1.5, "b": math.nan, "c": -math.inf},
        measured=True,
        estimates=(Estimate(name="a", value=1.5), Estimate(name="b", value=math.nan)),
        outcome=Outcome(state="done"),
    )
    attempts.append_report(tmp_path, 12.25, made)
    with (tmp_path / attempts.REPORTS).open("a") as handle:
        handle.write('{"at": 13, "rep')  # a crash while writing
    text = (tmp_path / attempts.REPORTS).read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    (line,) = attempts.read_reports(tmp_path)
    assert line.at == 12.25
    assert line.report.metrics["a"] == 1.5
    assert math.isnan(line.report.metrics["b"])
    assert [e.name for e in line.report.estimates] == ["a"]
    assert line.report.outcome == made.outcome
    measured = attempts.measurements([line])
    assert measured[0].metrics == {"a": 1.5, "b": None, "c": None}


def test_only_reported_checkpoints_that_exist_count(tmp_path: Path):
    record(tmp_path, report(1, "c1"), report(2, "c2"), report(3, "c3"))
    (tmp_path / "c1").unlink()
    (tmp_path / "c4").write_text("written, never reported: maybe half")
    assert [(c.path.name, c.step) for c in attempts.checkpoints(tmp_path)] == [("c3", 3), ("c2", 2)]


def test_continues_with_what_was_reported_up_to_the_checkpoint(tmp_path: Path):
    old, new = tmp_path / "1-a", tmp_path / "2-b"
    record(
        old,
        report(1, "c1", "p1", loss=1.0),
        report(2, "c2", measured=True, score=5.0),
        report(3, "p3", loss=0.5),
    )
    new.mkdir()
    copies = attempts.continue_from(old, new)
    assert [(c.path, c.step) for c in copies] == [(new / "c2", 2), (new / "c1", 1)]
    assert (new / "c2").read_text() == "c2 at 2"
    assert (new / "p1").exists()
    assert not (new / "p3").exists()
    lines = attempts.read_reports(new)
    assert [line.report.step for line in lines] == [1, 2]
    assert [line.at for line in lines] == [1000.5, 1001.5], "times stay those of the first attempt"
    assert [m.metrics for m in attempts.measurements(lines)] == [{"score": 5.0}]


def test_nothing_to_continue(tmp_path: Path):
    record(tmp_path / "old", report(1, loss=1.0))
    (tmp_path / "new").mkdir()
    assert attempts.continue_from(tmp_path / "old", tmp_path / "new") == []
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("first", "steps"),
    [
        (report(4, loss=1.0), [1, 2, 3]),
        (report(2, loss=1.0), [1]),
        (report(3, measured=True, score=1.0), [1, 2, 3]),
        (report(0), []),
    ],
)
def test_rewind_drops_what_comes_again(tmp_path: Path, first: Report, steps: list[int]):
    record(tmp_path, *(report(s, loss=1.0) for s in (1, 2, 3)))
    attempts.rewind(tmp_path, first)
    assert [line.report.step for line in attempts.read_reports(tmp_path)] == steps


@pytest.mark.parametrize(
    ("states", "reason", "code", "continues"),
    [
        ((None,), "", "c", True),
        (("killed",), "interrupted", "c", True),
        (("killed",), "interrupted", "other", False),
        (("failed",), "RuntimeError: bad", "c", False),
        (("failed",), "OSError: [Errno 28] No space left on device", "c", True),
        (("failed",), "ConnectionResetError: [Errno 104] Connection reset by peer", "c", True),
        (("failed",), "FileNotFoundError: [Errno 2] No such file", "c", False),
        (("done",), "", "c", False),
        (("diverged",), "", "c", False),
        (("killed", "failed"), "ValueError: x", "c", False),
        ((), "", "c", False),
    ],
)
def test_what_is_continued(trial: Trial, states, reason: str, code: str, continues: bool):
    past = history(trial, *states, reason=reason)
    found = attempts.resumable(past, code, "p")
    assert (found is not None) == continues
    past.superseded_to = len(states)
    assert attempts.resumable(past, code, "p") is None


def test_checkpoints_go_when_done_and_the_rest_stays(tmp_path: Path):
    root = tmp_path / "trial"
    record(root / "attempts" / "1-a", report(1, "c1", "p1"))
    record(root / "attempts" / "2-b", report(2, "c2", "p2"))
    folder = root / "attempts" / "2-b" / "cfolder"
    (folder / "inside").mkdir(parents=True)
    held = (
        Artifact(kind="checkpoint", path="cfolder"),
        Artifact(kind="student", path="cfolder/inside"),
    )
    attempts.append_report(root / "attempts" / "2-b", 1.0, Report(step=3, artifacts=held))
    attempts.drop_checkpoints(root)
    left = sorted(p.name for p in root.rglob("*") if p.is_file() and p.name != attempts.REPORTS)
    assert left == ["p1", "p2"]
    assert (folder / "inside").exists(), "a checkpoint folder that holds the student is kept"
    kept = attempts.kept_artifacts(attempts.read_reports(root / "attempts" / "2-b"))
    assert [a.path for a in kept] == ["p2", "cfolder/inside"]


def test_the_newest_checkpoint_stays_where_there_is_no_student(tmp_path: Path):
    root = tmp_path / "trial"
    for number in (9, 10):
        folder = root / "attempts" / f"{number}-a"
        record(folder, report(number, f"c{number}"), report(number, f"cc{number}"))
    (folder / "s").mkdir()
    attempts.drop_checkpoints(root)
    left = sorted(p.name for p in root.rglob("c*"))
    assert left == ["cc10"], "of one step the one that was reported last"
    student = Report(step=10, artifacts=(Artifact(kind="student", path="s"),))
    attempts.append_report(folder, 1.0, student)
    attempts.drop_checkpoints(root)
    assert not list(root.rglob("c*"))


def test_folders_of_kills_before_the_start_raise_no_number_and_go(tmp_path: Path, trial: Trial):
    """A driver that is killed between making the folder and starting the worker, each time."""
    workspace = Workspace(tmp_path / "w")
    for _ in range(5):
        number = attempts.next_number(workspace, None, trial.key)
        assert number == 1
        _, folder = attempts.make_folder(workspace, trial, number)
        (folder / attempts.PREPARED).touch()
        (folder / "c1").write_text("a copy of a checkpoint")
    (folder.parent / "7-empty").mkdir()
    assert attempts.next_number(workspace, None, trial.key) == 1
    assert list(folder.parent.iterdir()) == []
    _, folder = attempts.make_folder(workspace, trial, 1)
    attempts.start_attempt(folder)
    (folder / "weights").write_text("by a worker whose driver did not live to record it")
    assert attempts.next_number(workspace, None, trial.key) == 2
    assert (folder / "weights").exists()


def test_rewind_keeps_the_checkpoint_that_is_continued_from(tmp_path: Path):
    """A trainer that says first of all where it continues from must not lose it by that."""
    (tmp_path / "c2").write_text("weights")
    kept = Report(step=2, artifacts=(Artifact(kind="checkpoint", path="c2", step=2),))
    record(tmp_path, report(1, loss=1.0), report(2, loss=1.0), kept, report(3, loss=1.0))
    attempts.rewind(tmp_path, Report(step=2, info={"resumed": "at 2"}))
    assert [c.step for c in attempts.checkpoints(tmp_path)] == [2]
    assert [line.report.step for line in attempts.read_reports(tmp_path)] == [1, 2, 2]


def test_a_checkpoint_that_changes_while_it_is_copied_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """By a worker on a node that was given up: it writes on in the attempt it was given."""
    old, new = tmp_path / "1-a", tmp_path / "2-b"
    record(old, report(1, "c1"), report(2, "c2"), report(3, "c3"))
    new.mkdir()
    copy = attempts._copy

    def meddled(source: Path, target: Path) -> None:
        if source.name == "c3":
            source.unlink()  # gone before it is copied
        copy(source, target)
        if source.name == "c2":
            source.write_text("torn apart")  # changed meanwhile

    monkeypatch.setattr(attempts, "_copy", meddled)
    copies = attempts.continue_from(old, new)
    assert [(c.path.name, c.step) for c in copies] == [("c1", 1)]
    assert sorted(p.name for p in new.iterdir()) == ["c1", attempts.REPORTS]
    assert [line.report.step for line in attempts.read_reports(new)] == [1]


def test_a_disk_that_is_full_is_no_checkpoint_that_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    record(tmp_path / "1-a", report(1, "c1"))

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(attempts, "_copy", full)
    with pytest.raises(OSError, match="No space left"):
        attempts.continue_from(tmp_path / "1-a", tmp_path / "2-b")


def test_a_crash_while_rewinding_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    record(tmp_path, *(report(s, f"c{s}") for s in (1, 2, 3)))

    def crash(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        attempts.rewind(tmp_path, report(2, loss=1.0))
    assert [c.step for c in attempts.checkpoints(tmp_path)] == [3, 2, 1]
