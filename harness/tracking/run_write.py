"""What one MLflow run should hold, as plain data that merges; what a server must offer for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

Status = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
STUDY = "study"
ORPHAN = "orphan"
"""Kind of a run whose arm or trial the study no longer plans: kept, but in no saved view."""
TAG = "stillhouse."
TAG_LIMIT = 5000
"""Characters; MLflow itself cuts run tags at 8000 and says so only in its log."""


class Point(NamedTuple):
    """One metric value at one step."""

    name: str
    value: float
    step: int
    at_ms: int
    measured: bool = False


class DataSet(NamedTuple):
    """A data set a run read: MLflow shows name and digest."""

    name: str
    digest: str
    context: Literal["training", "evaluation"]


class LoggedPicture(NamedTuple):
    """A PNG on disk, shown under `name` with a slider over steps."""

    name: str
    file: Path
    step: int
    at_ms: int


@dataclass(slots=True)  # thousands may wait for a slow server
class RunWrite:
    """Everything still to be written about one run; later news merges into what waits."""

    ident: str
    """`study`, `arm/<name>` or a trial key: unique in the experiment, found again by tags."""
    name: str = ""
    nested: bool = False
    start_ms: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    """An empty value says that the tag no longer holds; it is not written where none is."""
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    datasets: tuple[DataSet, ...] = ()
    pictures: list[LoggedPicture] = field(default_factory=list)
    files: dict[str, bytes | Path] = field(default_factory=dict)
    status: Status | None = None
    end_ms: int | None = None
    rerun: bool = False
    """The trial was superseded and ran again: its values replace what the run showed."""

    def merge(self, later: RunWrite) -> None:
        """Take over what a later write about the same run says."""
        assert later.ident == self.ident
        self.name = self.name or later.name
        self.start_ms = self.start_ms or later.start_ms
        self.nested = self.nested or later.nested
        self.rerun = self.rerun or later.rerun
        self.tags.update(later.tags)
        self.params.update(later.params)
        self.points.extend(later.points)
        self.datasets = later.datasets or self.datasets
        self.pictures.extend(later.pictures)
        self.files.update(later.files)
        if later.status is not None:
            self.status, self.end_ms = later.status, later.end_ms


@dataclass
class KnownRun:
    """A run as the server has it."""

    run_id: str
    status: str
    artifact_uri: str
    tags: dict[str, str]
    params: dict[str, str]
    latest: dict[str, Point]
    """Newest point per metric name, as MLflow's table shows it."""
    steps: dict[str, dict[int, float]] = field(default_factory=dict)
    """Newest value per step, for the metric names that were looked at so far."""

    @property
    def ended(self) -> bool:
        """True unless it is running."""
        return self.status != "RUNNING"


def run_name_of(tags: Mapping[str, str]) -> str:
    """Identity of a run from its tags; empty for a run that is not ours."""
    kind = tags.get(TAG + "kind", "")
    if kind == "study":
        return STUDY
    if TAG + "key" in tags:
        return tags[TAG + "key"]
    return "arm/" + tags.get(TAG + "arm", "") if kind in ("arm", ORPHAN) else ""


def is_trial(ident: str) -> bool:
    """True for the run of a trial or reference row: not the study's, nor an arm's."""
    return ident != STUDY and not ident.startswith("arm/")


def filter_of(ident: str) -> str:
    """MLflow's filter for the runs of one identity: the other way round."""
    if ident == STUDY:
        return f"tags.`{TAG}kind` = 'study'"
    if ident.startswith("arm/"):
        name = ident.removeprefix("arm/").replace("'", "\\'")
        return f"tags.`{TAG}kind` = 'arm' AND tags.`{TAG}arm` = '{name}'"
    return f"tags.`{TAG}key` = '{ident}'"


def fresh_points(write: RunWrite, known: KnownRun) -> list[Point]:
    """Points that the server lacks, in order, each (name, step) once.

    A value that is already there is not written again. A measured value that differs from the one
    there (a nondeterministic retry), and any value of a rerun, is added with its later timestamp:
    MLflow takes the newest timestamp at the highest step as the run's value.
    """
    last: dict[tuple[str, int], Point] = {}
    for point in write.points:
        if not math.isfinite(point.value):
            continue
        earlier = last.get((point.name, point.step))
        if earlier is None or (point.measured and point.value != earlier.value):
            last[(point.name, point.step)] = point
    fresh = []
    for point in last.values():
        there = known.steps.get(point.name, {}).get(point.step)
        differs = there is not None and not math.isclose(there, point.value, rel_tol=1e-12)
        if there is None or (differs and (point.measured or write.rerun)):
            fresh.append(_after(point, known, differs))
    return fresh


def _after(point: Point, known: KnownRun, differs: bool) -> Point:
    """A correction carries a later timestamp than what it corrects, or MLflow would not show it."""
    newest = known.latest.get(point.name)
    if differs and newest is not None and point.at_ms <= newest.at_ms:
        return point._replace(at_ms=newest.at_ms + 1)
    return point


def remember(known: KnownRun, points: Iterable[Point]) -> None:
    """Note that the points are on the server now."""
    for point in points:
        known.steps.setdefault(point.name, {})[point.step] = point.value
        newest = known.latest.get(point.name)
        if newest is None or (point.step, point.at_ms) >= (newest.step, newest.at_ms):
            known.latest[point.name] = point


def shorten(text: str, limit: int = TAG_LIMIT) -> str:
    """Cut a text visibly; MLflow would cut it silently."""
    return text if len(text) <= limit else text[: limit - 4] + " ..."


class RefusedError(Exception):
    """The server answered and will never accept this; retrying is useless."""


class Store(Protocol):
    """A tracking server. Any error but `RefusedError` counts as temporary."""

    def connect(self) -> dict[str, KnownRun]:
        """Reach the server, make the experiment; return our runs in it by identity."""

    def find(self, ident: str) -> KnownRun | None:
        """Search one run by its tags."""

    def create(self, write: RunWrite, tags: Mapping[str, str]) -> KnownRun:
        """Create a run with all its tags."""

    def only(self, ident: str, run_id: str) -> None:
        """Delete (softly) other runs of the same identity, made by a request that came late."""

    def history(self, run_id: str, names: Sequence[str]) -> dict[str, dict[int, float]]:
        """Newest value per step of the named metrics."""

    def log(
        self, run_id: str, points: Sequence[Point], params: dict[str, str], tags: dict[str, str]
    ) -> None:
        """Write a batch; tags last."""

    def inputs(self, run_id: str, datasets: Sequence[DataSet]) -> None:
        """Attach data sets."""

    def put(self, known: KnownRun, write: RunWrite) -> None:
        """Store files and pictures; what is there already is replaced, never doubled."""

    def set_status(self, run_id: str, status: Status, end_ms: int | None) -> None:
        """Reopen or end a run."""

    def experiment(self, tags: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        """Set tags of the experiment; the defaults only where there is none yet."""

    def close(self) -> None:
        """Let go of connections."""


WRITTEN = TAG + "written"
"""Tag of the experiment: the stamp of what was all there when it was written, last of all."""
