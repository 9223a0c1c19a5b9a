"""The watch over Ray's processes, on processes that are none of Ray's."""

import subprocess
import sys
import time

import psutil
import pytest

from harness.executors import ray_process
from harness.executors.job_queue import Broken, JobQueue, Stopped
from harness.executors.ray_process import cause_of_death


def test_a_process_that_died_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_process, "LOOK_SECONDS", 0.02)
    ended: list[str] = []
    monkeypatch.setattr(ray_process, "_end", ended.append)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    monkeypatch.setattr(
        ray_process, "_own_processes", lambda: {"raylet": psutil.Process(process.pid)}
    )
    watch = ray_process.Watch(None)
    jobs = JobQueue([], lambda job, event, at: None, lambda: False, 1, watch)
    jobs.check()
    assert watch.broken == ""
    process.kill()  # a zombie until somebody waits for it: that is dead, too
    until = time.monotonic() + 30
    while not watch.broken:
        assert time.monotonic() < until
        time.sleep(0.01)
    with pytest.raises(Broken, match="its raylet died"):
        jobs.check()
    watch.stop()
    process.wait()
    assert ended == [], "without its raylet a driver can still leave by itself"


def test_without_the_control_store_the_process_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_process, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(ray_process, "HANG_SECONDS", 0.1)
    ended: list[str] = []
    monkeypatch.setattr(ray_process, "_end", ended.append)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    there = psutil.Process(gone.pid)
    gone.wait()
    monkeypatch.setattr(ray_process, "_own_processes", lambda: {"gcs_server": there})
    watch = ray_process.Watch(None)
    until = time.monotonic() + 30
    while not ended:
        assert time.monotonic() < until
        time.sleep(0.01)
    watch.stop()
    assert ended[0] == "its gcs_server died"


def test_its_end_is_told_on_the_way_out() -> None:
    code = "from harness.executors import ray_process; ray_process._end('its gcs_server died')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Ray broke down: its gcs_server died" in done.stderr
    assert "run the same command again" in done.stderr


def test_being_told_to_stop_comes_first() -> None:
    jobs = JobQueue([], lambda job, event, at: None, lambda: True, 1)
    with pytest.raises(Stopped):
        jobs.check()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("", "its worker process died (killed, or out of memory)"),
        ("The actor died because its node has died.", "its node was lost"),
        ("Task was killed due to the node running low on memory.", "out of memory"),
        ("actor creation task failed\nModuleNotFoundError: x", "could not start: ModuleNotFound"),
    ],
)
def test_the_cause_of_death_is_read_from_what_ray_tells(told: str, words: str) -> None:
    assert words in cause_of_death(told)
