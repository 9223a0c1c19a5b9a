"""The writing thread against a store made of dictionaries: order, merging, retries, giving up."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from harness.tracking.run_write import STUDY, RefusedError
from tests.harness.fake_store import FakeStore, impatient, recorder_of
from tests.harness.mlflow_records import answer_of

__all__ = ["impatient"]
pytestmark = pytest.mark.usefixtures("impatient")


def test_a_short_trial_costs_one_create_one_batch_and_one_end(tmp_path: Path) -> None:
    store, gate = FakeStore(), threading.Event()
    store.fault = lambda when, call, ident: (
        assert_in_time(gate) if (when, call) == ("before", "connect") else None
    )
    tracker, recorder = recorder_of(tmp_path, store)
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
    tracker, recorder = recorder_of(tmp_path, store)
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
    tracker, recorder = recorder_of(tmp_path, store)
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
    tracker, recorder = recorder_of(tmp_path, store)
    recorder.whole(recorder.plan.trials[0].trial)
    warnings = tracker.close()
    assert "nothing was written" in warnings[0]
    assert "connection refused" in warnings[0]
    assert "stillhouse sync demo" in warnings[-1]


def test_a_refused_run_is_reported_and_the_others_are_written(tmp_path: Path) -> None:
    store = FakeStore()
    tracker, recorder = recorder_of(tmp_path, store)
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
    tracker, recorder = recorder_of(tmp_path, store)
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
    tracker, recorder = recorder_of(tmp_path, store)
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
