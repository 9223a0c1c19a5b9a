"""One trial as it was recorded: found by its key, proven by it, compared with what is here now."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.analysis.observed import contributing
from harness.contract import Measurement
from harness.errors import NotJudgedError
from harness.journal.history import Attempt, History, TrialHistory
from harness.journal.records import MeasuredAt, Planned
from harness.journal.trial import Trial, key_of
from harness.journal.workspace import Workspace
from harness.reproduce.places import Places, places_around
from harness.study.protocol_file import protocol_here
from harness.subjects.identity import identity_of, maker_of_references
from harness.subjects.settings import SubjectSpec, parsed
from harness.text.bounded_file import limited_text


@dataclass(frozen=True)
class Recorded:
    """What the journal holds about a trial that counts, and how its study ran it."""

    key: str
    trial: Trial
    study: str
    trained: Attempt
    measured_by: Attempt
    """The attempt whose measurement is reproduced; the training one unless it measured later."""
    student: Path | None
    """The kept student, if it is still there."""
    folder: Path | None
    """The folder of the attempt that measured, if it is still there."""
    subject: SubjectSpec
    planned: Planned
    """How its study was last planned."""
    project: Path
    history: History
    """As the study reads it."""
    places: Places
    others: list[str] = field(default_factory=list)
    """Studies that read a result of other code under this key."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The study's canonical JSON, as far as it was recorded."""
        return self.planned.study_json

    @property
    def measurement(self) -> Measurement:
        protocol = self.measured_by.opened.protocol_name or str(self.settings["protocol"])
        return Measurement(
            protocol=protocol_here(protocol, self.planned.study_file, self.project),
            at=tuple(self.settings.get("measure_at") or ()),
            select=str(self.settings.get("select") or "ema"),
        )

    @property
    def gpus(self) -> float:
        return float((self.settings.get("resources") or {}).get("gpus", 0.0))

    @property
    def cpus(self) -> float:
        """CPU cores the trial had; they set the number of threads, which can change last digits."""
        return float((self.settings.get("resources") or {}).get("cpus", 1.0))

    def values(self) -> list[MeasuredAt]:
        """Recorded measurements by step, under the protocol that is reproduced."""
        record = self.history.trials[self.key]
        return record.measured(self.measured_by.opened.protocol)


def find(
    prefix: str, workspace: Workspace, study: Path | None = None, places: Places | None = None
) -> Recorded:
    """The record of the one trial whose key starts with `prefix`, verified against its key.

    Args:
        prefix: a key, its first digits, or a short name.
        workspace: where what ran here is kept.
        study: a study file or folder whose results are searched, too.
        places: where to look instead of around workspace and study.

    Raises:
        HarnessError: if no key or several keys start so.
        NotJudgedError: if the record was changed, is incomplete, or holds no result.
    """
    where = places or places_around(workspace, study)
    history = where.read()
    return record_of(where.key(history, prefix, workspace), history, where, workspace)


def record_of(key: str, history: History, places: Places, workspace: Workspace) -> Recorded:
    """The verified record of a key that the history holds.

    Raises:
        NotJudgedError: if the record was changed, is incomplete, or holds no result.
    """
    everything = history.trials[key]
    _verify(key, everything, workspace)
    planned, others = _planned(history, key, places)
    history = history.read_by(planned.study)
    record = history.trials[key]
    complete = record.complete
    if complete is None:
        raise NotJudgedError(f"{key} has no result to reproduce: its state is {record.state}")
    opened = complete.opened
    spec = parsed(planned.study_json.get("subject"))
    _check_subject(opened.trial, spec, planned.study)
    measured_by = _measuring(record, complete, str(planned.study_json.get("protocol", "")))
    return Recorded(
        key=key,
        trial=opened.trial,
        study=opened.study,
        trained=complete,
        measured_by=measured_by,
        student=_student(places, complete),
        folder=_folder(places, measured_by),
        subject=spec,
        planned=planned,
        project=_where(planned, places),
        history=history,
        places=places,
        others=others,
    )


def _verify(key: str, record: TrialHistory, workspace: Workspace) -> None:
    """Every stored copy of the recipe must hash to the key."""
    for attempt in record.ordered:
        _check_hash(key, attempt.opened.trial.expected_key, "the journal")
    file = workspace.trial(key) / "trial.json"
    if not file.is_file():
        return
    try:
        stored = json.loads(limited_text(file))
        names = ("recipe", "replicate", "data", "kind")
        stored_parts = (*(stored[name] for name in names), stored.get("rerun", 0))
        stored_subject = str(stored.get("subject", ""))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NotJudgedError(f"{file} cannot be read ({error!r}): not judged") from error
    _check_hash(key, lambda: key_of(*stored_parts, subject=stored_subject), str(file))


def _check_subject(trial: Trial, spec: SubjectSpec, study: str) -> None:
    """The key says what made the number: the study's plan must not name something else."""
    maker = maker_of_references(spec) if trial.kind == "reference" else identity_of(spec)
    if trial.subject not in ("", maker):
        raise NotJudgedError(
            f"by its key {trial.key} was made by {trial.subject!r}, but study {study!r} names "
            f"{maker!r}: the record was changed after the trial ran, so nothing of it is started"
        )


def _check_hash(key: str, hash_of: Callable[[], str], where: str) -> None:
    try:
        hashed = hash_of()
    except (TypeError, ValueError):
        hashed = "nothing"
    if hashed != key:
        raise NotJudgedError(
            f"the recipe stored in {where} hashes to {hashed}, not to {key}: the record was "
            "changed after the trial ran, so there is nothing trustworthy to reproduce"
        )


def _planned(history: History, key: str, places: Places) -> tuple[Planned, list[str]]:
    """The latest plan that holds the trial, and studies that read a result of other code.

    That of the study that was named; else of one that made its result, or else reads one.
    """
    record = history.trials[key]
    plans = [p for listed in history.planned.values() for p in listed]
    holding = [p for p in plans if any(t.key == key for t in p.trials)]
    if not holding:
        study = record.ordered[-1].opened.study if record.attempts else "?"
        raise NotJudgedError(
            f"no record says how study {study!r} ran trial {key} (subject, protocol): "
            "its journal lacks the planning record"
        )

    def read(planned: Planned) -> Attempt | None:
        return history.read_by(planned.study).trials[key].complete

    def rank(planned: Planned) -> tuple[bool, bool, bool, float]:
        attempt = read(planned)
        own = attempt is not None and attempt.opened.study == planned.study
        return attempt is not None, places.means(planned), own, planned.at

    chosen = max(holding, key=rank)
    result = read(chosen)
    others = {
        p.study
        for p in holding
        if result is not None and (d := read(p)) is not None and d.opened.code != result.opened.code
    }
    return chosen, sorted(others)


def _measuring(record: TrialHistory, done: Attempt, protocol: str) -> Attempt:
    """The newest attempt that measured the counting student, by its study's protocol if one did.

    Studies share trials: another may have measured the student since, under a protocol of its own.
    """
    protocols = {a.opened.protocol for a in record.ordered}
    attempts = {id(a): a for p in protocols for a in contributing(record, p)}.values()
    able = [a for a in attempts if a.closed and a.closed.measurements]
    own = [a for a in able if a.opened.protocol_name == protocol]
    return max(own or able, key=lambda a: a.opened.attempt, default=done)


def _folder(places: Places, attempt: Attempt) -> Path | None:
    inside = Path("trials", attempt.opened.key, "attempts", attempt.folder_name)
    folders = (root / inside for root in places.roots)
    return next((folder for folder in folders if folder.is_dir()), None)


def _student(places: Places, attempt: Attempt) -> Path | None:
    folder = _folder(places, attempt)
    listed = attempt.closed.artifacts if attempt.closed else []
    students = [folder / a.path for a in listed if a.kind == "student"] if folder else []
    return students[-1] if students and students[-1].exists() else None


def _where(planned: Planned, places: Places) -> Path:
    """Project folder of the study, where its subject is imported from."""
    projects = places.projects
    holding = [p for p in projects if planned.study_file and (p / planned.study_file).exists()]
    return (holding or projects)[0]
