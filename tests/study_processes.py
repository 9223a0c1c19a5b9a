"""The processes that run one study file, and what they left; tests of faults and servers use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.journal.history import History, TrialHistory
from harness.journal.workspace import Workspace


class StudyProcesses:
    """`stillhouse` on a study file, in processes of its own."""

    patience = 240.0
    """Seconds; generous, because Ray starts slowly on a busy machine."""
    always: tuple[str, ...] = ()
    """Further arguments of every command."""
    runs: tuple[str, ...] = ()
    """Further arguments of `run`."""

    def __init__(
        self, folder: Path, text: str, workspace: Path | None = None, *, cwd: Path | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pyproject.toml").touch()
        self.file = folder / "study.yaml"
        self.file.write_text(text)
        self.workspace = Workspace(workspace or folder / "stillhouse-workspace")
        self.processes: list[subprocess.Popen[str]] = []
        self.cwd = cwd
        self.environment: dict[str, str] = {}

    def surroundings(self) -> Mapping[str, str]:
        """Environment of the processes."""
        return os.environ | self.environment

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "harness.cli", *arguments, *self.always]

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`stillhouse` with these arguments, to its end."""
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=self.patience,
            check=False,
            cwd=self.cwd,
            env=self.surroundings(),
        )

    def ran(self, *options: str) -> subprocess.CompletedProcess[str]:
        """`stillhouse run` to its end."""
        return self.call("run", str(self.file), *self.runs, *options)

    def start(self, *options: str) -> subprocess.Popen[str]:
        """`stillhouse run` in the background.

        In a process group of its own, so that a Ctrl-C can go to all of it, as a terminal's.
        """
        process = subprocess.Popen(
            self.command("run", str(self.file), *self.runs, *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.cwd,
            env=self.surroundings(),
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        """Kill what still runs, with all that is in its process group."""
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def counts(self) -> dict[str, int]:
        """What `status` says."""
        done = self.call("status", "--json", str(self.file))
        assert done.returncode == 0, done.stderr
        found: dict[str, int] = json.loads(done.stdout)["studies"][0]["counts"]
        return found

    def history(self) -> History:
        return History.read([self.workspace.journal])

    def trials(self) -> list[TrialHistory]:
        return list(self.history().trials.values())

    def scores(self) -> dict[tuple[str, int], float | None]:
        """Score of the stub by arm and replicate; every trial must be done."""
        found = {}
        for trial in self.trials():
            assert trial.complete is not None, trial.state
            planned = trial.complete.opened.trial
            found[planned.arm, planned.replicate] = trial.measured("stub-p")[0].metrics["score"]
        return found

    def reported(self) -> int:
        """Lines of reports.jsonl in all attempts."""
        files = self.workspace.root.glob("trials/*/attempts/*/reports.jsonl")
        return sum(file.read_bytes().count(b"\n") for file in files)

    def await_reports(self, process: subprocess.Popen[str], count: int) -> None:
        """Return once so many reports were written, while the run goes on."""
        self.await_that(lambda: self.reported() >= count, process)

    def hold_midway(self, process: subprocess.Popen[str], count: int) -> None:
        """Stop the run (SIGSTOP) after so many reports, in the midst of a trial of six.

        However busy the machine is: where it has gone on to a trial's end, the next one is held.
        """

        def held() -> bool:
            process.send_signal(signal.SIGSTOP)
            found = self.workspace.root.glob("trials/*/attempts/*/reports.jsonl")
            newest = max(found, key=lambda file: file.stat().st_mtime_ns)
            if newest.read_bytes().count(b"\n") in (2, 3, 4):
                return True
            process.send_signal(signal.SIGCONT)
            return False

        self.await_reports(process, count)
        self.await_that(held, process)

    def await_that(
        self, true: Callable[[], object], process: subprocess.Popen[str] | None = None
    ) -> None:
        """Return once something holds; fail if the run ends before, or it takes too long."""
        until = time.monotonic() + self.patience
        while not true():
            if process is not None and process.poll() is not None:
                raise AssertionError(process.stdout.read() if process.stdout else "it ended")
            assert time.monotonic() < until, "waited in vain"
            time.sleep(0.02)
