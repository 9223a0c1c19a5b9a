"""Students of others as a subject: each trial is one checkpoint, measured and never trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from harness.contract import Context, Fingerprints, Report, Subject
from harness.errors import SubjectError
from harness.journal.labels import label_of
from harness.subjects.any_recipe import AnyRecipe, by_example
from harness.subjects.command import MeasuredElsewhere
from harness.subjects.digests import digest_of, file_digests
from harness.subjects.settings import StudentSettings, StudentsSettings


class StudentsSubject(MeasuredElsewhere):
    """Offers the names of `harness.contract.Subject`. A recipe is the labels of an arm.

    The content of a checkpoint is the trial's data digest: another one in its place makes the
    recorded result stale.
    """

    Recipe: type[AnyRecipe] = AnyRecipe

    def __init__(self, settings: StudentsSettings, project: Path, measuring: Subject) -> None:
        """Take the checkpoints, the folder their paths start from, and what measures them.

        Raises:
            SubjectError: if that subject cannot measure students.
        """
        if not hasattr(measuring, "measure"):
            raise SubjectError(
                f"measured_by: {settings.measured_by} cannot measure students: it has no `measure`"
            )
        self.settings = settings
        self.project = project
        self.take(measuring)
        self._digests: dict[str, str] = {}
        self._by_place = {(_place(s.levels), s.replicate): s for s in settings.students}

    def recipe_model(self, base: Mapping[str, Any]) -> type[AnyRecipe]:
        """Labels, with the types the base shows."""
        return by_example(base, words=True)

    def fingerprints(self, recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        """Digests of the measuring subject: reference rows are shared with other studies.

        What a trial is made of, `data_of` says.
        """
        return self.measuring_fingerprints(protocol)

    def earlier_fingerprints(self, recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        """As the previous version made them."""
        return self.measuring_fingerprints(protocol, earlier=True)

    def data_of(self, recipe: Mapping[str, Any], replicate: int) -> str | None:
        """Digest of a checkpoint and its settings; None where there is no such checkpoint."""
        student = self._by_place.get((self._labels(recipe), replicate))
        return self._digest(student) if student is not None else None

    def scope(self, recipe: Mapping[str, Any], protocol: str) -> str:
        return f"for checkpoints from elsewhere, measured by {PurePath(protocol).stem}"

    def run(self, recipe: Mapping[str, Any], context: Context) -> Iterator[Report]:
        """Measure the checkpoint of this arm and replicate."""
        student = self._by_place[self._labels(recipe), context.replicate]
        known = replace(context, student_settings=student.settings)
        path = self.project / student.path
        info = {"student": str(student.path)}
        for report in self.measuring.measure(path, context.measurement.protocol, known):
            told = {**report.info, **info} if report.measured else report.info
            yield report.model_copy(update={"info": told})

    def _digest(self, student: StudentSettings) -> str:
        if student.path not in self._digests:
            path = self.project / student.path
            self._digests[student.path] = (
                content_digest(path, student.settings)
                if path.exists()
                else student.digest or "gone"
            )
        return self._digests[student.path]

    def _labels(self, recipe: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
        """What of a recipe says which arm it is."""
        names = self.settings.students[0].levels
        return _place({name: recipe[name] for name in names if name in recipe})


def checkpoint_problems(
    measuring: Any, students: Iterable[tuple[Path, Mapping[str, Any]]]
) -> list[str]:
    """What is wrong with some checkpoints, a line each; empty if all can be measured."""
    examine = getattr(measuring, "examine", None)
    found = []
    for path, settings in students:
        try:
            if not path.exists():
                raise ValueError(f"{path} does not exist")
            if examine is not None:
                examine(path, settings)
        except ValueError as error:
            found.append(str(error))
    return found


def content_digest(path: Path, settings: Mapping[str, Any]) -> str:
    """Digest of a checkpoint's files and of what is said about it.

    Raises:
        HarnessError: if a file cannot be read.
    """
    return digest_of({"files": file_digests(path, ["."]), "settings": dict(settings)})


def _place(levels: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """An arm's labels as something to look up; 1 and 1.0 are the same level."""
    return tuple(sorted((name, label_of(value)) for name, value in levels.items()))
