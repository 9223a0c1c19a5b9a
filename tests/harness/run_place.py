"""A small project with one study, and stand-ins, for the tests of `run`."""

import time
from pathlib import Path

import pytest

from harness.analysis.model import Answer
from harness.executors import worker
from harness.executors.base import Ended
from harness.executors.inline import InlineExecutor
from harness.executors.worker import execute
from harness.journal.history import History, TrialHistory
from harness.journal.workspace import Workspace
from harness.running import run_study
from harness.running.run_study import RunResult
from harness.study import load, opened_study
from harness.study.load import load_study
from harness.study.model import Study
from harness.study.opened_study import OpenedStudy
from harness.tracking.tracker import NullTracker

STUB = """\
name: demo
question: Does x help?
subject: harness.testing.stub
recipe: {recipe}
factors: {{part.x: [0.0, 1.0]}}
baseline: {{part.x: 0.0}}
replicates: 2
protocol: {protocol}
contrasts:
  - {{id: H1, claim: x helps, a: {{part.x: 1.0}}, b: {{part.x: 0.0}}, expect: higher}}
"""
KEEPER = """\
name: kept
question: Does x help?
subject: tests.support.keeper
recipe: {recipe}
factors: {{x: [0.0, 1.0]}}
baseline: {{x: 0.0}}
replicates: 2
protocol: {protocol}
"""


class Place:
    """A project with one study, and what running it said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "pyproject.toml").touch()
        self.workspace = Workspace(folder / "w")
        self.said: list[str] = []

    def study(self, text: str = STUB, recipe: str = "{}", protocol: str = "p") -> Study:
        file = self.folder / "study.yaml"
        file.write_text(text.format(recipe=recipe, protocol=protocol))
        return load_study(file)

    def run(self, made: Study, **options) -> RunResult:
        self.said = []
        options = {"executor": "inline", "echo": self.said.append, **options}
        return run_study.run(OpenedStudy(made, self.workspace), **options)

    def history(self) -> History:
        return History.read([self.workspace.journal])

    def trials(self) -> list[TrialHistory]:
        return list(self.history().trials.values())


def put_subject(patch: pytest.MonkeyPatch, subject: object) -> None:
    """Whatever a study names, this is what is loaded for it."""
    for module in (opened_study, load, worker):
        patch.setattr(module, "load_subject", lambda name, project=None: subject)


class Spy(NullTracker):
    """Notes what it is told; breaks where asked to."""

    def __init__(self, breaks: str = "") -> None:
        self.calls: list[str] = []
        self.breaks = breaks

    def _note(self, name: str) -> None:
        self.calls.append(name)
        if name == self.breaks:
            raise ConnectionError("the server is gone")

    def start(self, plan, history) -> None:
        self._note("start")

    def opened(self, record) -> None:
        self._note("opened")

    def report(self, key, attempt, report, folder, at) -> None:
        self._note("report")

    def closed(self, record, folder) -> None:
        self._note("closed")

    def answer(self, answer, report_html) -> None:
        assert isinstance(answer, Answer)
        assert report_html.is_file()
        self._note("answer")

    def close(self, timeout: float = 60.0) -> list[str]:
        self._note("close")
        return ["two runs wait for the server: stillhouse sync"]


class Dying(InlineExecutor):
    """Its worker vanishes after a number of reports, in the first attempts of each trial."""

    def __init__(self, after: int = 2, times: int = 1, tear: bool = False) -> None:
        self.after = after
        self.times = times
        self.tear = tear

    def run(self, jobs, on_event, stop) -> None:
        for job in jobs:
            on_event(job, "started", time.time())
            running = execute(job)
            for number, (at, event) in enumerate(running, 1):
                on_event(job, event, at)
                if number == self.after and job.attempt <= self.times:
                    running.close()  # nothing of it runs on: files are as a SIGKILL leaves them
                    if self.tear:
                        newest = max(job.folder.glob("checkpoint-*.json"))
                        newest.write_text(newest.read_text()[:5])
                    on_event(job, Ended(state="killed", reason="died", died=True), time.time())
                    break


def scores(place: Place) -> dict[int, float | None]:
    return {
        t.complete.opened.trial.replicate: t.measured("stub-p")[0].metrics["score"]
        for t in place.trials()
        if t.complete
    }


def finished_elsewhere(place: Place, recipe: str = "{}") -> list[TrialHistory]:
    """The trials of the same study as another workspace holds them."""
    other = Place(place.folder / "elsewhere")
    other.run(other.study(recipe=recipe))
    return other.trials()
