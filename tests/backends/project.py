"""A project with one study of stubs that paint, and the processes that run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.journal import History, TrialHistory
from harness.workspace import Workspace

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0
"""Seconds; generous, because Ray and MLflow start slowly on a busy machine."""
STUDY = """\
name: {name}
question: Does x help?
subject: painter
recipe: {{cycles: {cycles}, seconds: {seconds}}}
factors: {{part.x: [0.0, 1.0]}}
baseline: {{part.x: 0.0}}
replicates: {replicates}
protocol: p
contrasts:
  - {{id: H1, claim: x helps, a: {{part.x: 1.0}}, b: {{part.x: 0.0}}, expect: higher}}
"""
PAINTER = '''\
"""The stub, with a picture before each trial ends."""
from PIL import Image
from harness.contract import Artifact
from harness.testing.stub import *
from harness.testing.stub import run as _run


def run(recipe, context):
    for report in _run(recipe, context):
        if report.measured:
            shade = int(20 * recipe["part"]["x"]) + context.replicate
            Image.new("RGB", (24, 24), (shade, 90, 10)).save(context.folder / "hill.png")
            panel = Artifact(kind="panel", path="hill.png", step=report.step, item="hill")
            report = report.model_copy(update={"artifacts": (*report.artifacts, panel)})
        yield report
'''


class Project:
    """A study and the processes that run it; `end` kills those that are left."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "demo",
        cycles: int = 6,
        seconds: float = 0.0,
        replicates: int = 2,
        more: str = "",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pyproject.toml").touch()
        (folder / "painter.py").write_text(PAINTER)
        self.folder = folder
        self.file = folder / "study.yaml"
        filled = STUDY.format(name=name, cycles=cycles, seconds=seconds, replicates=replicates)
        self.file.write_text(filled + more)
        self.workspace = Workspace(folder / "stillhouse-workspace")
        self.environment = os.environ | {"PYTHONPATH": str(ROOT), "RAY_ADDRESS": ""}
        self.processes: list[subprocess.Popen[str]] = []

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "harness.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=self.folder,
            env=self.environment,
        )

    def run(self, *options: str) -> str:
        """Run the study to its end; what it said."""
        done = self.call("run", str(self.file), *options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.cli", "run", str(self.file), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=self.environment,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def counts(self) -> dict[str, int]:
        done = self.call("status", "--json", str(self.file))
        counts: dict[str, int] = json.loads(done.stdout)["studies"][0]["counts"]
        return counts

    def trials(self) -> list[TrialHistory]:
        return list(History.read([self.workspace.journal]).trials.values())

    def scores(self) -> dict[tuple[str, int], float | None]:
        found = {}
        for trial in self.trials():
            assert trial.complete is not None, trial.state
            planned = trial.complete.opened.trial
            found[planned.arm, planned.replicate] = trial.measured("stub-p")[0].metrics["score"]
        return found

    def reported(self) -> int:
        """Lines of reports.jsonl in all attempts."""
        files = self.workspace.root.glob("trials/*/attempts/*/reports.jsonl")
        return sum(len(f.read_text().splitlines()) for f in files)

    def await_reports(self, process: subprocess.Popen[str], count: int) -> None:
        until = time.monotonic() + PATIENCE
        while self.reported() < count:
            assert process.poll() is None, process.stdout.read() if process.stdout else ""
            assert time.monotonic() < until
            time.sleep(0.02)
