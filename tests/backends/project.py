"""A project with one study of stubs that paint, and the processes that run it."""

from __future__ import annotations

from pathlib import Path

from tests.study_processes import StudyProcesses

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


class Project(StudyProcesses):
    """A study and the processes that run it; `end` kills those that are left."""

    patience = PATIENCE

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
        filled = STUDY.format(name=name, cycles=cycles, seconds=seconds, replicates=replicates)
        super().__init__(folder, filled + more, cwd=folder)
        (folder / "painter.py").write_text(PAINTER)
        self.folder = folder
        self.environment = {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}

    def surroundings(self) -> dict[str, str]:
        found = {**super().surroundings()}
        found.pop("RAY_ADDRESS", None)
        return found

    def run(self, *options: str) -> str:
        """Run the study to its end; what it said."""
        done = self.ran(*options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
