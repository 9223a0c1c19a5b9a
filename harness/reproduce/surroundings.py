"""What stands here today in the place of what a trial ran with: digests, versions, device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.contract import Fingerprints, Subject
from harness.journal import environment
from harness.journal.code import changed_files
from harness.planning.make import selecting
from harness.reproduce.recorded import Recorded
from harness.subjects.load import data_of, digests_of_references
from harness.subjects.settings import name_of

MOST = 20
"""Names of changed code that are told."""


@dataclass(frozen=True)
class Surroundings:
    """What stands here today in the place of what the trial ran with."""

    fingerprints: Fingerprints | None
    """None where the subject cannot work them out; `problem` says what it lacks."""
    device: str
    versions: Mapping[str, str]
    digests: list[str]
    """What differs of data, protocol and code: other numbers are to be expected."""
    beside: list[str]
    """Other versions and another device: last digits may change."""
    problem: str = ""

    @property
    def differences(self) -> list[str]:
        """Everything that differs, in words; empty where nothing does."""
        return [*([self.problem] if self.problem else []), *self.digests, *self.beside]

    def same_data(self, recorded: Recorded) -> bool:
        """Whether the training data is the one in the key."""
        return self.fingerprints is not None and self.fingerprints.data == recorded.trial.data

    def same_protocol(self, recorded: Recorded) -> bool:
        """Whether measuring today means what it meant then."""
        now = self.fingerprints
        return now is not None and now.protocol == recorded.measured_by.opened.protocol


def surroundings_of(recorded: Recorded, subject: Subject) -> Surroundings:
    """Compare code, data, protocol, environment and device with the recorded ones."""
    device = environment.device_model(recorded.gpus > 0)
    versions = environment.versions()
    then = recorded.trained.opened
    beside = [
        f"{name} {then.environment.get(name, 'absent')} then, {versions.get(name, 'absent')} now"
        for name in sorted(then.environment.keys() | versions.keys())
        if then.environment and then.environment.get(name) != versions.get(name)
    ]
    if then.device and then.device != device:
        beside.append(f"device: {then.device} then, {device} now")
    try:
        marks = _marks(recorded, subject)
    except Exception as error:  # today's subject, an old recipe: it may raise anything
        name = recorded.measurement.protocol
        problem = (
            f"code, data and protocol cannot be compared: subject {name_of(recorded.subject)} has "
            f"no digests here for this recipe under protocol {name!r}: {exception_text(error)}"
        )
        return Surroundings(None, device, versions, [], beside, problem)
    return Surroundings(marks, device, versions, _digests(recorded, marks), beside)


def exception_text(error: Exception) -> str:
    """The message; with its type where it was not made for users."""
    for_users = isinstance(error, ValueError | OSError)
    return str(error) if for_users else f"{type(error).__name__}: {error}"


def _marks(recorded: Recorded, subject: Subject) -> Fingerprints:
    measurement, trial = recorded.measurement, recorded.trial
    reference = trial.kind == "reference"
    digests = digests_of_references(subject) if reference else subject.fingerprints
    if not trial.subject:  # what an earlier version recorded compares with its own digests
        digests = getattr(subject, "earlier_fingerprints", digests)
    marks = selecting(digests(trial.recipe, measurement.protocol), measurement.select)
    if trial.kind == "reference":  # shared between replicates, whatever data these have
        return marks
    data = data_of(subject, trial.recipe, trial.replicate, marks)
    return marks.model_copy(update={"data": data or "absent"})


def _digests(recorded: Recorded, marks: Fingerprints) -> list[str]:
    """What differs of data, protocol and code, in words."""
    then, measured = recorded.trained.opened, recorded.measured_by.opened
    differences = []
    if marks.data != recorded.trial.data:
        differences.append(f"data: {recorded.trial.data[:12]} then, {marks.data[:12]} now")
    if marks.protocol != measured.protocol:
        differences.append(
            f"protocol {measured.protocol_name}: {measured.protocol[:12]} then, "
            f"{marks.protocol[:12]} now"
        )
    if marks.code != then.code:
        files = changed_files(then.code_files, marks.code_files)
        more = f" and {len(files) - MOST} more" if len(files) > MOST else ""
        names = ", ".join(files[:MOST]) + more
        where = names or f"{then.code[:12]} then, {marks.code[:12]} now"
        differences.append(f"code: {where}")
    return differences
