"""What the writing thread needs of a tracking server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from harness.trackers.rows import DataSet, Known, Point, RunWrite, Status


class RefusedError(Exception):
    """The server answered and will never accept this; retrying is useless."""


class Store(Protocol):
    """A tracking server. Any error but `RefusedError` counts as temporary."""

    def connect(self) -> dict[str, Known]:
        """Reach the server, make the experiment; return our runs in it by identity."""

    def find(self, ident: str) -> Known | None:
        """Search one run by its tags."""

    def create(self, write: RunWrite, tags: Mapping[str, str]) -> Known:
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

    def put(self, known: Known, write: RunWrite) -> None:
        """Store files and pictures; what is there already is replaced, never doubled."""

    def set_status(self, run_id: str, status: Status, end_ms: int | None) -> None:
        """Reopen or end a run."""

    def experiment(self, tags: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        """Set tags of the experiment; the defaults only where there is none yet."""

    def close(self) -> None:
        """Let go of connections."""
