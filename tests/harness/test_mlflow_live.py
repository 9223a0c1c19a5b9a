"""What MLflow shows while studies run, resume, share trials and change; each number once."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from harness.contract import Report
from harness.tracking import mlflow_tracker
from harness.tracking.mlflow_tracker import LiveTracker
from harness.tracking.run_write import STUDY, TAG, KnownRun, Point, RunWrite, fresh_points, remember
from tests.harness.fake_store import FakeStore, impatient, recorder_of
from tests.harness.mlflow_records import answer_of, plan_of

__all__ = ["impatient"]
pytestmark = pytest.mark.usefixtures("impatient")


def test_a_second_start_finds_everything_and_writes_nothing(tmp_path: Path) -> None:
    store = FakeStore()
    tracker, recorder = recorder_of(tmp_path, store)
    for planned in recorder.plan.trials:
        recorder.whole(planned.trial)
    tracker.answer(answer_of(recorder.plan), None)
    assert tracker.close() == []
    rows, before = len(store.rows), set(store.runs)
    store.calls.clear()
    again = LiveTracker(recorder.workspace, store)
    again.start(recorder.plan, recorder.history)
    again.answer(answer_of(recorder.plan), None)
    assert again.close() == []
    assert (len(store.rows), set(store.runs)) == (rows, before)
    assert store.experiment_tags["mlflow.note.content"].startswith("H1 improves")
    touched = {ident for name, ident in store.calls if name in ("log", "create", "history")}
    assert touched <= {STUDY}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_never_written(tmp_path: Path, value: float) -> None:
    store = FakeStore()
    tracker, recorder = recorder_of(tmp_path, store)
    opened, folder = recorder.open(recorder.plan.trials[1].trial)
    report = Report(step=1, metrics={"train/loss": value, "score": 1.0}, measured=True)
    tracker.report(opened.key, 1, report, folder, recorder.clock)
    recorder.close(opened, folder, "diverged", {})
    assert tracker.close() == []
    assert [(p.name, p.value) for _, p in store.rows] == [("score", 1.0)]
    run = store.runs[opened.key]
    assert (run.tags[TAG + "state"], run.status) == ("diverged", "FINISHED")


def test_a_resumed_attempt_does_not_double_steps(tmp_path: Path) -> None:
    """Killed after cycle 2, resumed from cycle 1's checkpoint under a new driver."""
    store = FakeStore()
    tracker, recorder = recorder_of(tmp_path, store)
    trial = recorder.plan.trials[1].trial
    opened, folder = recorder.open(trial)
    for step in (1, 2):
        recorder.report(opened, folder, Report(step=step, metrics={"train/loss": 1 / step}))
    recorder.close(opened, folder, "killed", {})
    assert tracker.close() == []
    assert store.runs[trial.key].status == "KILLED"

    recorder.tracker = again = LiveTracker(recorder.workspace, store)
    again.start(recorder.plan, recorder.history)
    recorder.whole(trial, attempt=2, first=2)
    assert again.close() == []
    losses = [p.step for ident, p in store.rows if ident == trial.key and p.name == "train/loss"]
    assert losses == [1, 2, 3]
    run = store.runs[trial.key]
    assert (run.status, run.tags[TAG + "state"], run.tags[TAG + "reason"]) == (
        "FINISHED",
        "done",
        "",
    )


def test_a_trial_that_ended_is_forgotten_and_a_retry_goes_on_with_its_run(tmp_path: Path) -> None:
    """What is known of ended runs would grow with every trial; a retry asks the server instead."""
    store = FakeStore()
    tracker, recorder = recorder_of(tmp_path, store)
    trial = recorder.plan.trials[1].trial
    opened, folder = recorder.open(trial)
    for step in (1, 2):
        recorder.report(opened, folder, Report(step=step, metrics={"train/loss": 1 / step}))
    recorder.close(opened, folder, "killed", {})
    writer = tracker._background
    until = time.monotonic() + 30
    while trial.key in (writer.known or {trial.key}) or trial.key in writer.pending:
        assert time.monotonic() < until, "the ended trial is still held"
        time.sleep(0.05)
    assert store.runs[trial.key].status == "KILLED"

    recorder.whole(trial, attempt=2, first=2)
    assert tracker.close() == []
    assert ("find", trial.key) in store.calls
    assert store.calls.count(("create", trial.key)) == 1
    losses = [p.step for ident, p in store.rows if ident == trial.key and p.name == "train/loss"]
    assert losses == [1, 2, 3]
    assert store.runs[trial.key].status == "FINISHED"


def test_an_interrupted_attempt_is_closed_by_the_next_start(tmp_path: Path) -> None:
    store = FakeStore()
    tracker, recorder = recorder_of(tmp_path, store)
    trial = recorder.plan.trials[1].trial
    opened, folder = recorder.open(trial)
    recorder.report(opened, folder, Report(step=1, metrics={"train/loss": 1.0}))
    assert tracker.close() == []
    assert store.runs[trial.key].status == "RUNNING"
    again = LiveTracker(recorder.workspace, store)
    again.start(recorder.plan, recorder.history)
    assert again.close() == []
    run = store.runs[trial.key]
    assert (run.status, run.tags[TAG + "state"]) == ("KILLED", "killed")


def test_trials_that_another_driver_finished_meanwhile_are_there_with_the_answer(
    tmp_path: Path,
) -> None:
    store = FakeStore()
    tracker, recorder = recorder_of(tmp_path, store)
    shared, *own = (t.trial for t in recorder.plan.trials)
    for trial in own:
        recorder.whole(trial)
    recorder.tracker = None
    recorder.whole(shared)
    tracker.answer(answer_of(recorder.plan), None)
    assert tracker.close() == []
    assert store.runs[shared.key].status == "FINISHED"
    assert store.runs[STUDY].tags[TAG + "state"] == "done"


def test_arms_show_interim_means_while_the_study_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_tracker, "EVERY_SECONDS", 0.0)
    store = FakeStore()
    tracker, recorder = recorder_of(tmp_path, store)
    x0_first = recorder.plan.trials[1].trial
    recorder.whole(x0_first)
    assert tracker.close() == []
    run = store.runs["arm/x0"]
    assert run.tags[TAG + "state"] == "interim: 1 of 2 replicates"
    assert run.params == {"part.x": "0"}
    latest = {name: point.value for name, point in run.latest.items()}
    assert latest == {"score": 1.0, "cost": 2.0, "n_done": 1.0, "n_planned": 2.0}
    assert run.status == "KILLED", "an interrupted study leaves no arm running"

    recorder.tracker = again = LiveTracker(recorder.workspace, store)
    again.start(recorder.plan, recorder.history)
    for planned in [recorder.plan.trials[0], *recorder.plan.trials[2:]]:
        recorder.whole(planned.trial)
    again.answer(answer_of(recorder.plan), None)
    assert again.close() == []
    run = store.runs["arm/x0"]
    assert (run.status, run.tags[TAG + "state"], run.latest["n_done"].value) == (
        "FINISHED",
        "done",
        2,
    )
    steps = [(p.name, p.step) for ident, p in store.rows if ident == "arm/x0"]
    assert len(steps) == len(set(steps))


def test_what_the_study_no_longer_plans_leaves_the_views_but_stays(tmp_path: Path) -> None:
    store = FakeStore()
    tracker, recorder = recorder_of(tmp_path, store)
    for planned in recorder.plan.trials:
        recorder.whole(planned.trial)
    tracker.answer(answer_of(recorder.plan), None)
    assert tracker.close() == []
    smaller = plan_of(arms=1)
    again = LiveTracker(recorder.workspace, store)
    again.start(smaller, recorder.history)
    assert again.close() == []
    gone = {ident for ident, run in store.runs.items() if run.tags[TAG + "kind"] == "orphan"}
    assert gone == {"arm/x1", *(t.trial.key for t in recorder.plan.trials if t.trial.arm == "x1")}
    back = LiveTracker(recorder.workspace, store)
    back.start(recorder.plan, recorder.history)
    back.answer(answer_of(recorder.plan), None)
    assert back.close() == []
    assert "orphan" not in {run.tags[TAG + "kind"] for run in store.runs.values()}
    assert {run.status for run in store.runs.values()} == {"FINISHED"}


def _known(*points: Point) -> KnownRun:
    known = KnownRun("r", "RUNNING", "", {}, {}, {})
    remember(known, points)
    return known


def test_fresh_points_keeps_training_values_and_corrects_measured_ones() -> None:
    known = _known(Point("train/loss", 1.0, 1, 10), Point("score", 2.0, 3, 30, True))
    write = RunWrite(
        ident="k",
        points=[
            Point("train/loss", 1.5, 1, 50),
            Point("train/loss", 0.7, 2, 51),
            Point("score", 2.0, 3, 52, True),
        ],
    )
    assert fresh_points(write, known) == [Point("train/loss", 0.7, 2, 51)]
    write.points = [Point("score", 2.5, 3, 20, True)]
    assert fresh_points(write, known) == [Point("score", 2.5, 3, 31, True)], "later than the old"
    write.points, write.rerun = [Point("train/loss", 1.5, 1, 50)], True
    assert fresh_points(write, known) == [Point("train/loss", 1.5, 1, 50)]
