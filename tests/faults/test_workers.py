"""A trial's worker dies or runs out of memory; all of Ray dies; the driver dies under Ray."""

from __future__ import annotations

import os
import signal

import psutil
import pytest

from tests.faults.aftermath import Undisturbed, assert_clean
from tests.faults.stage import Stage, family
from tests.support.trainer import OutOfMemoryError

RAY = ("gcs_server", "raylet/raylet", "ray::")


def uri(stage: Stage) -> str:
    return f"sqlite:///{stage.workspace.database}"


def reasons(stage: Stage) -> list[str]:
    """Why attempts that do not count ended."""
    return [a.closed.reason for t in stage.trials() for a in t.ordered[:-1] if a.closed]


def test_a_driver_killed_in_every_trial_is_continued(stage: Stage, expected: Undisturbed) -> None:
    """Inline, where the worker is the driver: SIGKILL between two steps, four times."""
    stage.disturb(kind="kill", step=6)
    codes = [stage.ran("--inline").returncode for _ in range(4)]
    assert codes == [-signal.SIGKILL] * 4
    assert stage.counts() == {"done": 3, "interrupted": 1}
    stage.completes("--inline")
    assert stage.attempts() == [2, 2, 2, 2]
    assert_clean(stage.workspace, expected, uri=uri(stage))


def test_memory_that_the_system_refuses_costs_a_retry(stage: Stage, expected: Undisturbed) -> None:
    stage.disturb(kind="memory", step=5, replicate=1)
    output = stage.completes("--inline")
    assert stage.attempts() == [1, 1, 2, 2]
    assert output.count("MemoryError") == 2
    assert_clean(stage.workspace, expected, uri=uri(stage))


@pytest.mark.slow  # under this limit native code may also crash when the process ends
def test_memory_that_stays_too_small_fails_and_is_continued_by_the_next_run(
    stage: Stage, expected: Undisturbed
) -> None:
    stage.disturb(kind="memory", step=5, replicate=1, times=2)
    found = stage.ran("--inline")
    assert found.returncode == 1
    assert stage.counts() == {"done": 2, "failed": 2}
    stage.completes("--inline")
    assert stage.attempts() == [1, 1, 3, 3]
    resumed = [a.opened.resumed_from for t in stage.trials() for a in t.ordered[1:]]
    assert resumed == [1, 2, 1, 2]
    assert_clean(stage.workspace, expected, uri=uri(stage))


def test_the_gpu_error_is_named_as_torch_names_its_own() -> None:
    assert OutOfMemoryError.__name__ == "OutOfMemoryError"


@pytest.mark.slow
class TestRay:
    def test_killed_workers_are_retried(self, stage: Stage, expected: Undisturbed) -> None:
        stage.disturb(kind="kill", step=6)
        output = stage.completes("--parallel", "2")
        assert stage.attempts() == [2, 2, 2, 2]
        assert output.count("its worker process died") == 4
        assert_clean(stage.workspace, expected, uri=uri(stage))

    def test_a_worker_that_takes_all_memory_is_ended_by_ray(
        self, stage: Stage, expected: Undisturbed
    ) -> None:
        """Ray's memory monitor, told that the machine has 3 GiB more than it uses now."""
        memory = psutil.virtual_memory()
        allowed = memory.total - memory.available + 3 * 2**30
        if memory.available < 8 * 2**30:
            pytest.skip("needs 8 GiB of free memory")
        stage.environment["RAY_memory_usage_threshold"] = f"{allowed / memory.total:.3f}"
        stage.disturb(kind="hoard", step=6, replicate=1)
        stage.completes("--parallel", "1")
        assert stage.attempts() == [1, 1, 2, 2]
        assert all(r.startswith("its worker process") for r in reasons(stage)), reasons(stage)
        assert_clean(stage.workspace, expected, uri=uri(stage))

    def test_a_killed_driver_is_continued(self, stage: Stage, expected: Undisturbed) -> None:
        stage.disturb(seconds=0.2)
        process = stage.start("--parallel", "2")
        stage.await_reports(process, 8)
        others = family(process.pid, RAY)
        process.kill()
        process.communicate()
        stage.disturb()
        stage.completes("--parallel", "2")
        psutil.wait_procs(others, timeout=60)
        assert [p for p in others if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
        assert_clean(stage.workspace, expected, uri=uri(stage))

    def test_without_its_raylet_ray_is_started_anew(
        self, stage: Stage, expected: Undisturbed
    ) -> None:
        stage.disturb(seconds=0.4)
        process = stage.start("--parallel", "2")
        stage.await_reports(process, 6)
        workers = family(process.pid, ("ray::ResourceTrainable",))
        (raylet,) = family(process.pid, ("raylet/raylet",))
        raylet.kill()
        output = stage.finish(process)
        assert process.returncode == 0, output
        assert set(reasons(stage)) == {"Ray broke down: its raylet died"}
        psutil.wait_procs(workers, timeout=60)
        assert [p for p in workers if p.is_running()] == []
        assert_clean(stage.workspace, expected, uri=uri(stage))

    @pytest.mark.parametrize("victims", [("gcs_server",), RAY], ids=["gcs", "all"])
    def test_without_its_control_store_the_run_ends_and_is_continued(
        self, stage: Stage, expected: Undisturbed, victims: tuple[str, ...]
    ) -> None:
        stage.disturb(seconds=0.4)
        process = stage.start("--parallel", "2")
        stage.await_reports(process, 6)
        for victim in family(process.pid, victims):
            if victim.pid not in (process.pid, os.getpid()):
                victim.kill()
        output = stage.finish(process)
        if process.returncode:  # held in Ray's own code, it cannot start Ray anew
            assert process.returncode == 1
            assert "Ray broke down: its " in output
            assert "run the same command again" in output
            counts = stage.counts()
            assert set(counts) <= {"done", "pending", "interrupted"}
            assert counts["interrupted"] >= 1
        stage.disturb()
        stage.completes("--parallel", "2")
        assert_clean(stage.workspace, expected, uri=uri(stage))
