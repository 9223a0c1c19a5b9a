"""A project with one study, the processes that run it, and what they left: the stage of a fault."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from harness.journal import attempts
from harness.journal.history import TrialHistory
from tests.study_processes import StudyProcesses
from tests.support import trainer

TRAINER = """\
name: demo
question: Does the rate help?
subject: trainer
recipe: {cycles: 8}
factors: {rate: [0.1, 0.2]}
baseline: {rate: 0.1}
replicates: 2
protocol: p
primary: score
measure_at: [4, 8]
contrasts:
  - {id: H1, claim: a larger rate helps, a: {rate: 0.2}, b: {rate: 0.1}}
"""
PATIENCE = 240.0
"""Seconds; generous, because Ray starts slowly on a busy machine."""


class Stage(StudyProcesses):
    """A study of the trainer that takes as long, and fails as often, as a test wants."""

    patience = PATIENCE

    def __init__(self, folder: Path, text: str = TRAINER, workspace: Path | None = None) -> None:
        super().__init__(folder, text, workspace)
        # The project's own module, as anybody's is: workers would not find `tests.support`.
        shutil.copy(trainer.__file__, folder / "trainer.py")
        self.always = ("--workspace", str(self.workspace.root))

    def disturb(self, **fault: Any) -> None:
        """Say what goes wrong (see `trainer.Fault`); without arguments nothing does any more."""
        self.workspace.root.mkdir(parents=True, exist_ok=True)
        file = self.workspace.root / trainer.FAULTS
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps(fault))
        temporary.replace(file)

    def completes(self, *options: str) -> str:
        """`stillhouse run`, which must end well; what it said."""
        done = self.ran(*options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout + done.stderr

    def sync(self, *options: str) -> subprocess.CompletedProcess[str]:
        """`stillhouse sync` to its end."""
        return self.call("sync", "demo", *options)

    @contextmanager
    def held(self, process: subprocess.Popen[str]) -> Iterator[None]:
        """Meanwhile a run and all below it stand still: nothing ends between a look and a fault."""
        stopped = family(process.pid)
        try:
            for one in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.suspend()
            yield
        finally:
            for one in stopped:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.resume()

    @contextmanager
    def held_at_checkpoint(self, process: subprocess.Popen[str]) -> Iterator[None]:
        """Held while an attempt has something to continue from and steps before it."""
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            self.await_that(self._at_checkpoint, process)
            with self.held(process):
                if self._at_checkpoint():
                    yield
                    return
        raise AssertionError("waited in vain")

    def _at_checkpoint(self) -> bool:
        return any(self._under_way(trial) for trial in self.trials())

    def _under_way(self, trial: TrialHistory) -> bool:
        latest = trial.latest
        if latest is None or latest.closed is not None:
            return False
        lines = attempts.read_reports(attempts.folder_of(self.workspace, latest))
        report = lines[-1].report if lines else None
        if report is None or report.step >= report.total:
            return False
        return any(artifact.kind == "checkpoint" for artifact in report.artifacts)

    def attempts(self) -> list[int]:
        """How many attempts each trial took, sorted."""
        return sorted(len(trial.attempts) for trial in self.trials())

    def scores(self) -> dict[str, float | None]:
        """Last score by key, of trials that are done."""
        measured = {t.key: t.measured("trainer-p") for t in self.trials()}
        return {key: found[-1].metrics["score"] for key, found in measured.items() if found}

    def finish(self, process: subprocess.Popen[str]) -> str:
        """What a run in the background said, once it ended."""
        output, _ = process.communicate(timeout=self.patience)
        return output

    def close(self) -> None:
        """End what still runs, Ray's own processes too."""
        for process in self.processes:
            for child in family(process.pid):
                child.kill()
        self.end()


def family(pid: int, names: tuple[str, ...] = ()) -> list[psutil.Process]:
    """A process and all below it, or those of them whose command line holds one of the names."""
    try:
        top = psutil.Process(pid)
        found = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    return [p for p in found if not names or any(n in _line(p) for n in names)]


def _line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
