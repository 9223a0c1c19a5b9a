"""A project with one study, the processes that run it, and what they left: the stage of a fault."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from harness.journal import History, TrialHistory
from harness.testing.trainer import FAULTS
from harness.workspace import Workspace

TRAINER = """\
name: demo
question: Does the rate help?
subject: harness.testing.trainer
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


class Stage:
    """A study of the trainer that takes as long, and fails as often, as a test wants."""

    def __init__(self, folder: Path, text: str = TRAINER, workspace: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pyproject.toml").touch()
        self.file = folder / "study.yaml"
        self.file.write_text(text)
        self.workspace = Workspace(workspace or folder / "stillhouse-workspace")
        self.processes: list[subprocess.Popen[str]] = []
        self.environment: dict[str, str] = {}

    def disturb(self, **fault: Any) -> None:
        """Say what goes wrong (see `trainer.Fault`); without arguments nothing does any more."""
        self.workspace.root.mkdir(parents=True, exist_ok=True)
        file = self.workspace.root / FAULTS
        temporary = file.with_suffix(".tmp")
        temporary.write_text(json.dumps(fault))
        temporary.replace(file)

    def command(self, name: str, *options: str) -> list[str]:
        place = ["--workspace", str(self.workspace.root)]
        return [sys.executable, "-m", "harness.cli", name, *options, *place]

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """`stillhouse run` to its end."""
        return subprocess.run(
            self.command("run", str(self.file), *options),
            capture_output=True, text=True, timeout=PATIENCE, check=False,
            env=os.environ | self.environment,
        )  # fmt: skip

    def completes(self, *options: str) -> str:
        """`stillhouse run`, which must end well; what it said."""
        done = self.run(*options)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout + done.stderr

    def start(self, *options: str) -> subprocess.Popen[str]:
        """`stillhouse run` in the background, in a process group of its own."""
        process = subprocess.Popen(
            self.command("run", str(self.file), *options),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env=os.environ | self.environment,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def sync(self, *options: str) -> subprocess.CompletedProcess[str]:
        """`stillhouse sync` to its end."""
        return subprocess.run(
            self.command("sync", "demo", *options),
            capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    def counts(self) -> dict[str, int]:
        """What `status` says."""
        command = [*self.command("status", "--json", str(self.file))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, int] = json.loads(done.stdout)["studies"][0]["counts"]
        return found

    def history(self) -> History:
        return History.read([self.workspace.journal])

    def trials(self) -> list[TrialHistory]:
        return list(self.history().trials.values())

    def attempts(self) -> list[int]:
        """How many attempts each trial took, sorted."""
        return sorted(len(trial.attempts) for trial in self.trials())

    def scores(self) -> dict[str, float | None]:
        """Last score by key, of trials that are done."""
        measured = {t.key: t.measured("trainer-p") for t in self.trials()}
        return {key: found[-1].metrics["score"] for key, found in measured.items() if found}

    def reported(self) -> int:
        """Lines of reports.jsonl in all attempts."""
        files = self.workspace.root.glob("trials/*/attempts/*/reports.jsonl")
        return sum(file.read_bytes().count(b"\n") for file in files)

    def await_reports(self, process: subprocess.Popen[str], count: int) -> None:
        """Return once so many reports were written, while the run goes on."""
        self.await_that(lambda: self.reported() >= count, process)

    def await_that(
        self, true: Callable[[], object], process: subprocess.Popen[str] | None = None
    ) -> None:
        """Return once something holds; fail if the run ends before, or it takes too long."""
        until = time.monotonic() + PATIENCE
        while not true():
            if process is not None and process.poll() is not None:
                raise AssertionError(process.stdout.read() if process.stdout else "it ended")
            assert time.monotonic() < until, "waited in vain"
            time.sleep(0.02)

    def finish(self, process: subprocess.Popen[str]) -> str:
        """What a run in the background said, once it ended."""
        output, _ = process.communicate(timeout=PATIENCE)
        return output

    def close(self) -> None:
        """End what still runs."""
        for process in self.processes:
            for child in family(process.pid):
                child.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


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
