"""MLflow's server on PostgreSQL, with artifacts in an S3-compatible store: what is kept there."""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.ownership import EPOCH
from harness.tracking.pages import PREFIX
from harness.tracking.run_write import TAG
from tests.backends import servers
from tests.backends.project import Project

pytestmark = [pytest.mark.backend, pytest.mark.slow]


class Recorded:
    """What a tracking server and its store hold of one study, to compare."""

    def __init__(self, tracking: servers.Tracking, study: str) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking.address)
        experiment = self.client.get_experiment_by_name(study)
        self.experiment = experiment
        self.runs = list(self.client.search_runs([experiment.experiment_id], max_results=1000))

    def kind(self, kind: str) -> list[Any]:
        return [r for r in self.runs if r.data.tags.get(TAG + "kind") == kind]

    def points(self, run: Any) -> dict[str, list[tuple[int, float]]]:
        names = run.data.metrics
        found = {n: self.client.get_metric_history(run.info.run_id, n) for n in names}
        return {n: sorted((m.step, m.value) for m in rows) for n, rows in found.items()}

    def files(self, run: Any, under: str | None = None) -> list[str]:
        listed = self.client.list_artifacts(run.info.run_id, under)
        return sorted(
            path for f in listed for path in (self.files(run, f.path) if f.is_dir else [f.path])
        )

    def everything(self) -> dict[str, Any]:
        """All that must not change when the journal is replayed."""
        runs = {
            r.info.run_id: (r.info.status, self.points(r), self.files(r), dict(r.data.tags))
            for r in self.runs
        }
        tags = {k: v for k, v in self.experiment.tags.items() if not k.startswith(EPOCH)}
        return {"runs": runs, "tags": tags}


@pytest.fixture(scope="module")
def project(
    tracking: servers.Tracking, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """A study run through Ray, its runs on the server."""
    made = Project(tmp_path_factory.mktemp("served") / "project", name="served")
    made.run("--parallel", "2", "--mlflow", tracking.address)
    yield made
    made.end()


def test_each_trial_is_one_run_with_its_metrics(project: Project, tracking: servers.Tracking):
    recorded = Recorded(tracking, "served")
    trials = recorded.kind("trial")
    assert Counter(r.data.tags[TAG + "key"] for r in trials) == Counter(
        t.key for t in project.trials()
    )
    assert {r.info.status for r in trials} == {"FINISHED"}
    scores = project.scores()
    for run in trials:
        name = run.data.tags[TAG + "arm"], int(run.data.tags[TAG + "replicate"])
        assert run.data.metrics["score"] == scores[name]
        losses = recorded.points(run)["train/loss"]
        assert losses == [(step, 1 / step) for step in range(1, 7)]
    arms = recorded.kind("arm")
    assert [r.data.metrics["n_done"] for r in arms] == [2.0, 2.0]
    assert all(TAG + "estimate" in r.data.tags for r in arms)


def test_files_lie_in_the_store_and_come_back_whole(
    project: Project, tracking: servers.Tracking, endpoint: str, tmp_path: Path
):
    import boto3

    store: Any = servers.client(boto3, endpoint)
    listed = store.list_objects_v2(Bucket=servers.BUCKET, Prefix="artifacts/")["Contents"]
    held = {o["Key"]: o["Size"] for o in listed}
    recorded = Recorded(tracking, "served")
    run = recorded.kind("trial")[0]
    kept = [key for key in held if run.info.run_id in key and key.endswith("/recipe.json")]
    assert len(kept) == 1, sorted(held)
    back = Path(recorded.client.download_artifacts(run.info.run_id, "recipe.json", str(tmp_path)))
    assert back.stat().st_size == held[kept[0]]
    assert json.loads(back.read_text())["recipe"]["part"]["x"] in (0.0, 1.0)
    study = recorded.kind("study")[0]
    page = next(f for f in recorded.files(study) if f.endswith("report.html"))
    got = Path(recorded.client.download_artifacts(study.info.run_id, page, str(tmp_path)))
    assert got.read_bytes() == (project.workspace.study("served") / "report.html").read_bytes()


def test_pictures_are_shown_by_the_page(project: Project, tracking: servers.Tracking):
    recorded = Recorded(tracking, "served")
    for run in recorded.kind("trial"):
        assert run.data.tags["mlflow.loggedImages"] == "True"
        images = [f for f in recorded.files(run) if f.startswith("images/")]
        assert any("hill" in f for f in images), images


def test_saved_views_are_whole(project: Project, tracking: servers.Tracking):
    """PostgreSQL bounds a tag at 5,000 or 20,000 characters by column; nothing may be cut."""
    tags = Recorded(tracking, "served").experiment.tags
    names = set()
    for name, value in tags.items():
        if name.startswith(PREFIX):
            envelope = json.loads(value)
            packed = envelope["state"].removeprefix("deflate;")
            state = json.loads(zlib.decompress(base64.b64decode(packed)))
            assert state["searchFilter"]
            names.add(envelope["name"])
    assert names == {"Arms", "Trials", "Failures", "Training"}


def test_sync_changes_nothing_that_is_there(project: Project, tracking: servers.Tracking):
    before = Recorded(tracking, "served").everything()
    done = project.call("sync", "served", "--mlflow", tracking.address)
    assert done.returncode == 0, done.stderr
    assert Recorded(tracking, "served").everything() == before


def test_a_server_that_restarts_in_the_middle_ends_up_whole(
    tracking: servers.Tracking, folder: Path
):
    project = Project(folder, name="restarted", cycles=10, seconds=0.4, replicates=4)
    try:
        process = project.start("--inline", "--mlflow", tracking.address)
        project.await_reports(process, 12)
        tracking.stop()
        project.await_reports(process, 24)
        tracking.start()
        output, _ = process.communicate(timeout=300)
    finally:
        project.end()
    assert process.returncode == 0, output
    done = project.call("sync", "restarted", "--mlflow", tracking.address)
    assert done.returncode == 0, done.stderr
    recorded = Recorded(tracking, "restarted")
    trials = recorded.kind("trial")
    assert Counter(r.data.tags[TAG + "key"] for r in trials) == Counter(
        t.key for t in project.trials()
    )
    for run in trials:
        assert run.info.status == "FINISHED"
        assert recorded.points(run)["train/loss"] == [(s, 1 / s) for s in range(1, 11)]


def test_an_offline_node_writes_the_journal_and_sync_projects_it_later(
    tracking: servers.Tracking, folder: Path
):
    project = Project(folder, name="offline")
    project.environment |= {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1"}  # no way out from here
    said = project.run("--inline", "--no-mlflow")
    assert "mlflow" not in said
    assert not project.workspace.database.exists()
    done = project.call("sync", "offline", "--mlflow", tracking.address)
    assert done.returncode == 0, done.stderr
    recorded = Recorded(tracking, "offline")
    assert len(recorded.kind("trial")) == 4
    assert {r.info.status for r in recorded.kind("trial")} == {"FINISHED"}
    assert [r.data.metrics["n_done"] for r in recorded.kind("arm")] == [2.0, 2.0]
    assert recorded.kind("study")[0].data.tags[TAG + "verdict"]


def test_shards_fill_one_experiment(tracking: servers.Tracking, folder: Path):
    """Two drivers on one server: nothing twice, and the last answer counts all."""
    project = Project(folder, name="sharded", replicates=4, seconds=0.05)
    try:
        both = [
            project.start("--inline", "--mlflow", tracking.address, "--shard", f"{i}/2")
            for i in (1, 2)
        ]
        outputs = [p.communicate(timeout=300)[0] for p in both]
    finally:
        project.end()
    assert [p.returncode for p in both] == [0, 0], outputs
    recorded = Recorded(tracking, "sharded")
    assert len(recorded.kind("study")) == 1
    assert len(recorded.kind("arm")) == 2
    keys = Counter(r.data.tags[TAG + "key"] for r in recorded.kind("trial"))
    assert keys == Counter(t.key for t in project.trials())
    assert len(keys) == 8
    assert {r.info.status for r in recorded.kind("trial")} == {"FINISHED"}
    assert [r.data.metrics["n_done"] for r in recorded.kind("arm")] == [4.0, 4.0]
    assert recorded.kind("study")[0].data.tags[TAG + "state"] == "done"
