"""Shards as processes of their own on one workspace, notices and kills among them."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.tracking.run_write import TAG
from tests.backends.project import PATIENCE, Project


@pytest.fixture
def expected(tmp_path: Path) -> dict[tuple[str, int], float | None]:
    """Scores of the same study undisturbed."""
    project = Project(tmp_path / "undisturbed", replicates=6)
    project.run("--inline", "--no-mlflow")
    return project.scores()


@pytest.fixture
def project(folder: Path) -> Iterator[Project]:
    made = Project(folder, replicates=6, seconds=0.1)
    yield made
    made.end()


@pytest.mark.slow
def test_four_shards_at_once_run_everything_once(project: Project, expected):
    shards = [project.start("--inline", "--no-mlflow", "--shard", f"{i}/4") for i in range(1, 5)]
    outputs = [p.communicate(timeout=PATIENCE)[0] for p in shards]
    assert [p.returncode for p in shards] == [0] * 4, outputs
    assert project.scores() == expected
    assert {len(t.attempts) for t in project.trials()} == {1}
    page = (project.workspace.study("demo") / "report.html").read_text()
    assert "6/6" in page, "whoever came last answered for all"
    assert all("shard" in o and "runs 3" in o for o in outputs)
    assert not list(project.workspace.study("demo").glob("*.notice"))
    said = project.run("--inline", "--no-mlflow")
    assert "nothing to run: all 12 trials are there" in said


@pytest.mark.slow
def test_a_killed_shard_leaves_its_share_to_the_next_command(project: Project, expected):
    first = project.start("--inline", "--no-mlflow", "--shard", "1/2")
    project.await_reports(first, 8)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    second = project.call("run", str(project.file), "--inline", "--no-mlflow", "--shard", "2/2")
    assert second.returncode == 0, second.stderr
    assert "1 interrupted" in second.stdout
    assert "without --shard" in second.stdout
    project.run("--inline", "--no-mlflow")
    assert project.scores() == expected
    assert sorted(len(t.attempts) for t in project.trials()) == [1] * 11 + [2]


def test_a_noticed_shard_checkpoints_and_the_same_command_continues_it(project: Project):
    options = ("--inline", "--no-mlflow", "--shard", "2/3")
    process = project.start(*options)
    project.await_reports(process, 3)
    process.send_signal(signal.SIGUSR1)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 138, output
    assert "--shard 2/3" in output.split("continue with:")[1]
    (cut,) = project.trials()
    assert cut.latest is not None
    assert cut.latest.closed is not None
    step = cut.latest.closed.step
    assert step >= 3
    said = project.run(*options)
    assert f"from step {step}" in said
    assert {t.state for t in project.trials()} == {"done"}
    assert len(project.trials()) == 4


@pytest.mark.slow
def test_two_shards_fill_one_experiment(folder: Path):
    """Two drivers on one MLflow: nothing twice, and the last answer counts all."""
    from mlflow import MlflowClient

    project = Project(folder, name="sharded", replicates=4, seconds=0.05)
    try:
        both = [project.start("--inline", "--shard", f"{i}/2") for i in (1, 2)]
        outputs = [p.communicate(timeout=PATIENCE)[0] for p in both]
    finally:
        project.end()
    assert [p.returncode for p in both] == [0, 0], outputs
    client = MlflowClient(f"sqlite:///{project.workspace.database}")
    experiment = client.get_experiment_by_name("sharded")
    runs = client.search_runs([experiment.experiment_id])
    kinds = Counter(r.data.tags[TAG + "kind"] for r in runs)
    assert kinds == {"study": 1, "arm": 2, "trial": 8}
    keys = {r.data.tags[TAG + "key"] for r in runs if TAG + "key" in r.data.tags}
    assert keys == {t.key for t in project.trials()}
    assert {r.info.status for r in runs} == {"FINISHED"}


@pytest.mark.slow
@pytest.mark.backend
def test_notice_reaches_trials_in_ray_workers(folder: Path):
    project = Project(folder, cycles=400, seconds=0.1)
    try:
        process = project.start("--parallel", "2", "--no-mlflow")
        project.await_reports(process, 4)
        process.send_signal(signal.SIGUSR1)
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        project.end()
    assert process.returncode == 138, output
    ends = [t.latest.closed for t in project.trials() if t.latest is not None]
    assert ends
    assert {(c.state, c.reason) for c in ends if c is not None} == {("killed", "deadline")}
    assert all(c is not None and c.step < 400 for c in ends)


def test_a_trial_that_does_not_heed_sigterm_is_cut_short_by_a_second(folder: Path):
    project = Project(folder)
    (folder / "painter.py").write_text(DEAF)
    try:
        process = project.start("--inline", "--no-mlflow")
        project.await_reports(process, 1)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        project.end()
    assert process.returncode == 143, output
    assert "checkpoint and end" in output
    assert "cut short in 20 s" in output
    (trial,) = project.trials()
    assert trial.latest is not None
    assert trial.latest.closed is not None
    assert trial.latest.closed.reason == "interrupted"


DEAF = """\
import time
from harness.testing.stub import *
from harness.testing.stub import run as _run


def run(recipe, context):
    for report in _run(recipe, context):
        yield report
        time.sleep(600)
"""
