"""An MLflow store made of dictionaries, and a recorder that feeds it through the live tracker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.journal.workspace import Workspace
from harness.tracking import background_writer
from harness.tracking.mlflow_tracker import LiveTracker
from harness.tracking.run_write import DataSet, KnownRun, Point, RunWrite, Status
from tests.harness.mlflow_records import Recorder, plan_of


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writing thread waits for next to nothing."""
    monkeypatch.setattr(background_writer, "LINGER_SECONDS", 0.02)
    monkeypatch.setattr(background_writer, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(background_writer, "LONGEST_DELAY", 0.02)
    monkeypatch.setattr(background_writer, "ABSENT_GRACE", 0.3)


@dataclass
class FakeStore:
    """Keeps runs in dictionaries; `fault` may raise before or after any call takes effect."""

    uri: str = "http://fake"
    experiment_name: str = ""
    experiment_id: str = "7"
    runs: dict[str, KnownRun] = field(default_factory=dict)
    rows: list[tuple[str, Point]] = field(default_factory=list)
    calls: list[tuple[str, str]] = field(default_factory=list)
    experiment_tags: dict[str, str] = field(default_factory=dict)
    owner: object = None
    fault: Callable[[str, str, str], None] = lambda when, call, ident: None

    def _call(self, name: str, ident: str) -> Iterator[None]:
        self.fault("before", name, ident)
        self.calls.append((name, ident))
        yield
        self.fault("after", name, ident)

    def connect(self) -> dict[str, KnownRun]:
        for _ in self._call("connect", ""):
            pass
        return {
            k: KnownRun(v.run_id, v.status, "", dict(v.tags), dict(v.params), dict(v.latest))
            for k, v in self.runs.items()
        }

    def find(self, ident: str) -> KnownRun | None:
        self.calls.append(("find", ident))
        return deepcopy(self.runs.get(ident))

    def only(self, ident: str, run_id: str) -> None:
        self.calls.append(("only", ident))

    def create(self, write: RunWrite, tags: Mapping[str, str]) -> KnownRun:
        for _ in self._call("create", write.ident):
            assert write.ident not in self.runs, "created twice"
            self.runs[write.ident] = KnownRun(write.ident, "RUNNING", "", dict(tags), {}, {})
        return deepcopy(self.runs[write.ident])

    def history(self, run_id: str, names: Sequence[str]) -> dict[str, dict[int, float]]:
        self.calls.append(("history", run_id))
        found: dict[str, dict[int, float]] = {name: {} for name in names}
        for ident, point in self.rows:
            if ident == run_id and point.name in found:
                found[point.name][point.step] = point.value
        return found

    def log(
        self, run_id: str, points: Sequence[Point], params: dict[str, str], tags: dict[str, str]
    ) -> None:
        for _ in self._call("log", run_id):
            run = self.runs[run_id]
            self.rows += [(run_id, p) for p in points]
            for point in points:
                run.latest[point.name] = point
            run.params.update(params)
            run.tags.update(tags)

    def inputs(self, run_id: str, datasets: Sequence[DataSet]) -> None:
        self.calls.append(("inputs", run_id))

    def put(self, known: KnownRun, write: RunWrite) -> None:
        self.calls.append(("put", write.ident))

    def set_status(self, run_id: str, status: Status, end_ms: int | None) -> None:
        for _ in self._call("status", run_id):
            self.runs[run_id].status = status

    def experiment(self, tags: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        self.experiment_tags = {**defaults, **self.experiment_tags, **tags}

    def close(self) -> None:
        self.calls.append(("close", ""))


def recorder_of(tmp_path: Path, store: FakeStore) -> tuple[LiveTracker, Recorder]:
    """A tracker of a small plan that writes into the store, and what records its trials."""
    workspace = Workspace(tmp_path / "workspace")
    tracker = LiveTracker(workspace, store)
    recorder = Recorder(workspace, plan_of(), tracker)
    tracker.start(recorder.plan, recorder.history)
    return tracker, recorder
