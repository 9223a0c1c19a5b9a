"""Batch scripts that `stillhouse slurm` writes, really run to the end of a study."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends.project import PATIENCE, Project
from tests.backends.slurm import Slurm


@pytest.fixture
def project(folder: Path) -> Iterator[Project]:
    made = Project(folder, replicates=3, seconds=0.1)
    yield made
    made.end()


@pytest.fixture
def slurm(project: Project, tmp_path: Path) -> Slurm:
    return Slurm(project, tmp_path / "bin")


def test_an_array_runs_the_study_requeues_itself_and_continues(project: Project, slurm: Slurm):
    script = slurm.write("--array", "2")
    job = slurm.start(script, SLURM_ARRAY_TASK_ID="1")
    project.await_reports(job, 3)
    job.send_signal(signal.SIGUSR1)  # to the batch shell alone, as `--signal=B:USR1@120` does
    output, _ = job.communicate(timeout=PATIENCE)
    assert job.returncode == 0, output
    assert slurm.requeued == 1
    assert "checkpoint" in output
    again = slurm.start(script, restarts=1, SLURM_ARRAY_TASK_ID="1")
    output, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, output
    assert "from step" in output
    assert slurm.requeued == 1
    other = slurm.start(script, SLURM_ARRAY_TASK_ID="2")
    output, _ = other.communicate(timeout=PATIENCE)
    assert other.returncode == 0, output
    assert len(project.scores()) == 6
    assert sorted(len(t.attempts) for t in project.trials()) == [1] * 5 + [2]


def test_a_job_that_was_put_back_often_enough_ends_with_the_code(project: Project, slurm: Slurm):
    script = slurm.write("--array", "1", "--requeues", "2")
    job = slurm.start(script, restarts=2, SLURM_ARRAY_TASK_ID="1")
    project.await_reports(job, 2)
    job.send_signal(signal.SIGUSR1)
    output, _ = job.communicate(timeout=PATIENCE)
    assert job.returncode == 138, output
    assert slurm.requeued == 0


@pytest.fixture
def ray_folder() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="sh-", dir="/tmp")  # sockets: short paths
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.backend
@pytest.mark.slow
def test_one_allocation_runs_the_study_in_ray_and_passes_the_notice_on(
    project: Project, slurm: Slurm, ray_folder: str
):
    script = slurm.write("--cpus", "2")
    job = slurm.start(script, RAY_TMPDIR=ray_folder)
    project.await_reports(job, 3)
    job.send_signal(signal.SIGUSR1)
    output, _ = job.communicate(timeout=PATIENCE)
    assert job.returncode == 0, output
    assert "checkpoint" in output
    assert slurm.requeued == 1
    again = slurm.start(script, restarts=1, RAY_TMPDIR=ray_folder)
    output, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, output
    assert len(project.scores()) == 6
    assert max(len(t.attempts) for t in project.trials()) == 2
