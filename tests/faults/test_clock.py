"""The clock is set back by two days in the middle of a run, and is right again in the next."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.aftermath import Undisturbed, assert_clean
from tests.faults.stage import Stage

CUSTOMIZE = """\
import pathlib, time
_now, _file = time.time, pathlib.Path({file!r})
time.time = lambda: _now() + float(_file.read_text() or 0)
"""
"""Read by Python itself as it starts. (Python 3.11 does not sleep under Debian's libfaketime.)"""
DAYS = 24 * 3600


@pytest.fixture
def clock(stage: Stage, tmp_path: Path) -> Path:
    """A file that says by how many seconds the clock of everything on the stage is off."""
    file = tmp_path / "clock"
    set_to(file, 0)
    folder = tmp_path / "customize"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CUSTOMIZE.format(file=str(file)))
    before = os.environ.get("PYTHONPATH", str(Path.cwd()))
    stage.environment["PYTHONPATH"] = f"{folder}{os.pathsep}{before}"
    return file


def set_to(file: Path, seconds: float) -> None:
    temporary = file.with_suffix(".tmp")
    temporary.write_text(str(seconds))
    temporary.replace(file)


def test_a_clock_set_back_in_the_middle(stage: Stage, clock: Path, expected: Undisturbed) -> None:
    """A trial ends before it began by the clock; the next plan is older than the last."""
    stage.disturb(seconds=0.15, kind="kill", step=6, replicate=1)
    process = stage.start("--inline")
    stage.await_reports(process, 10)
    set_to(clock, -2 * DAYS)
    stage.finish(process)
    assert process.returncode == -9
    stage.disturb()
    text = stage.file.read_text()
    stage.file.write_text(text.replace("question: Does", "question: By how much does"))
    stage.completes("--inline")
    uri = f"sqlite:///{stage.workspace.database}"
    assert_clean(stage.workspace, expected, uri=uri)
    last = stage.history().latest_plan("demo")
    assert last is not None
    assert last.study_json["question"].startswith("By how much"), "the newer plan counts"
    spans = [a.closed.seconds for t in stage.trials() for a in t.ordered if a.closed]
    assert all(0 <= seconds < 600 for seconds in spans), "no span is of two days"
    set_to(clock, 0)
    again = stage.completes("--inline")
    assert_clean(stage.workspace, expected, uri=uri)
    assert "resume" not in again
    assert stage.sync("--mlflow", f"sqlite:///{stage.workspace.root / 'other.db'}").returncode == 0
    assert_clean(stage.workspace, expected, uri=f"sqlite:///{stage.workspace.root / 'other.db'}")
