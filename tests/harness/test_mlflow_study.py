"""A whole study of the stub, run inline, in MLflow; and the same again from its journal alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pytest

from harness.journal.workspace import Workspace
from harness.running.run_study import run as run_study
from harness.study.load import load_study
from harness.study.opened_study import OpenedStudy
from harness.tracking.mlflow_tracker import MlflowTracker
from harness.tracking.ownership import EPOCH
from harness.tracking.run_write import TAG
from harness.tracking.sync import sync

STUDY = """\
name: stubborn
question: Does x help?
subject: harness.testing.stub
recipe: {cycles: 3}
factors: {part.x: [0.0, 1.0]}
set: {fault: diverge, fault_replicate: 1}
baseline: {part.x: 0.0}
replicates: 3
protocol: p1
primary: score
contrasts:
  - {id: H1, claim: x helps, a: {part.x: 1.0}, b: {part.x: 0.0}, metric: score, expect: higher}
"""


def _content(uri: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Runs by kind and name, without ids; and the experiment's tags."""
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("stubborn")
    found: dict[str, Any] = {}
    for run in client.search_runs([experiment.experiment_id]):
        points = [
            (m.key, m.step, m.timestamp, m.value)
            for name in run.data.metrics
            for m in client.get_metric_history(run.info.run_id, name)
        ]
        tags = {k: v for k, v in run.data.tags.items() if v and k != "mlflow.parentRunId"}
        files = sorted(f.path for f in client.list_artifacts(run.info.run_id))
        info = (run.info.status, run.info.start_time, run.info.end_time)
        name = f"{run.data.tags[TAG + 'kind']} {run.info.run_name}"
        assert name not in found
        found[name] = (tags, run.data.params, sorted(points), info, files)
    lasting = {k: v for k, v in experiment.tags.items() if not k.startswith(EPOCH)}
    return found, lasting


def test_a_study_of_the_stub_and_its_replay_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "pyproject.toml").touch()
    file = tmp_path / "study.yaml"
    file.write_text(STUDY)
    workspace = Workspace(tmp_path / "stillhouse-workspace")
    tracker = MlflowTracker(workspace)
    lines: list[str] = []
    run_study(
        OpenedStudy(load_study(file), workspace),
        executor="inline",
        tracker=tracker,
        echo=lines.append,
    )
    live, tags = _content(tracker.uri)
    kinds = [name.split()[0] for name in live]
    assert {kind: kinds.count(kind) for kind in kinds} == {"study": 1, "arm": 2, "trial": 6}

    diverged = [run for run in live.values() if TAG + "replicate" in run[0] and _rep(run) == "1"]
    assert [run[0][TAG + "state"] for run in diverged] == ["diverged"] * 2
    assert all("score" not in {p[0] for p in run[2]} for run in diverged)
    arm = next(run for name, run in live.items() if name.startswith("arm") and "1" in name)
    values = {p[0]: p[3] for p in arm[2]}
    assert values["n_planned"] == 3
    assert values["score.n"] == 2
    assert "H1" in arm[0][TAG + "verdict"]
    assert "report.html" in live["study stubborn"][4]

    uri = f"sqlite:///{tmp_path}/elsewhere.db"
    assert sync(workspace, uri=uri, echo=lines.append) == []
    copied = _content(uri)
    assert copied[1] == tags
    assert set(copied[0]) == set(live)
    for name, run in live.items():
        assert copied[0][name] == run
    assert sync(workspace, uri=uri, echo=lines.append) == []
    assert _content(uri) == copied


def _rep(run: Any) -> str:
    return str(run[0][TAG + "replicate"])
