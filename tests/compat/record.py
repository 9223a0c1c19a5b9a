"""Records what today's code leaves behind, as files that every later version must read.

`python -m tests.compat.record FOLDER` fills a new folder below `tests/compat/records/`.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from harness.commands import export
from harness.journal.workspace import Workspace
from harness.study.load import load_study
from harness.study.opened_study import OpenedStudy
from tests.harness.run_place import Dying

RECORDS = Path(__file__).parent / "records"
WORKSPACE = "workspace"
STUDY = """\
name: recorded
question: Is what was recorded still read?
subject: harness.testing.stub_measured
recipe: {cycles: 3, fault: diverge}
factors:
  part.x: [0.0, 1.0]
  fault_replicate: [9, 1]
design: one_factor
baseline: {part.x: 0.0, fault_replicate: 9}
replicates: 3
reruns: 1
protocol: p
primary: score
contrasts:
  - {id: H1, claim: x helps, a: {part.x: 1.0}, b: {part.x: 0.0}, expect: higher, margin: 0.1}
"""
FIRST = STUDY.replace("replicates: 3", "replicates: 1").replace("margin: 0.1", "margin: 0.2")
OTHER = """\
name: shared
question: Is what two studies share still read?
subject: harness.testing.stub_measured
recipe: {cycles: 3, fault: diverge, fault_replicate: 9}
factors: {part.x: [0.0, 1.0]}
replicates: 3
protocol: noisy
"""


def made(folder: Path) -> None:
    """Run what leaves every kind of record, below `folder`.

    A result of older code superseded, workers that died and were continued, a divergence, a rerun,
    references, an amended study, and students measured under the protocol of another study.
    """
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    workspace = Workspace(folder / WORKSPACE)

    def run(name: str, text: str, **options: object) -> None:
        file = folder / name
        file.write_text(text)
        options = {"executor": "inline", "tracker": None, "echo": print, **options}
        assert run(OpenedStudy(load_study(file), workspace), **options).exit_code == 0

    with mock.patch.dict(os.environ, {"STUB_CODE": "older"}):
        run("study.yaml", FIRST)
    run("study.yaml", STUDY, rerun_stale=True, executor=Dying(after=2))
    run("shared.yaml", OTHER)
    export.command(folder / "study.yaml", workspace=workspace.root)


@contextmanager
def anonymous() -> Iterator[None]:
    """No name of this machine in what is recorded."""
    with (
        mock.patch("socket.gethostname", return_value="node-1"),
        mock.patch("harness.journal.environment.device_model", return_value="a processor"),
    ):
        yield


def kept(source: Path, target: Path) -> None:
    """Copy what a later version needs; locks, logs and the report are made again or not needed."""

    def left_out(folder: str, names: list[str]) -> list[str]:
        parts = Path(folder).relative_to(source).parts
        gone = {"cache", "artifacts", "studies"} if parts == (WORKSPACE,) else set()
        ends = (".lock", ".log", "log.txt", "claim.json", ".csv.lock")
        return [n for n in names if n in gone or n.endswith(ends) or n == "__pycache__"]

    shutil.copytree(source, target, ignore=left_out)


if __name__ == "__main__":
    place = RECORDS / sys.argv[1]
    scratch = Path("/tmp") / f"compat-{time.time_ns()}"
    with anonymous():
        made(scratch / "project")
    kept(scratch / "project", place)
    shutil.rmtree(scratch)
    print(place)
