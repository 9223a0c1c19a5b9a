"""An existing Ray cluster of two nodes that `run --ray-address` joins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.project import Project
from tests.backends.servers import RayCluster

pytestmark = [pytest.mark.backend, pytest.mark.slow]


@pytest.fixture
def project(folder: Path) -> Iterator[Project]:
    made = Project(folder, seconds=0.2)
    yield made
    made.end()


def test_a_study_runs_on_both_nodes_of_a_cluster(project: Project, cluster: RayCluster):
    """A trial takes a whole CPU, a node has one: two run at once only if both nodes are used."""
    import ray

    project.run("--ray-address", cluster.address)
    assert len(project.scores()) == 4
    assert {len(t.attempts) for t in project.trials()} == {1}
    spans = [
        (t.ordered[0].opened.at, t.ordered[0].closed.at)
        for t in project.trials()
        if t.ordered[0].closed is not None
    ]
    overlaps = Counter(sum(begin <= other < end for begin, end in spans) for other, _ in spans)
    assert max(overlaps) == 2
    assert not ray.is_initialized()
    assert all(node.poll() is None for node in cluster.nodes), "the cluster is left running"


def test_a_budget_in_hours_is_judged_by_the_cluster(
    project: Project, cluster: RayCluster, tmp_path: Path
):
    """Two trials at once there; one at once would take twice as long."""
    project.run("--inline", "--no-mlflow")
    (seconds,) = {1.2}
    text = project.file.read_text().replace("replicates: 2", "replicates: 42")
    hours = 80 * seconds / 3600
    project.file.write_text(text + f"budget: {{hours: {0.8 * hours}}}\n")
    here = project.call("run", str(project.file), "--inline", "--no-mlflow", "--parallel", "1")
    assert here.returncode == 2, here.stdout
    assert "over budget" in here.stderr
    there = project.start("--ray-address", cluster.address, "--no-mlflow")
    project.await_reports(there, 4 * 7 + 3)
    there.terminate()
    output, _ = there.communicate(timeout=120)
    assert there.returncode == 143, output
    assert "over budget" not in output.splitlines()[-1]
    text = project.file.read_text().replace(f"{0.8 * hours}", f"{0.3 * hours}")
    project.file.write_text(text)
    refused = project.call(
        "run", str(project.file), "--ray-address", cluster.address, "--no-mlflow"
    )
    assert refused.returncode == 2, refused.stdout
    assert "over budget" in refused.stderr
