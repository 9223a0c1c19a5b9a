"""An existing Ray cluster of two nodes that `run --ray-address` joins."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.project import Project
from tests.backends.servers import RayCluster

pytestmark = [pytest.mark.backend, pytest.mark.slow]
RESOURCES = "resources: {cpus: 2}\n"
"""All of a node."""


@pytest.fixture
def project(folder: Path) -> Iterator[Project]:
    made = Project(folder, seconds=0.3, more=RESOURCES)
    yield made
    made.end()


def spans(project: Project) -> list[tuple[float, float]]:
    """When each trial began and ended."""
    attempts = [t.ordered[0] for t in project.trials()]
    return [(a.opened.at, a.closed.at) for a in attempts if a.closed is not None]


def test_a_study_runs_on_both_nodes_of_a_cluster(project: Project, cluster: RayCluster):
    """A trial takes all of a node: two at once are on two nodes."""
    project.run("--ray-address", cluster.address)
    assert len(project.scores()) == 4
    assert {len(t.attempts) for t in project.trials()} == {1}
    at_once = [
        sum(begin <= moment < end for begin, end in spans(project)) for moment, _ in spans(project)
    ]
    assert max(at_once) == 2
    assert all(node.poll() is None for node in cluster.nodes), "the cluster is left running"


def test_a_budget_in_hours_is_judged_by_the_cluster(project: Project, cluster: RayCluster):
    """Two trials at once there take half the hours of one at a time here."""
    project.run("--inline", "--no-mlflow")
    seconds = statistics.median(end - begin for begin, end in spans(project))
    one_by_one = 80 * seconds / 3600  # of 84 trials, four are there
    text = project.file.read_text().replace("replicates: 2", "replicates: 42")

    def answer(share: float, *options: str) -> tuple[int, str]:
        project.file.write_text(f"{text}budget: {{hours: {share * one_by_one:.6f}}}\n")
        done = project.call("run", str(project.file), "--no-mlflow", "--hours", "0", *options)
        return done.returncode, done.stdout + done.stderr

    code, told = answer(0.75, "--inline", "--parallel", "1")
    assert (code, "over budget" in told) == (2, True), told
    code, told = answer(0.75, "--ray-address", cluster.address)
    assert (code, "deadline reached" in told) == (4, True), told
    assert "over budget" not in told
    code, told = answer(0.25, "--ray-address", cluster.address)
    assert (code, "over budget" in told) == (2, True), told


def test_a_cluster_without_room_for_a_trial_says_so(project: Project, cluster: RayCluster):
    text = project.file.read_text().replace("cpus: 2", "cpus: 3")
    project.file.write_text(text)
    done = project.call("run", str(project.file), "--no-mlflow", "--ray-address", cluster.address)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "asks for 3 CPUs" in done.stderr
    assert "Traceback" not in done.stderr
