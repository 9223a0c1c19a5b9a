"""A trainer never outlives its worker, nor its time: each fault really happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from tests.harness.trainers import command, context, recipe

WORKER = """
import signal
import sys
from pathlib import Path
from harness.subjects.command import CommandSubject
from tests.harness.trainers import context, recipe, settings

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where started by `&`
folder = Path(sys.argv[1])
subject = CommandSubject(settings(grace_seconds=float(sys.argv[3])), folder)
for report in subject.run(recipe(sys.argv[2]), context(folder / "a")):
    pass
"""
PATIENCE = 120.0


def _wait(what: str, found: object) -> None:
    until = time.monotonic() + PATIENCE
    while not found():  # type: ignore[operator]
        assert time.monotonic() < until, f"waited {PATIENCE:.0f} s for {what}"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _worker(folder: Path, mode: str, grace: float) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A worker of its own that runs the trainer, and the trainer's process ids."""
    command(folder)
    script = folder / "worker.py"
    script.write_text(textwrap.dedent(WORKER))
    root = str(Path(__file__).parent.parent.parent)
    worker = subprocess.Popen(
        [sys.executable, str(script), str(folder), mode, str(grace)],
        env=os.environ | {"PYTHONPATH": root},
        start_new_session=True,
    )
    file = folder / "a" / "pids.txt"
    _wait("the trainer", file.exists)
    _wait("two steps", lambda: (folder / "a" / "checkpoint-2").exists())
    return worker, [int(pid) for pid in file.read_text().split()]


def test_killing_the_worker_ends_the_trainer_and_all_it_started(tmp_path: Path) -> None:
    worker, pids = _worker(tmp_path, "family", grace=5.0)
    assert all(map(_alive, pids))
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    for pid in pids:
        _wait(f"the end of {pid}", lambda pid=pid: not _alive(pid))


def test_one_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    worker, pids = _worker(tmp_path, "stubborn", grace=0.5)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(PATIENCE) != 0
    assert not any(map(_alive, pids))


def test_ctrl_c_lets_it_save_and_what_it_saved_is_on_record(tmp_path: Path) -> None:
    subject = command(tmp_path, grace_seconds=20.0)
    running = subject.run(recipe("polite"), context(tmp_path / "a"))
    for report in running:
        if report.step == 2:
            break
    _wait("the second checkpoint", lambda: (tmp_path / "a" / "checkpoint-2").exists())
    running.close()  # type: ignore[attr-defined]
    text = (tmp_path / "a" / "reports.jsonl").read_text().splitlines()
    kept = [a["path"] for line in text for a in json.loads(line)["report"]["artifacts"]]
    assert kept[-1] == "checkpoint-2"


@pytest.mark.parametrize("mode", ["nan", "gives up"])
def test_a_trainer_that_diverged_is_stopped(tmp_path: Path, mode: str) -> None:
    """It would go on for good: nothing but the report ends it."""
    running = command(tmp_path).run(recipe(mode, steps=10**9), context(tmp_path / "a"))
    last = list(running)[-1]
    assert last.outcome is not None
    assert last.outcome.state == "diverged"
    ours = [p for p in psutil.Process().children(recursive=True) if "trainer.py" in p.cmdline()]
    assert ours == []
