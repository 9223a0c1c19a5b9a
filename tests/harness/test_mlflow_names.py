"""Names that MLflow refuses: reversible, never two as one, and no reason to lose numbers."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from harness.contract import Report
from harness.journal.workspace import Workspace
from harness.tracking import background_writer
from harness.tracking.mlflow_tracker import MlflowTracker
from harness.tracking.names import LONGEST, for_mlflow, original
from harness.tracking.projection import Projection
from harness.tracking.run_write import STUDY, TAG, RefusedError
from tests.harness.fake_store import FakeStore, impatient, recorder_of
from tests.harness.mlflow_records import Recorder, plan_of

__all__ = ["impatient"]
ODD = ["train/loss//ema", "/abs", "a/", "..", "a/./b", "..b", "loss (ema)", "%", "", "a:2f:b", "é"]
ODD += [":", "a:2f", "::2f::", ":empty:", ":more:x", "more/x", "\n", "a\x1b[31m", "a\ud800"]
TEXT = st.text(st.sampled_from("a2fe:/. #~é") | st.characters(), max_size=20)


@given(TEXT | st.sampled_from(ODD))
def test_a_name_is_taken_and_read_back(name: str) -> None:
    there = for_mlflow(name)
    _validate_metric_name(there)
    _validate_metric_name("more/" + there)
    assert original(there) == name


@given(st.text(min_size=200, max_size=600))
def test_long_names_stay_apart(name: str) -> None:
    there = for_mlflow(name)
    _validate_metric_name(there)
    assert len(there) <= LONGEST
    assert original(there) in (name, None)
    assert for_mlflow(name + "x") != there


@pytest.mark.parametrize("declared", [(), ("more/x",), ("x",), ("score", "more/x", "x")])
def test_two_names_never_become_one(declared: tuple[str, ...]) -> None:
    names = [*ODD, "x", "more/x", "more/more/x", "n_done", "n_planned", "score", "score.lo"]
    names += ["score.n", "score.hi", "more/score.lo", "more/n_done", "train/x", "more/train/x"]
    headline = ["score", "score.lo", "n_done", "a//b"]
    projection = Projection(plan_of(), headline, Path(), declared=[*headline, *declared])
    shown = [projection.metric(name) for name in dict.fromkeys([*names, *headline])]
    shown += ["n_done", "n_planned", "score.hi.lo"]
    shown += [projection.metric("score") + suffix for suffix in (".lo", ".hi", ".n")]
    assert len(set(shown)) == len(shown), sorted(shown)


def test_a_refused_name_costs_nothing_and_is_told_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    workspace.ensure_usable()
    tracker = MlflowTracker(workspace, f"sqlite:///{workspace.database}")
    recorder = Recorder(workspace, plan_of(), tracker)
    tracker.start(recorder.plan, recorder.history)
    trial = recorder.plan.trials[1].trial
    opened, folder = recorder.open(trial)
    metrics = {"train/loss//ema": 1.0, "train/loss": 2.0, "train/loss/ema": 3.0, "a" * 300: 4.0}
    recorder.report(opened, folder, Report(step=1, metrics=metrics))
    recorder.close(opened, folder, "done", {"score": 5.0})
    (told,) = tracker.close()
    assert "'train/loss//ema' is 'train/loss/:2f:ema'" in told
    client = mlflow.MlflowClient(tracker.uri)
    experiment = client.get_experiment_by_name("demo").experiment_id
    (run,) = client.search_runs([experiment], f"tags.`{TAG}key` = '{trial.key}'")
    assert run.info.status == "FINISHED"
    assert set(metrics.values()) | {5.0} <= set(run.data.metrics.values())
    again = MlflowTracker(workspace, tracker.uri)
    again.start(recorder.plan, recorder.history)
    assert again.close() == [], "told once"


@pytest.mark.usefixtures("impatient")
def test_one_number_refused_for_good_costs_that_number_alone(tmp_path: Path) -> None:
    store = FakeStore()
    log = store.log

    def picky(run_id, points, params, tags):
        if any(p.name == "train/bad" for p in points):
            raise RefusedError("train/bad is not to my taste")
        log(run_id, points, params, tags)

    store.log = picky  # type: ignore[method-assign]
    tracker, recorder = recorder_of(tmp_path, store)
    opened, folder = recorder.open(recorder.plan.trials[1].trial)
    metrics = {f"train/m{i}": float(i) for i in range(9)} | {"train/bad": 1.0}
    recorder.report(opened, folder, Report(step=1, metrics=metrics))
    recorder.close(opened, folder, "done", {"score": 5.0})
    (warning, remedy) = tracker.close()
    assert "train/bad" in warning
    assert "sync demo" in remedy
    run = store.runs[opened.key]
    assert (run.status, run.tags[TAG + "state"]) == ("FINISHED", "done")
    assert {p.name for ident, p in store.rows if ident == opened.key} == {
        "score",
        *(f"train/m{i}" for i in range(9)),
    }
    assert run.tags[TAG + "attempt"] == "incomplete", "the next run offers it again"
    assert store.runs[STUDY].status == "KILLED"


@pytest.mark.usefixtures("impatient")
def test_a_monstrous_report_does_not_block_what_comes_later(tmp_path: Path) -> None:
    store = FakeStore()
    tracker, recorder = recorder_of(tmp_path, store)
    opened, folder = recorder.open(recorder.plan.trials[1].trial)
    for step in (1, 2):
        metrics = {f"train/{step}/{i}": 1.0 for i in range(75_000)} | {"train/loss": 1.0}
        recorder.report(opened, folder, Report(step=step, metrics=metrics))
    recorder.close(opened, folder, "done", {"score": 5.0})
    (told,) = tracker.close()
    assert "150001" in told or "more names" in told
    names = {p.name for ident, p in store.rows if ident == opened.key}
    assert "score" in names
    assert len(names) <= background_writer.MOST_NAMES + 1
    assert store.runs[opened.key].status == "FINISHED"
    store.calls.clear()
    again = type(tracker)(recorder.workspace, store)
    again.start(recorder.plan, recorder.history)
    assert again.close() == []
    assert not [call for call in store.calls if call[0] == "history"], "nothing is asked by name"
