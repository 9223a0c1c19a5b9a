"""Arms while the study still runs: means over the replicates that are in, no intervals yet."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from harness.analyse.observed import ENDED
from harness.journal import Closed
from harness.trackers.projection import Projection
from harness.trackers.rows import TAG, Point, RunWrite

EVERY_SECONDS = 30.0
"""Arms are brought up to date at most this often; a short study shows them with its answer."""


class Interim:
    """Counts what ended, per arm. The answer replaces everything it wrote."""

    def __init__(self, projection: Projection, ended: Iterable[Closed] = ()) -> None:
        self._projection = projection
        self._arm_of = {
            t.trial.key: t.trial.arm for t in projection.plan.trials if t.trial.kind == "trial"
        }
        self._planned = Counter(self._arm_of.values())
        self._closed = {record.key: record for record in ended if record.key in self._arm_of}
        self._changed: set[str] = set()
        self._next = time.monotonic() + EVERY_SECONDS
        self._shown: set[str] = set()

    def add(self, record: Closed) -> list[RunWrite]:
        """Take in a trial that ended; the arms to write now, mostly none."""
        if record.key not in self._arm_of:
            return []
        self._closed[record.key] = record
        self._changed.add(self._arm_of[record.key])
        if time.monotonic() < self._next:
            return []
        self._next = time.monotonic() + EVERY_SECONDS
        changed, self._changed = self._changed, set()
        self._shown |= changed
        return [self._write(arm) for arm in sorted(changed)]

    def stopped(self) -> list[RunWrite]:
        """The study ends without an answer: no arm may look as if it were still running."""
        ends = [record.at for record in self._closed.values()]
        at_ms = round(1000 * max(ends, default=0.0))
        return [
            RunWrite(ident="arm/" + arm, status="KILLED", end_ms=at_ms)
            for arm in sorted(self._shown)
        ]

    def _write(self, arm: str) -> RunWrite:
        mine = [r for key, r in self._closed.items() if self._arm_of[key] == arm]
        done = [r for r in mine if r.state == "done"]
        at_ms = round(1000 * max(r.at for r in mine))
        values: dict[str, list[float]] = {}
        for record in done:
            final = record.measurements[-1].metrics if record.measurements else {}
            for name, value in final.items():
                if value is not None and name in self._projection.headline:
                    values.setdefault(name, []).append(value)
        planned = self._planned[arm]
        points = [
            Point(
                self._projection.metric(name),
                sum(found) / len(found),
                len(done),
                at_ms,
                True,
            )
            for name, found in values.items()
        ]
        points.append(Point("n_done", float(len(done)), len(done), at_ms, True))
        points.append(Point("n_planned", float(planned), len(done), at_ms, True))
        seen = f"{len(done)} of {planned} replicates"
        over = sum(r.state in ENDED for r in mine) >= planned
        state = seen if over else f"interim: {seen}"
        write = self._projection.arm_row(arm, min(r.at - r.seconds for r in mine))
        write.tags |= {TAG + "state": state, TAG + "estimate": state}
        write.points, write.status = points, "RUNNING"
        return write
