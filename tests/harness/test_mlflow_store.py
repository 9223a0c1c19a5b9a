"""The projection in a real SQLite store: what is there, once, exactly; and `sync` into another."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pytest
from mlflow.entities import ViewType
from PIL import Image

from harness.contract import Report
from harness.errors import HarnessError
from harness.journal.records import Superseded
from harness.journal.workspace import Workspace
from harness.tracking import background_writer
from harness.tracking.address import tracking_uri
from harness.tracking.mlflow_tracker import MlflowTracker
from harness.tracking.run_write import TAG
from harness.tracking.sync import sync
from tests.harness.mlflow_records import Recorder, answer_of, measured_of, plan_of


class Recorded(NamedTuple):
    """A study that ran under two drivers: one trial failed, was retried; one was resumed."""

    recorder: Recorder
    uri: str
    runs: list[Any]
    client: mlflow.MlflowClient
    warnings: list[str]

    def run(self, **tags: str) -> Any:
        found = [
            r for r in self.runs if all(r.data.tags.get(TAG + k) == v for k, v in tags.items())
        ]
        assert len(found) == 1, f"{len(found)} runs with {tags}"
        return found[0]


def read(uri: str, study: str = "demo") -> tuple[mlflow.MlflowClient, list[Any]]:
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name(study)
    return client, list(client.search_runs([experiment.experiment_id], "", ViewType.ALL))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    patch = pytest.MonkeyPatch()
    patch.setattr(background_writer, "LINGER_SECONDS", 0.02)
    patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = Workspace(tmp_path_factory.mktemp("mlflow") / "workspace")
    plan = plan_of()
    first = MlflowTracker(workspace)
    recorder = Recorder(workspace, plan, first)
    reference, x0, x1, *others = (t.trial for t in plan.trials)
    first.start(plan, recorder.history)
    recorder.whole(reference)
    opened, folder = recorder.open(x0)
    recorder.report(opened, folder, Report(step=1, metrics={"train/loss": 1.0}))
    recorder.close(opened, folder, "failed", {})
    opened, folder = recorder.open(x1)
    recorder.report(opened, folder, Report(step=1, metrics={"train/loss": 1.0}))
    warnings = first.close()  # the driver dies here: x1 stays open

    second = recorder.tracker = MlflowTracker(workspace)
    second.start(plan, recorder.history)
    recorder.whole(x0, attempt=2)
    recorder.whole(x1, attempt=2, first=2)
    for trial in others:
        recorder.whole(trial, panels=2)
    page = workspace.study("demo") / "report.html"
    page.parent.mkdir(parents=True)
    page.write_text("<h1>report</h1>")
    second.answer(answer_of(plan), page)
    warnings += second.close()
    patch.undo()
    client, runs = read(second.uri)
    return Recorded(recorder, second.uri, runs, client, warnings)


def test_exactly_one_run_per_trial_arm_and_study_after_two_starts(recorded: Recorded) -> None:
    assert recorded.warnings == []
    kinds = [r.data.tags[TAG + "kind"] for r in recorded.runs]
    assert sorted(kinds) == ["arm"] * 2 + ["reference", "study"] + ["trial"] * 4
    keys = [r.data.tags[TAG + "key"] for r in recorded.runs if TAG + "key" in r.data.tags]
    assert sorted(keys) == sorted(t.trial.key for t in recorded.recorder.plan.trials)
    assert {r.info.status for r in recorded.runs} == {"FINISHED"}


def test_a_trial_has_exactly_its_params_metrics_and_tags(recorded: Recorded) -> None:
    trial = recorded.recorder.plan.trials[4].trial
    run = recorded.run(key=trial.key)
    assert run.data.params == {"part.x": "1"}
    wanted = measured_of(trial)
    assert run.data.metrics == {
        "score": wanted["score"],
        "cost": wanted["cost"],
        "more/odd": wanted["odd"],
        "train/loss": 1 / 3,
    }
    mine = {k.removeprefix(TAG): v for k, v in run.data.tags.items() if k.startswith(TAG)}
    assert mine == {
        "kind": "trial",
        "study": "demo",
        "arm": "x1",
        "replicate": "1",
        "key": trial.key,
        "short": trial.short,
        "state": "done",
        "attempt": "1-n1",
        "protocol": "stub-p1",
        "code": "stub-code",
        "scope": "on a stub",
        "device": "a cpu",
        "host": "here",
        "workspace": recorded.recorder.workspace.id,
        "info.device": "a cpu",
    }
    assert run.info.run_name == trial.short
    assert run.data.tags["mlflow.source.name"] == "studies/demo/study.yaml"
    assert re.fullmatch("#[0-9A-F]{6}", run.data.tags["mlflow.runColor"])
    assert run.data.tags["mlflow.parentRunId"] == recorded.run(kind="study").info.run_id
    recipe = json.loads(
        (Path(run.info.artifact_uri.removeprefix("file://")) / "recipe.json").read_text()
    )
    assert (recipe["recipe"], recipe["key"]) == (trial.recipe, trial.key)


def test_times_come_from_the_journal(recorded: Recorded) -> None:
    trial = recorded.recorder.plan.trials[4].trial
    attempt = recorded.recorder.history.trials[trial.key].ordered[0]
    run = recorded.run(key=trial.key)
    assert attempt.closed is not None
    assert run.info.start_time == round(attempt.opened.at * 1000)
    assert run.info.end_time == round(attempt.closed.at * 1000)
    rows = recorded.client.get_metric_history(run.info.run_id, "train/loss")
    assert [r.timestamp for r in rows] == [run.info.start_time + 125 * i for i in (1, 2, 3)]


def test_no_step_is_doubled_anywhere_and_all_values_are_finite(recorded: Recorded) -> None:
    for run in recorded.runs:
        for name in run.data.metrics:
            rows = recorded.client.get_metric_history(run.info.run_id, name)
            steps = [r.step for r in rows]
            assert len(steps) == len(set(steps)), f"{run.info.run_name} {name} {steps}"
            assert all(math.isfinite(r.value) for r in rows)
    resumed = recorded.run(key=recorded.recorder.plan.trials[2].trial.key)
    rows = recorded.client.get_metric_history(resumed.info.run_id, "train/loss")
    assert [r.step for r in rows] == [1, 2, 3]


def test_an_arm_has_mean_interval_counts_estimate_and_verdict(recorded: Recorded) -> None:
    run = recorded.run(kind="arm", arm="x1")
    row = answer_of(recorded.recorder.plan).arms[1]
    cell = row.cells["score"]
    got = run.data.metrics
    names = ["score", "score.lo", "score.hi", "score.n", "n_done", "n_planned"]
    assert [got[n] for n in names] == [cell.mean, cell.lo, cell.hi, 2.0, 2.0, 2.0]
    assert (
        run.data.tags[TAG + "verdict"]
        == "H1 (side a): improves over 2 seeds, on exactly these prompts"
    )
    said = "on a stub; intervals over seeds, on exactly these prompts"
    assert run.data.tags[TAG + "scope"] == said
    assert run.data.tags[TAG + "estimate"].startswith("score 1.505 [1.405, 1.605] (2/2); cost 2")
    assert run.data.params == {"part.x": "1"}
    assert "mlflow.parentRunId" not in run.data.tags
    colour = run.data.tags["mlflow.runColor"]
    trials = [r for r in recorded.runs if r.data.tags.get(TAG + "arm") == "x1"]
    assert {r.data.tags["mlflow.runColor"] for r in trials} == {colour}


def test_data_sets_are_inputs_with_short_digests(recorded: Recorded) -> None:
    run = recorded.run(key=recorded.recorder.plan.trials[1].trial.key)
    inputs = recorded.client.get_run(run.info.run_id).inputs.dataset_inputs
    found = {(d.dataset.name, d.dataset.digest, d.tags[0].value) for d in inputs}
    assert found == {("training-data", "stub-data", "training"), ("p1", "stub-p1", "evaluation")}


def test_panels_are_named_as_mlflow_names_them(recorded: Recorded, tmp_path: Path) -> None:
    """Our files must look like `log_image`'s, or the page's picture grid is empty."""
    run = recorded.run(key=recorded.recorder.plan.trials[4].trial.key)
    ours = sorted(f.path for f in recorded.client.list_artifacts(run.info.run_id, "images"))
    store = recorded.client
    other = store.create_run(store.create_experiment("other", artifact_location=tmp_path.as_uri()))
    picture = Image.new("RGB", (192, 192))
    for name in ("panels/item0", "panels/item1"):
        store.log_image(other.info.run_id, picture, key=name, step=3, timestamp=5)
    theirs = sorted(f.path for f in store.list_artifacts(other.info.run_id, "images"))

    def shape(paths: list[str]) -> list[str]:
        return [re.sub(r"timestamp\+\d+\+[0-9a-f-]{36}", "T+U", p) for p in paths]

    assert shape(ours) == shape(theirs)
    tag = store.get_run(other.info.run_id).data.tags["mlflow.loggedImages"]
    assert run.data.tags["mlflow.loggedImages"] == tag
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    with Image.open(folder / ours[1]) as shown:
        assert shown.size == (192, 192), "24 pixels are enlarged by a whole factor"


def test_the_items_table_reads_back_through_mlflow(recorded: Recorded) -> None:
    run = recorded.run(kind="arm", arm="x1")
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    table = json.loads((folder / "items.json").read_text())
    assert table["columns"] == ["item", "caption", "image"]
    assert [row[:2] for row in table["data"]] == [["item0", "a item0"], ["item1", "a item1"]]
    assert all((folder / row[2]["filepath"]).is_file() for row in table["data"])
    named = json.loads(run.data.tags["mlflow.loggedArtifacts"])
    assert named == [{"path": "items.json", "type": "table"}]


def test_the_note_starts_with_the_answer_and_the_report_is_kept(recorded: Recorded) -> None:
    experiment = recorded.client.get_experiment_by_name("demo")
    note = experiment.tags["mlflow.note.content"]
    assert note.splitlines()[0] == "H1 improves: 2 of 2 replicates."
    assert "x1 scores 0.5 higher" in note
    study = recorded.run(kind="study")
    assert [f.path for f in recorded.client.list_artifacts(study.info.run_id)] == ["report.html"]
    assert study.data.tags[TAG + "verdict"] == "H1: improves over 2 seeds, on exactly these prompts"


def _content(uri: str) -> dict[str, Any]:
    """Everything a server holds, without ids and the names of the first projection's parents."""
    client, runs = read(uri)
    found = {}
    for run in runs:
        tags = {k: v for k, v in run.data.tags.items() if v and k != "mlflow.parentRunId"}
        points = [
            (m.key, m.step, m.timestamp, m.value)
            for name in run.data.metrics
            for m in client.get_metric_history(run.info.run_id, name)
        ]
        found[run.info.run_name] = (
            tags,
            run.data.params,
            sorted(points),
            (run.info.status, run.info.start_time, run.info.end_time),
            sorted(f.path for f in client.list_artifacts(run.info.run_id)),
        )
    return found


def test_sync_fills_an_empty_server_with_the_same_and_twice_changes_nothing(
    recorded: Recorded, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/elsewhere.db"
    workspace = recorded.recorder.workspace
    sync(workspace, study="demo", uri=uri, echo=lambda line: None)
    once = _content(uri)
    sync(workspace, study="demo", uri=uri, echo=lambda line: None)
    assert _content(uri) == once
    # the hand-made study cannot be analysed again: no arms, and nobody to ask for the scope
    live = {k: v for k, v in _content(recorded.uri).items() if "-r" in k}
    for tags, *_ in live.values():
        del tags[TAG + "scope"]
    copied = {k: v for k, v in once.items() if "-r" in k}
    assert live == copied


def test_a_rerun_of_a_superseded_trial_shows_its_new_values_in_the_same_run(
    recorded: Recorded, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "workspace")
    plan = plan_of(arms=1, replicates=1, study="again")
    tracker = MlflowTracker(workspace, recorded.uri)
    recorder = Recorder(workspace, plan, tracker)
    tracker.start(plan, recorder.history)
    trial = plan.trials[1].trial
    recorder.whole(trial)
    assert tracker.close() == []
    recorder.record(Superseded(at=recorder.clock, key=trial.key, attempt=1))
    again = recorder.tracker = MlflowTracker(workspace, recorded.uri)
    again.start(plan, recorder.history)
    opened, folder = recorder.open(trial, attempt=2)
    recorder.report(opened, folder, Report(step=1, metrics={"train/loss": 0.25}))
    recorder.report(opened, folder, Report(step=3, metrics={"score": 0.5}, measured=True))
    recorder.close(opened, folder, "done", {"score": 0.5})
    assert again.close() == []
    _, runs = read(again.uri, "again")
    mine = [r for r in runs if r.data.tags.get(TAG + "key") == trial.key]
    assert len(mine) == 1
    assert mine[0].data.metrics["score"] == 0.5, "the table shows the value that counts now"
    assert mine[0].data.tags[TAG + "attempt"] == "2-n2"


@pytest.mark.parametrize("given", ["file:///tmp/mlruns", "./mlruns", "mlruns"])
def test_file_stores_are_refused_with_the_way_to_migrate(given: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="mlflow migrate-filestore"):
        MlflowTracker(Workspace(tmp_path), given)


def test_the_default_address_is_absolute_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(Workspace(Path("here"))) == f"sqlite:///{tmp_path}/here/mlflow.db"
    assert tracking_uri(Workspace(tmp_path), "sqlite:///x.db") == f"sqlite:///{tmp_path}/x.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://lab:5000")
    assert tracking_uri(Workspace(tmp_path)) == "http://lab:5000"
