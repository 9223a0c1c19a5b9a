"""The writing thread against a store made of dictionaries: order, merging, retries, giving up."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.contract import Report
from harness.trackers import background, interim
from harness.trackers.background import RefusedError
from harness.trackers.live import LiveTracker
from harness.trackers.rows import (
    STUDY,
    TAG,
    DataSet,
    Known,
    Point,
    RunWrite,
    Status,
    fresh_points,
    remember,
)
from harness.workspace import Workspace
from tests.harness.mlflow_records import Recorder, answer_of, plan_of

pytestmark = pytest.mark.usefixtures("_impatient")


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "LINGER_SECONDS", 0.02)
    monkeypatch.setattr(background, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(background, "LONGEST_DELAY", 0.02)
    monkeypatch.setattr(background, "ABSENT_GRACE", 0.3)


@dataclass
class FakeStore:
    """Keeps runs in dictionaries; `fault` may raise before or after any call takes effect."""

    uri: str = "http://fake"
    experiment_name: str = ""
    experiment_id: str = "7"
    runs: dict[str, Known] = field(default_factory=dict)
    rows: list[tuple[str, Point]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    experiment_tags: dict[str, str] = field(default_factory=dict)
    fault: Callable[[str, str, str], None] = lambda when, call, ident: None

    def _call(self, name: str, ident: str) -> Iterator[None]:
        self.fault("before", name, ident)
        self.calls.append((name, ident))
        yield
        self.fault("after", name, ident)

    def connect(self) -> dict[str, Known]:
        for _ in self._call("connect", ""):
            pass
        return {
            k: Known(v.run_id, v.status, "", dict(v.tags), dict(v.params), dict(v.latest))
            for k, v in self.runs.items()
        }

    def find(self, ident: str) -> Known | None:
        self.calls.append(("find", ident))
        return deepcopy(self.runs.get(ident))

    def only(self, ident: str, run_id: str) -> None:
        self.calls.append(("only", ident))

    def create(self, write: RunWrite, tags: Mapping[str, str]) -> Known:
        for _ in self._call("create", write.ident):
            assert write.ident not in self.runs, "created twice"
            self.runs[write.ident] = Known(write.ident, "RUNNING", "", dict(tags), {}, {})
        return deepcopy(self.runs[write.ident])

    def history(self, run_id: str, names: Sequence[str]) -> dict[str, dict[int, float]]:
        self.calls.append(("history", run_id))
        found: dict[str, dict[int, float]] = {name: {} for name in names}
        for ident, point in self.rows:
            if ident == run_id and point.name in found:
                found[point.name][point.step] = point.value
        return found

    def log(
        self, run_id: str, points: Sequence[Point], params: dict[str, str], tags: dict[str, str]
    ) -> None:
        for _ in self._call("log", run_id):
            run = self.runs[run_id]
            self.rows += [(run_id, p) for p in points]
            for point in points:
                run.latest[point.name] = point
            run.params.update(params)
            run.tags.update(tags)

    def inputs(self, run_id: str, datasets: Sequence[DataSet]) -> None:
        self.calls.append(("inputs", run_id))

    def put(self, known: Known, write: RunWrite) -> None:
        self.calls.append(("put", write.ident))

    def set_status(self, run_id: str, status: Status, end_ms: int | None) -> None:
        for _ in self._call("status", run_id):
            self.runs[run_id].status = status

    def experiment(self, tags: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        self.experiment_tags = {**defaults, **self.experiment_tags, **tags}

    def close(self) -> None:
        self.calls.append(("close", ""))


def _recorder(tmp_path: Path, store: FakeStore) -> tuple[LiveTracker, Recorder]:
    workspace = Workspace(tmp_path / "workspace")
    tracker = LiveTracker(workspace, store)
    recorder = Recorder(workspace, plan_of(), tracker)
    tracker.start(recorder.plan, recorder.history)
    return tracker, recorder


def test_a_short_trial_costs_one_create_one_batch_and_one_end(tmp_path: Path) -> None:
    store, gate = FakeStore(), threading.Event()
    store.fault = lambda when, call, ident: (
        assert_in_time(gate) if (when, call) == ("before", "connect") else None
    )
    tracker, recorder = _recorder(tmp_path, store)
    trial = recorder.plan.trials[1].trial
    recorder.whole(trial)
    gate.set()
    assert tracker.close() == []
    mine = [name for name, ident in store.calls if ident == trial.key]
    assert mine == ["create", "inputs", "log", "put", "status"]
    assert store.calls[1] == ("create", STUDY), "the parent run exists before any child"
    assert store.runs[trial.key].tags["mlflow.parentRunId"] == store.runs[STUDY].run_id


def assert_in_time(event: threading.Event) -> None:
    assert event.wait(30)


def test_driver_calls_return_while_the_server_hangs(tmp_path: Path) -> None:
    store, gate = FakeStore(), threading.Event()
    store.fault = lambda when, call, ident: assert_in_time(gate)
    tracker, recorder = _recorder(tmp_path, store)
    for planned in recorder.plan.trials:
        recorder.whole(planned.trial)
    began = time.monotonic()
    warnings = tracker.close(timeout=0.2)
    assert time.monotonic() - began < 20, "closing is bounded by its timeout"
    assert any("stillhouse sync demo" in w for w in warnings)
    gate.set()


def test_everything_arrives_once_although_every_call_fails_at_first(tmp_path: Path) -> None:
    """Each call fails once before and once after it took effect, as on a restarting server."""
    store, seen = FakeStore(), set[tuple[str, str, str]]()

    def fault(when: str, call: str, ident: str) -> None:
        if (when, call, ident) not in seen:
            seen.add((when, call, ident))
            raise ConnectionError("server restarting")

    store.fault = fault
    tracker, recorder = _recorder(tmp_path, store)
    for planned in recorder.plan.trials:
        recorder.whole(planned.trial)
    tracker.answer(answer_of(recorder.plan), None)
    assert tracker.close() == []
    trials = [t.trial.key for t in recorder.plan.trials]
    assert set(store.runs) == {STUDY, "arm/x0", "arm/x1", *trials}
    assert {run.status for run in store.runs.values()} == {"FINISHED"}
    identical = [(ident, p.name, p.step, p.at_ms, p.value) for ident, p in store.rows]
    once = {(ident, name, step) for ident, name, step, _, _ in identical}
    assert len({*identical}) == len(once), (
        "a repeated batch repeats rows exactly; MLflow drops them"
    )
    assert store.experiment_tags["mlflow.note.content"].startswith("H1 improves")


def test_an_absent_server_is_given_up_with_the_remedy(tmp_path: Path) -> None:
    store = FakeStore()

    def fault(when: str, call: str, ident: str) -> None:
        raise ConnectionError("connection refused")

    store.fault = fault
    tracker, recorder = _recorder(tmp_path, store)
    recorder.whole(recorder.plan.trials[0].trial)
    warnings = tracker.close()
    assert "nothing was written" in warnings[0]
    assert "connection refused" in warnings[0]
    assert "stillhouse sync demo" in warnings[-1]


def test_a_refused_run_is_reported_and_the_others_are_written(tmp_path: Path) -> None:
    store = FakeStore()
    tracker, recorder = _recorder(tmp_path, store)
    bad = recorder.plan.trials[1].trial

    def fault(when: str, call: str, ident: str) -> None:
        if ident == bad.key and call == "log":
            raise RefusedError("changing param values is not allowed")

    store.fault = fault
    for planned in recorder.plan.trials:
        recorder.whole(planned.trial)
    warnings = tracker.close()
    assert [w for w in warnings if bad.short in w and "not allowed" in w]
    assert store.runs[bad.key].status == "RUNNING", "not marked complete, so sync writes it"
    others = [t.trial.key for t in recorder.plan.trials if t.trial.key != bad.key]
    assert {store.runs[key].status for key in others} == {"FINISHED"}


def test_what_was_refused_in_passing_is_offered_again_at_the_end(tmp_path: Path) -> None:
    """A database in trouble is told as BAD_REQUEST, like a request that is wrong for ever."""
    store, refused = FakeStore(), list[str]()
    tracker, recorder = _recorder(tmp_path, store)
    bad = recorder.plan.trials[1].trial

    def fault(when: str, call: str, ident: str) -> None:
        if (when, call, ident) == ("before", "log", bad.key) and len(refused) < 1:
            refused.append(ident)
            raise RefusedError("bad connection")

    store.fault = fault
    for planned in recorder.plan.trials:
        recorder.whole(planned.trial)
    assert tracker.close() == []
    assert refused == [bad.key]
    assert {run.status for run in store.runs.values()} == {"FINISHED"}
    written = [(p.name, p.step) for ident, p in store.rows if ident == bad.key]
    assert len(written) == len(set(written)) >= 6


def test_runs_whose_creation_was_in_doubt_are_made_single_at_the_end(tmp_path: Path) -> None:
    """The request may still be on its way when the second one is answered."""
    store, failed = FakeStore(), list[str]()
    tracker, recorder = _recorder(tmp_path, store)
    late = recorder.plan.trials[2].trial

    def fault(when: str, call: str, ident: str) -> None:
        if (when, call, ident) == ("before", "create", late.key) and not failed:
            failed.append(ident)
            raise ConnectionError("timed out")

    store.fault = fault
    for planned in recorder.plan.trials:
        recorder.whole(planned.trial)
    assert tracker.close() == []
    assert [ident for name, ident in store.calls if name == "only"] == [late.key]


def test_a_second_start_finds_everything_and_writes_nothing(tmp_path: Path) -> None:
    store = FakeStore()
    tracker, recorder = _recorder(tmp_path, store)
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
    tracker, recorder = _recorder(tmp_path, store)
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
    tracker, recorder = _recorder(tmp_path, store)
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
    tracker, recorder = _recorder(tmp_path, store)
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
    tracker, recorder = _recorder(tmp_path, store)
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
    tracker, recorder = _recorder(tmp_path, store)
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
    monkeypatch.setattr(interim, "EVERY_SECONDS", 0.0)
    store = FakeStore()
    tracker, recorder = _recorder(tmp_path, store)
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
    tracker, recorder = _recorder(tmp_path, store)
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


def _known(*points: Point) -> Known:
    known = Known("r", "RUNNING", "", {}, {}, {})
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
