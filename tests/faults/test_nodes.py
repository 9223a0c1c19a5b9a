"""A node of a Ray cluster is lost, or cut off until it is given up and then comes back."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.aftermath import Undisturbed, assert_clean
from tests.faults.cluster import WORKER, Cluster
from tests.faults.stage import Stage

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    made = Cluster(tmp_path)
    yield made
    made.close()


def test_a_lost_node_costs_a_retry(cluster: Cluster, stage: Stage, expected: Undisturbed) -> None:
    stage.disturb(seconds=0.3)
    process = stage.start("--ray-address", cluster.address)
    stage.await_that(lambda: cluster.workers(cluster.other), process)
    stage.await_reports(process, 12)
    cluster.send(cluster.other, signal.SIGKILL)
    stage.disturb()
    output = stage.finish(process)
    assert process.returncode == 0, output
    assert stage.attempts()[-1] == 2, output
    reasons = [a.closed.reason for t in stage.trials() for a in t.ordered[:-1] if a.closed]
    assert all("its node was lost" in reason for reason in reasons), reasons
    assert_clean(stage.workspace, expected, uri=f"sqlite:///{stage.workspace.database}")


def test_a_node_that_comes_back_does_no_harm(
    cluster: Cluster, stage: Stage, expected: Undisturbed
) -> None:
    """Its worker goes on in the folder of an attempt that does not count any more."""
    stage.disturb(seconds=0.4)
    process = stage.start("--ray-address", cluster.address)
    stage.await_that(lambda: cluster.workers(cluster.other), process)
    stage.await_reports(process, 8)
    cluster.send(cluster.other, signal.SIGSTOP)
    stage.await_that(lambda: stage.attempts()[-1:] == [2], process)  # given up, and retried
    (zombie,) = [t for t in stage.trials() if len(t.attempts) == 2]
    old = zombie.ordered[0]
    assert old.closed is not None
    reports = stage.workspace.trial(zombie.key) / "attempts" / old.folder_name / "reports.jsonl"
    before = reports.read_text().count("\n")
    cluster.send(cluster.other, signal.SIGCONT, (WORKER,))
    stage.await_that(lambda: reports.read_text().count("\n") > before)  # it really goes on
    cluster.send(cluster.other, signal.SIGCONT)
    stage.disturb()
    output = stage.finish(process)
    assert process.returncode == 0, output
    uri = f"sqlite:///{stage.workspace.database}"
    assert_clean(stage.workspace, expected, uri=uri)
    again = stage.sync("--mlflow", f"sqlite:///{stage.workspace.root / 'other.db'}")
    assert again.returncode == 0, again.stderr
    assert_clean(stage.workspace, expected, uri=f"sqlite:///{stage.workspace.root / 'other.db'}")
