"""Reads the journal: what is recorded about each trial, and what of it a study reads.

Each driver writes its own `journal/<started>-<host>-<pid>-<nonce>.jsonl`, so no two processes
append to one file; a reader merges all files. A torn last line (crash while writing) is ignored.
Closing records are fsynced. Records of an attempt that is not the trial's latest never count.

A result is addressed by (key, protocol, code digest): studies may share a trial, and each reads the
results of the code it was last planned with (`History.read_by`). What another study runs with other
code, whatever its program is called, changes nothing for it.
"""

from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import BaseModel

from harness.errors import HarnessError, WorkspaceError
from harness.journal.gc_pauses import paused
from harness.journal.lines import Reader
from harness.journal.records import Closed, MeasuredAt, Opened, Planned, Record, Superseded
from harness.journal.states import OVER, State
from harness.text.identifiers import inside, refusal


class Attempt(BaseModel):
    """One attempt as read back: its opening and, if it ended, its closing record."""

    opened: Opened
    closed: Closed | None = None

    @property
    def folder_name(self) -> str:
        """Folder of the attempt inside `trials/<key>/attempts/`."""
        return f"{self.opened.attempt}-{self.opened.nonce}"


class TrialHistory:
    """What is recorded about one trial key: everything, or what one study reads of it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.attempts: dict[tuple[int, str], Attempt] = {}
        self.superseded_to = 0
        """Attempts up to this one count for nobody: a record of an earlier version says so."""
        self.superseded: dict[str, dict[str, float]] = {}
        """Study -> codes whose results it no longer reads, and since when (Unix time)."""
        self.replaces = False
        """For what one study reads: it made results with other code, too."""

    def read_by(self, study: str | None, code: str) -> TrialHistory:
        """The trial as a study sees it that reads the results of one code.

        That are the attempts with this code, whoever made them, and what the study measured later
        of a student of theirs; without a study, what any measured.
        """
        view = TrialHistory(self.key)
        view.superseded, view.superseded_to = self.superseded, self.superseded_to
        # Neither a second program of the same name nor an edit between two studies can so replace a
        # number. The price: a study that shares arms runs them again once its code is another.
        attempts = {p: a for p, a in self.attempts.items() if a.opened.code == code}
        students = {a.opened.nonce for a in attempts.values()} | {""}  # earlier versions named none
        for place, attempt in self.attempts.items():
            opened = attempt.opened
            if place in attempts or study not in (None, opened.study):
                continue
            if attempts and opened.mode == "measure" and opened.student_of in students:
                attempts[place] = attempt
            elif study is not None:
                view.replaces = True
        view.attempts = attempts
        return view

    def results(self) -> list[Attempt]:
        """Attempts that trained and came to a result that somebody may read, the newest last."""
        return [a for a in self.ordered if a.opened.mode == "train" and self._counts(a)]

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
        # Or two studies of a workspace, each under its protocol, would undo each other's rows.
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
        return [measured for _, measured in self.measured_by(protocol).values()]

    def measured_by(self, protocol: str) -> dict[int, tuple[Attempt, MeasuredAt]]:
        """Step -> measurement under a protocol fingerprint and the attempt it was made in."""
        complete = self.complete_under(protocol)
        if complete is None:
            return {}
        by_step: dict[int, tuple[Attempt, MeasuredAt]] = {}
        for attempt in self.ordered:
            same_student = attempt is complete or attempt.opened.mode == "measure"
            if not same_student or attempt.opened.attempt < complete.opened.attempt:
                continue
            if attempt.opened.protocol == protocol and attempt.closed is not None:
                by_step.update({m.step: (attempt, m) for m in attempt.closed.measurements})
        return {step: by_step[step] for step in sorted(by_step)}

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


def _place(attempt: Attempt) -> tuple[int, bool, float, str]:
    complete = attempt.closed is not None and attempt.closed.state in OVER
    return attempt.opened.attempt, complete, attempt.opened.at, attempt.opened.nonce


class History:
    """All journals of a workspace (and of recorded results), merged."""

    def __init__(self) -> None:
        self.trials: dict[str, TrialHistory] = {}
        self.planned: dict[str, list[Planned]] = {}
        self.warnings: list[str] = []
        self.everything: dict[str, TrialHistory] = self.trials
        """All that is recorded, also of what is read by one study only."""
        self.described: dict[Path, set[str]] = {}
        """Folder of journals -> keys that a line there describes."""
        self._early: dict[tuple[str, int, str], Closed] = {}
        self._code_files: dict[str, dict[str, str]] = {}
        self._data_files: dict[str, dict[str, str]] = {}
        self._seen_by: dict[str, History] = {}
        self._environment: dict[str, str] = {}

    @classmethod
    @paused()
    def read(cls, folders: Iterable[Path], *, numbers: bool = True) -> History:
        """Merge every `*.jsonl` in the folders. Never writes; warns of unreadable lines.

        Without `numbers`, measurements and artifacts are left out: how things stand, sooner.
        """
        history = cls()
        reader = Reader(numbers=numbers)
        for folder in folders:
            before = len(reader.described)
            for file in sorted(folder.glob("*.jsonl")) if folder.is_dir() else ():
                history._read_file(file, reader)
            history.described[folder] = set(list(reader.described)[before:])
        for key in sorted(reader.undescribed()):
            history._describe_from_folder(key, reader)
        for place, record in reader.waiting():
            if isinstance(record, ValueError):
                history.warnings.append(f"{place}: unreadable record ({refusal(record)})")
            else:
                history.add(record)
        return history

    def _describe_from_folder(self, key: str, reader: Reader) -> None:
        """A trial whose line is lost is described beside its attempts, too."""
        for folder in self.described:
            with contextlib.suppress(OSError, ValueError, RecursionError, HarnessError):
                file = inside(folder.parent / "trials", "key", key) / "trial.json"
                reader.describe(key, json.loads(file.read_bytes()))
                return

    def _read_file(self, file: Path, reader: Reader) -> None:
        lines = _content(file).split(b"\n")  # not splitlines: strings may hold U+2028
        for number, line in enumerate(lines, 1):
            if not line:
                continue
            try:
                record = reader.read(line, f"{file}:{number}")
            except ValueError as error:
                if number < len(lines):  # a torn last line is what a crash leaves; expected
                    why = refusal(error)
                    self.warnings.append(f"{file}:{number}: unreadable record ({why})")
                continue
            if record is not None:
                self.add(record)

    def read_by(self, study: str, reads: Mapping[str, str] | None = None) -> History:
        """The history as a study sees it: of each trial the results of the code it reads.

        Args:
            study: name of the study.
            reads: key -> code digest; default what its latest plan says. Of other trials, and of
                those that nothing is said of, everything is seen.
        """
        if reads is None and study in self._seen_by:
            return self._seen_by[study]
        latest = self.latest_plan(study)
        codes = reads if reads is not None else latest.reads() if latest else {}
        view = copy.copy(self)
        view._seen_by = {}
        view.trials = {
            key: trial.read_by(study, codes[key]) if key in codes else trial
            for key, trial in self.trials.items()
        }
        if reads is None:
            self._seen_by[study] = view
        return view

    def add(self, record: Record) -> None:
        """Merge one record; a compact journal's never replaces the whole one it was made of."""
        self._seen_by = {}
        if isinstance(record, Planned):
            self.planned.setdefault(record.study, []).append(record)
            return
        trial = self.trials.setdefault(record.key, TrialHistory(record.key))
        if isinstance(record, Superseded):
            if record.study:
                since = trial.superseded.setdefault(record.study, {})
                since[record.code] = max(since.get(record.code, record.at), record.at)
            else:
                trial.superseded_to = max(trial.superseded_to, record.attempt)
        elif isinstance(record, Opened):
            record = self._shared(record)
            place = (record.attempt, record.nonce)
            if place in trial.attempts:
                # A compact journal leaves out the host.
                if record.host or not trial.attempts[place].opened.host:
                    trial.attempts[place].opened = record
            else:
                early = self._early.pop((record.key, *place), None)
                trial.attempts[place] = Attempt(opened=record, closed=early)
        else:
            place = (record.attempt, record.nonce)
            if place in trial.attempts:
                closed = trial.attempts[place].closed
                if closed is None or record.artifacts or not closed.artifacts:
                    trial.attempts[place].closed = record
            else:  # its opening comes later: it names its trial by key, or is in another file
                closed = self._early.get((record.key, *place))
                if closed is None or record.artifacts or not closed.artifacts:
                    self._early[record.key, *place] = record

    def _shared(self, record: Opened) -> Opened:
        """With tables that are held once for all records: 4 KiB each, the same in thousands.

        The listing of a code digest is also the only one there is, where a journal is compact.
        """
        files = self._code_files.get(record.code) or record.code_files
        self._code_files[record.code] = files
        data = self._data_files.get(record.trial.data) or record.data_files
        self._data_files[record.trial.data] = data
        if record.environment != self._environment:
            self._environment = record.environment
        shared = {"code_files": files, "data_files": data, "environment": self._environment}
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
