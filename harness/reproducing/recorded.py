"""One trial as it was recorded: found by its key, proven by it, compared with what is here now."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analyse.observed import contributing
from harness.contract import Fingerprints, Measurement, Subject
from harness.errors import NotJudgedError
from harness.journal import Attempt, History, MeasuredAt, Planned, TrialHistory
from harness.running import environment
from harness.running.standing import only_key
from harness.trial import Trial, key_of
from harness.workspace import FOLDER, Workspace, project_of

RESULTS = "results"


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
    subject: str
    settings: Mapping[str, Any]
    """The study's canonical JSON, as far as it was recorded."""
    project: Path
    history: History

    @property
    def measurement(self) -> Measurement:
        """How the trial was measured."""
        return Measurement(
            protocol=self.measured_by.opened.protocol_name or str(self.settings["protocol"]),
            at=tuple(self.settings.get("measure_at") or ()),
            select=str(self.settings.get("select") or "ema"),
        )

    @property
    def gpus(self) -> float:
        """GPUs the trial had."""
        return float((self.settings.get("resources") or {}).get("gpus", 0.0))

    @property
    def cpus(self) -> float:
        """CPU cores the trial had; they set the number of threads, which can change last digits."""
        return float((self.settings.get("resources") or {}).get("cpus", 1.0))

    def values(self) -> list[MeasuredAt]:
        """Recorded measurements by step, under the protocol that is reproduced."""
        record = self.history.trials[self.key]
        return record.measured(self.measured_by.opened.protocol)


def history_folders(workspace: Workspace, study: Path | None = None) -> list[Path]:
    """Where records are looked for: the workspace, a study's results, and the project's studies.

    Args:
        workspace: its journal comes first.
        study: a study file, its folder, or its results folder; None searches `studies/*/results`.
    """
    if study is not None:
        folder = study if study.is_dir() else study.parent
        return [workspace.journal, folder, folder / RESULTS]
    project = _project(workspace)
    return [workspace.journal, *sorted(project.glob(f"studies/*/{RESULTS}"))]


def _project(workspace: Workspace) -> Path:
    if workspace.root.name == FOLDER:
        return workspace.root.parent
    return project_of(Path.cwd() / "x")


def find(prefix: str, workspace: Workspace, study: Path | None = None) -> Recorded:
    """The record of the one trial whose key starts with `prefix`, verified against its key.

    Raises:
        HarnessError: if no key or several keys start so.
        NotJudgedError: if the record was changed, is incomplete, or holds no result.
    """
    history = History.read(history_folders(workspace, study))
    key = only_key(history, prefix, workspace)
    record = history.trials[key]
    done = record.complete
    if done is None:
        raise NotJudgedError(f"{key} has no result to reproduce: its state is {record.state}")
    _verify(key, record, workspace)
    planned = _planned(history, key, done.opened.study)
    opened = done.opened
    return Recorded(
        key=key,
        trial=opened.trial,
        study=opened.study,
        trained=done,
        measured_by=_measuring(record, done),
        student=_student(workspace, key, done),
        subject=str(planned.study_json.get("subject") or "recipes.subject"),
        settings=planned.study_json,
        project=_where(planned, workspace, study),
        history=history,
    )


def _verify(key: str, record: TrialHistory, workspace: Workspace) -> None:
    """Every stored copy of the recipe must hash to the key."""
    for attempt in record.ordered:
        trial = attempt.opened.trial
        parts = (trial.recipe, trial.replicate, trial.data, trial.kind, trial.rerun)
        _check_hash(key, parts, "the journal")
    file = workspace.trial(key) / "trial.json"
    if not file.is_file():
        return
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        names = ("recipe", "replicate", "data", "kind")
        stored_parts = (*(stored[name] for name in names), stored.get("rerun", 0))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise NotJudgedError(f"{file} cannot be read ({error!r}): not judged") from error
    _check_hash(key, stored_parts, str(file))


def _check_hash(key: str, parts: tuple[Any, ...], where: str) -> None:
    try:
        hashed = key_of(*parts)
    except (TypeError, ValueError):
        hashed = "nothing"
    if hashed != key:
        raise NotJudgedError(
            f"the recipe stored in {where} hashes to {hashed}, not to {key}: the record was "
            "changed after the trial ran, so there is nothing trustworthy to reproduce"
        )


def _planned(history: History, key: str, study: str) -> Planned:
    """The latest plan that holds the trial, its own study's first."""
    plans = [p for listed in history.planned.values() for p in listed]
    holding = [p for p in plans if any(t.key == key for t in p.trials)]
    if not holding:
        raise NotJudgedError(
            f"no record says how study {study!r} ran trial {key} (subject, protocol): "
            "its journal lacks the planning record"
        )
    return max(holding, key=lambda p: (p.study == study, p.at))


def _measuring(record: TrialHistory, done: Attempt) -> Attempt:
    """The newest attempt that measured the counting student; the training one if none did."""
    protocols = {a.opened.protocol for a in record.ordered}
    attempts = {id(a): a for p in protocols for a in contributing(record, p)}.values()
    able = [a for a in attempts if a.closed and a.closed.measurements]
    return max(able, key=lambda a: a.opened.attempt, default=done)


def _student(workspace: Workspace, key: str, done: Attempt) -> Path | None:
    folder = workspace.trial(key) / "attempts" / done.folder_name
    listed = done.closed.artifacts if done.closed else []
    kept = [folder / a.path for a in listed if a.kind == "student"]
    return kept[-1] if kept and kept[-1].exists() else None


def _where(planned: Planned, workspace: Workspace, study: Path | None) -> Path:
    """Project folder of the study, where its subject is imported from."""
    candidates = [project_of(study.resolve())] if study is not None else []
    candidates += [_project(workspace), project_of(Path.cwd() / "x")]
    holding = [c for c in candidates if planned.study_file and (c / planned.study_file).exists()]
    return (holding or candidates)[0]


@dataclass(frozen=True)
class Now:
    """What stands here today in the place of what the trial ran with."""

    fingerprints: Fingerprints
    device: str
    versions: Mapping[str, str]
    differences: list[str]
    """Sentences, empty where nothing differs."""

    def same_data(self, recorded: Recorded) -> bool:
        """Whether the training data is the one in the key."""
        return self.fingerprints.data == recorded.trial.data

    def same_protocol(self, recorded: Recorded) -> bool:
        """Whether measuring today means what it meant then."""
        return self.fingerprints.protocol == recorded.measured_by.opened.protocol


def now(recorded: Recorded, subject: Subject) -> Now:
    """Compare code, data, protocol, environment and device with the recorded ones."""
    marks = subject.fingerprints(recorded.trial.recipe, recorded.measurement.protocol)
    device = environment.device_model(recorded.gpus > 0)
    versions = environment.versions()
    then = recorded.trained.opened
    found = []
    if marks.data != recorded.trial.data:
        found.append(f"data: {recorded.trial.data[:12]} then, {marks.data[:12]} now")
    measured = recorded.measured_by.opened
    if marks.protocol != measured.protocol:
        found.append(
            f"protocol {measured.protocol_name}: {measured.protocol[:12]} then, "
            f"{marks.protocol[:12]} now"
        )
    if marks.code != then.code:
        files = changed_files(then.code_files, marks.code_files)
        where = ", ".join(files) if files else f"{then.code[:12]} then, {marks.code[:12]} now"
        found.append(f"code: {where}")
    found += [
        f"{name} {then.environment.get(name, 'absent')} then, {versions.get(name, 'absent')} now"
        for name in sorted(then.environment.keys() | versions.keys())
        if then.environment and then.environment.get(name) != versions.get(name)
    ]
    if then.device and then.device != device:
        found.append(f"device: {then.device} then, {device} now")
    return Now(marks, device, versions, found)


def changed_files(then: Mapping[str, str], today: Mapping[str, str]) -> list[str]:
    """Source files whose digest differs, with what happened to them."""
    if not then or not today:
        return []
    found = []
    for name in sorted(then.keys() | today.keys()):
        if name not in today:
            found.append(f"{name} (gone)")
        elif name not in then:
            found.append(f"{name} (new)")
        elif then[name] != today[name]:
            found.append(f"{name} (changed)")
    return found
