"""The truth: append-only records of studies and attempts, one file per driver process.

Each driver writes its own `journal/<started>-<host>-<pid>-<nonce>.jsonl`, so no two processes
append to one file; a reader merges all files. A torn last line (crash while writing) is ignored.
Closing records are fsynced. Records of an attempt that is not the trial's latest never count.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter

from harness.errors import WorkspaceError
from harness.identifiers import refusal
from harness.records import (
    OVER,
    Closed,
    Frozen,
    Glanced,
    MeasuredAt,
    Opened,
    Planned,
    Record,
    State,
    Superseded,
)
from harness.running.appending import append_line
from harness.running.collector import paused

__all__ = [
    "Attempt",
    "Closed",
    "Frozen",
    "History",
    "Journal",
    "MeasuredAt",
    "Opened",
    "Planned",
    "Record",
    "State",
    "Superseded",
    "TrialHistory",
]

_CONSTANTS = (b"NaN", b"Infinity")
_ADAPTER: TypeAdapter[Record] = TypeAdapter(Annotated[Record, Field(discriminator="type")])


@cache
def _glancing() -> TypeAdapter[Record]:
    records = Planned | Opened | Glanced | Superseded
    return TypeAdapter(Annotated[records, Field(discriminator="type")])


class Journal:
    """Writer of one driver's journal file. The file appears with the first record."""

    def __init__(self, folder: Path) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        host = socket.gethostname().split(".")[0]
        self.file = folder / f"{stamp}-{host}-{os.getpid()}-{secrets.token_hex(3)}.jsonl"
        self._listed: set[str] = set()
        """Code digests whose listing, of hundreds of names, stands in the file."""

    def append(self, record: Record) -> None:
        """Write one record, whole or not at all; all but openings are on disk when this returns.

        Raises:
            WorkspaceError: if it cannot be written (a full disk, most often).
        """
        if isinstance(record, Opened) and record.code in self._listed:
            record = record.model_copy(update={"code_files": {}})
        line = record.model_dump_json(exclude_defaults=False)
        try:
            append_line(self.file, line, sync=not isinstance(record, Opened))
        except OSError as error:
            raise WorkspaceError(
                f"the journal {self.file} cannot be written any more: {error.strerror or error}. "
                "What was recorded is safe: free some space, then run the same command again."
            ) from error
        if isinstance(record, Opened) and record.code_files:
            self._listed.add(record.code)


class Attempt(BaseModel):
    """One attempt as read back: its opening and, if it ended, its closing record."""

    opened: Opened
    closed: Closed | None = None

    @property
    def folder_name(self) -> str:
        """Folder of the attempt inside `trials/<key>/attempts/`."""
        return f"{self.opened.attempt}-{self.opened.nonce}"


class TrialHistory:
    """Everything recorded about one trial key."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.attempts: dict[tuple[int, str], Attempt] = {}
        self.superseded_to = 0

    @property
    def ordered(self) -> list[Attempt]:
        """Attempts by number; of equal numbers (two machines) a complete one last."""
        return sorted(self.attempts.values(), key=_place)

    @property
    def latest(self) -> Attempt | None:
        """Latest attempt that trains (not one that only measures)."""
        train = [a for a in self.ordered if a.opened.mode == "train"]
        return train[-1] if train else None

    @property
    def complete(self) -> Attempt | None:
        """The attempt whose result counts, or None: latest, done or diverged, not superseded."""
        latest = self.latest
        return latest if latest is not None and self._counts(latest) else None

    def complete_under(self, protocol: str) -> Attempt | None:
        """As `complete`; of a reference row, which is made by measuring, one for each protocol."""
        any_of = next(iter(self.attempts.values()), None)
        if any_of is None or any_of.opened.trial.kind != "reference":
            return self.complete
        own = [a for a in self.ordered if a.opened.protocol == protocol and self._counts(a)]
        return own[-1] if own else self.complete

    def _counts(self, attempt: Attempt) -> bool:
        """Whether it came to a result that is not superseded."""
        if attempt.closed is None or attempt.opened.attempt <= self.superseded_to:
            return False
        return attempt.closed.state in OVER

    @property
    def state(self) -> State:
        """State of the trial. An attempt without a closing record reads as running (see `run`)."""
        latest = self.latest
        if latest is None or latest.opened.attempt <= self.superseded_to:
            return "pending"
        return latest.closed.state if latest.closed else "running"

    def measured(self, protocol: str) -> list[MeasuredAt]:
        """Measurements of the counting result under a protocol fingerprint, by step."""
        done = self.complete_under(protocol)
        if done is None:
            return []
        found: dict[int, MeasuredAt] = {}
        for attempt in self.ordered:
            same_student = attempt is done or attempt.opened.mode == "measure"
            if not same_student or attempt.opened.attempt < done.opened.attempt:
                continue
            if attempt.opened.protocol == protocol and attempt.closed is not None:
                found.update({m.step: m for m in attempt.closed.measurements})
        return [found[s] for s in sorted(found)]

    def seconds(self) -> float:
        """Wall seconds of all closed attempts, failures included."""
        return sum(a.closed.seconds for a in self.ordered if a.closed)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:  # what it holds would be run again as if it had never been
        raise WorkspaceError(
            f"journal {file} cannot be read: {error.strerror or error}. Mend that, or move it away."
        ) from error


def _refuse_constants(line: bytes) -> None:
    """Refuse NaN and Infinity, which are no JSON; numbers that were not finite are null here.

    Raises:
        ValueError: with the constant.
    """
    if any(word in line for word in _CONSTANTS):
        with contextlib.suppress(json.JSONDecodeError, RecursionError, UnicodeDecodeError):
            json.loads(line, parse_constant=_no_number)


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def _place(attempt: Attempt) -> tuple[int, bool, float, str]:
    complete = attempt.closed is not None and attempt.closed.state in OVER
    return attempt.opened.attempt, complete, attempt.opened.at, attempt.opened.nonce


class History:
    """All journals of a workspace (and of recorded results), merged."""

    def __init__(self) -> None:
        self.trials: dict[str, TrialHistory] = {}
        self.planned: dict[str, list[Planned]] = {}
        self.warnings: list[str] = []
        self._early: dict[tuple[str, int, str], Closed] = {}
        self._code_files: dict[str, dict[str, str]] = {}
        self._environment: dict[str, str] = {}

    @classmethod
    @paused()
    def read(cls, folders: Iterable[Path], *, numbers: bool = True) -> History:
        """Merge every `*.jsonl` in the folders. Never writes; warns of unreadable lines.

        Without `numbers`, measurements and artifacts are left out: how things stand, sooner.
        """
        history = cls()
        adapter = _ADAPTER if numbers else _glancing()
        files = [f for folder in folders if folder.is_dir() for f in sorted(folder.glob("*.jsonl"))]
        for file in files:
            lines = _content(file).split(b"\n")  # not splitlines: strings may hold U+2028
            for number, line in enumerate(lines, 1):
                if not line:
                    continue
                try:
                    _refuse_constants(line)
                    history.add(adapter.validate_json(line))
                except ValueError as error:
                    if number < len(lines):  # a torn last line is what a crash leaves; expected
                        why = refusal(error)
                        history.warnings.append(f"{file}:{number}: unreadable record ({why})")
        return history

    def add(self, record: Record) -> None:
        """Merge one record; a compact journal's never replaces the whole one it was made of."""
        if isinstance(record, Planned):
            self.planned.setdefault(record.study, []).append(record)
            return
        trial = self.trials.setdefault(record.key, TrialHistory(record.key))
        if isinstance(record, Superseded):
            trial.superseded_to = max(trial.superseded_to, record.attempt)
        elif isinstance(record, Opened):
            record = self._shared(record)
            place = (record.attempt, record.nonce)
            if place in trial.attempts:
                if record.host or not trial.attempts[place].opened.host:
                    trial.attempts[place].opened = record
            else:
                early = self._early.pop((record.key, *place), None)
                trial.attempts[place] = Attempt(opened=record, closed=early)
        else:
            place = (record.attempt, record.nonce)
            if place in trial.attempts:
                known = trial.attempts[place].closed
                if known is None or record.artifacts or not known.artifacts:
                    trial.attempts[place].closed = record
            else:  # the file of the driver that closed it was read first
                self._early[record.key, *place] = record

    def _shared(self, record: Opened) -> Opened:
        """With tables that are held once for all records: 4 KiB each, the same in thousands.

        The listing of a code digest is also the only one there is, where a journal is compact.
        """
        files = self._code_files.get(record.code) or record.code_files
        self._code_files[record.code] = files
        if record.environment != self._environment:
            self._environment = record.environment
        shared = {"code_files": files, "environment": self._environment}
        return record.model_copy(update=shared)

    def latest_plan(self, study: str) -> Planned | None:
        """What the study's last `run` planned; None if it never ran."""
        return max(self.planned.get(study, ()), key=lambda planned: planned.at, default=None)

    def now(self, study: str) -> float:
        """Unix time for a new plan of the study: after its last one, though a clock was set back.

        Otherwise the older plan would go on counting as the latest.
        """
        last = self.latest_plan(study)
        return time.time() if last is None else max(time.time(), last.at + 1e-3)

    def find(self, prefix: str) -> list[str]:
        """Keys that start with a prefix (a bare key, or its first digits)."""
        return sorted(k for k in self.trials if k.startswith(prefix))
