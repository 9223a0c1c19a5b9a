"""Both executors keep the same contract; pytest tests/harness/test_executors.py."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.executors.base import Executor
from harness.executors.inline import InlineExecutor
from harness.testing import stub
from harness.testing.subject_contract import SubjectContract
from tests.support import keeper
from tests.support.executor_contract import (
    KEEPER,
    ExecutorContract,
    Recorder,
    StopContract,
    make_job,
    never,
)


class TestInline(ExecutorContract, StopContract):
    survives_kill = False

    @pytest.fixture
    def executor(self) -> Executor:
        return InlineExecutor()

    def test_a_signal_ends_a_step_that_takes_long(self, executor, tmp_path: Path):
        noted: list[int] = []
        previous = signal.signal(signal.SIGINT, lambda number, frame: noted.append(number))
        recorder = Recorder()
        job = make_job(tmp_path, "slow", fault="slow")  # would sleep for an hour in its second step
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        try:
            executor.run([job, make_job(tmp_path, "next")], recorder, lambda: bool(noted))
        finally:
            timer.cancel()
            signal.signal(signal.SIGINT, previous)
        assert noted == [signal.SIGINT]
        assert recorder.ended(job).state == "killed"
        assert {key for key, _ in recorder.events} == {"slow"}


@pytest.fixture(scope="module")
def ray_executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    from harness.executors.ray_tune import RayExecutor

    scratch = tmp_path_factory.mktemp("ray") / "scratch"
    made = RayExecutor(scratch, parallel=2)
    yield made
    made.close()
    assert not scratch.exists()


@pytest.mark.slow
class TestRay(ExecutorContract, StopContract):
    """The stopping tests come last: Ray starts anew after each."""

    @pytest.fixture
    def executor(self, ray_executor: Executor) -> Executor:
        return ray_executor

    def test_actors_are_reused(self, executor, tmp_path: Path):
        jobs = [make_job(tmp_path, f"pid-{i}", subject=KEEPER, fault="chatty") for i in range(8)]
        told = Recorder()
        executor.run(jobs, told, never)
        pids = {told.reports(job)[-1].info["pid"] for job in jobs}
        assert len(pids) <= 2


def test_an_absent_cluster_is_told_at_once():
    from harness.executors import ray_process

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, never listening
        port = taken.getsockname()[1]
        with pytest.raises(HarnessError, match=f"no Ray cluster answers at 127.0.0.1:{port}"):
            ray_process.check_reachable(f"127.0.0.1:{port}")
    ray_process.check_reachable("auto")


def test_starting_ray_leaves_environment_and_handlers_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
):
    from harness.executors import ray_process

    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    handler = signal.getsignal(signal.SIGTERM)
    wanted = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with ray_process.starting(wanted):
        assert {name: os.environ[name] for name in wanted} == wanted
        signal.signal(signal.SIGTERM, lambda number, frame: None)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ
    assert signal.getsignal(signal.SIGTERM) is handler


class TestStub(SubjectContract):
    @pytest.fixture
    def subject(self):
        return stub

    @pytest.fixture
    def recipe(self):
        return stub.Recipe(cycles=4).model_dump()

    @pytest.fixture
    def protocol(self):
        return "p"


class TestKeeper(TestStub):
    @pytest.fixture
    def subject(self):
        return keeper

    @pytest.fixture
    def recipe(self):
        return keeper.Recipe(cycles=4).model_dump()
