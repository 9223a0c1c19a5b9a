"""Small studies of the stub subject, and histories of them, for the tests of planning."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from harness.contract import Artifact
from harness.errors import StudyError
from harness.journal.history import History
from harness.journal.records import Closed, MeasuredAt, Opened, Planned
from harness.journal.trial import Trial
from harness.journal.workspace import Workspace
from harness.planning.make import make_plan
from harness.planning.plan import Plan
from harness.study.load import load_study
from harness.study.model import Study
from harness.study.opened_study import OpenedStudy

HEAD = """\
name: demo
question: Does x help?
subject: harness.testing.stub
"""
BODY = """\
recipe: {part: {x: 0.5, y: 1}, mixture: {a: 3, b: 1, c: 0}}
factors:
  part.x: [0.0, 1.0, 2.0]
  look:
    levels:
      warm: {colour: red, part.y: 0}
      cool: {colour: blue, part.y: 2}
baseline: {part.x: 0.0, look: warm}
contrasts:
  - {id: H1, claim: x helps, a: {part.x: 2.0}, b: {part.x: 0.0}, expect: higher}
"""


def write(folder: Path, body: str = BODY, head: str = HEAD, name: str = "study.yaml") -> Path:
    """Write a study file below a project of its own."""
    (folder / "pyproject.toml").touch()
    file = folder / name
    file.write_text(head + textwrap.dedent(body), encoding="utf-8")
    return file


def mistakes(file: Path) -> StudyError:
    """The error of a study file; reading it must write nothing."""
    before = sorted(file.parent.rglob("*"))
    with pytest.raises(StudyError) as error:
        load_study(file)
    assert sorted(p for p in file.parent.rglob("*") if "__pycache__" not in str(p)) == before
    assert error.value.exit_code == 2
    return error.value


def study(folder: Path, body: str = BODY) -> Study:
    """A loaded study."""
    return load_study(write(folder, body))


def plan(made: Study, history: History | None = None, **options: object) -> Plan:
    """A plan against a history, in a workspace beside the study file."""
    place = Workspace(made.file.parent / "workspace")
    return make_plan(OpenedStudy(made, place, history=history or History()), **options)  # type: ignore[arg-type]


def add_run(
    history: History,
    trial: Trial,
    *,
    number: int = 1,
    state: str | None = "done",
    code: str = "stub-code",
    code_files: dict[str, str] | None = None,
    protocol: str = "stub-default",
    metrics: dict[str, float | None] | None = None,
    steps: tuple[int, ...] = (3,),
    seconds: float = 10.0,
    gpus: float = 0.0,
    mode: str = "train",
    study_name: str = "demo",
    artifacts: list[Artifact] | None = None,
) -> None:
    """Record one attempt of a trial; `state` None leaves it open."""
    nonce = f"n{number}"
    history.add(
        Opened(
            at=100.0 * number, key=trial.key, attempt=number, nonce=nonce, study=study_name,
            mode=mode, trial=trial, protocol=protocol, code=code, code_files=code_files or {},
            gpus=gpus,
        )
    )  # fmt: skip
    if state is None:
        return
    measured = [MeasuredAt(step=step, metrics=metrics or {"score": 1.0}) for step in steps]
    history.add(
        Closed(
            at=100.0 * number + seconds, key=trial.key, attempt=number, nonce=nonce, state=state,
            seconds=seconds, gpus=gpus, step=max(steps, default=3),
            measurements=measured if state == "done" else [], artifacts=artifacts or [],
        )
    )  # fmt: skip


def add_planned(
    history: History, name: str, trials: list[Trial], subject: str = "harness.testing.stub"
) -> None:
    """Record that a study planned these trials."""
    content = {"subject": subject}
    history.add(Planned(at=1.0, study=name, digest="", study_json=content, trials=trials))
