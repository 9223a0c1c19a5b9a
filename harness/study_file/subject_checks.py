"""Checks of `subject`: that it can be found, and that a command fits its folder and its recipe."""

from __future__ import annotations

from pathlib import Path

from harness import subjects
from harness.contract import Subject
from harness.errors import SubjectError
from harness.study_file.document import Document
from harness.study_file.resolve import Resolver
from harness.study_file.shape import Shape
from harness.subjects.placeholders import Placeholder, placeholders
from harness.subjects.settings import CommandSettings, StudentsSettings
from harness.workspace import project_of


class SubjectChecks:
    """Finds the subject; problems go to the document."""

    def __init__(self, file: Path, document: Document, shape: Shape) -> None:
        self.document = document
        self.shape = shape
        self.project = project_of(file)
        self.spec: str | CommandSettings | StudentsSettings = shape.study.subject
        """The subject, its paths relative to the project."""
        if not isinstance(self.spec, str):
            self.spec = self.spec.placed(file.resolve().parent, self.project)

    def run(self) -> Subject | None:
        """The subject; None if there is none to judge the rest of the study with."""
        if "subject" in self.shape.lost:
            return None
        if isinstance(self.spec, CommandSettings) and not self._in_place(self.spec):
            return None
        try:
            return subjects.load(self.spec, project=self.project)
        except SubjectError as error:
            self.document.fail(str(error), "subject")
            return None

    def against(self, resolver: Resolver | None) -> None:
        """Check what a command says of the recipe and of measuring."""
        if not isinstance(self.spec, CommandSettings):
            return
        for field, text in self.spec.templates() if resolver is not None else ():
            for placeholder in placeholders(text):
                self._known(placeholder, field, text, resolver)
        if self.spec.student is not None and self.shape.study.measure_at:
            self.document.fail(
                "a command's student is measured at the end; `measure_at` is for trainers that "
                "report `metrics` themselves",
                "measure_at",
                key=True,
            )

    def _in_place(self, spec: CommandSettings) -> bool:
        """Whether the folder and the files it names are there."""
        root = self.project / spec.cwd
        if not root.is_dir():
            self.document.fail(f"{root.resolve()} is not a folder", "subject", "cwd")
            return False
        good = True
        for field in ("code", "data"):
            for index, name in enumerate(getattr(spec, field)):
                if not (root / name).exists():
                    said = f"{name!r} does not exist in {root.resolve()} (cwd)"
                    self.document.fail(said, "subject", field, index)
                    good = False
        return good

    def _known(
        self, placeholder: Placeholder, field: str, text: str, resolver: Resolver | None
    ) -> None:
        space, _, path = placeholder.name.partition(".")
        unknown = resolver.unknown(path) if resolver and space == "recipe" else None
        if unknown is not None:
            where = f" ({{{placeholder.name}}} in {text!r})"
            self.document.fail(unknown + where, "subject", field)
