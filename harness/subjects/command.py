"""A command as a subject: someone else's trainer, its recipe any mapping, its student measured."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

from harness.contract import Artifact, Context, Fingerprints, MetricSpec, Outcome, Report, Subject
from harness.errors import SubjectError
from harness.journal.item_table import KINDS
from harness.subjects.any_recipe import AnyRecipe, by_example, by_schema
from harness.subjects.digests import digest_of, file_digests
from harness.subjects.identity import invocation_of
from harness.subjects.settings import CommandSettings
from harness.subjects.trainer import Trainer, TrainerError
from harness.text.secrets import public


class MeasuredElsewhere:
    """Protocols and reference rows are those of the measuring subject."""

    measuring: Any
    metrics: Mapping[str, MetricSpec]
    protocols: tuple[str, ...]
    default_protocol: str

    def take(self, measuring: Subject) -> None:
        self.measuring = measuring
        self.metrics = measuring.metrics
        self.protocols = tuple(getattr(measuring, "protocols", ()))
        first = next(iter(self.protocols), "default")
        self.default_protocol = getattr(measuring, "default_protocol", "") or first

    def references(
        self, recipe: Mapping[str, Any], protocol: str
    ) -> Mapping[str, Mapping[str, Any]]:
        """Reference rows beside the measuring subject's own default recipe; none if it has none."""
        offered = getattr(self.measuring, "references", None)
        usual = self._usual_recipe()
        if offered is None or usual is None or not hasattr(self.measuring, "reference"):
            return {}
        rows: Mapping[str, Mapping[str, Any]] = offered(usual, protocol)
        return rows

    def reference(self, settings: Mapping[str, Any], context: Context) -> Iterator[Report]:
        return iter(self.measuring.reference(settings, context))

    def reference_fingerprints(self, settings: Mapping[str, Any], protocol: str) -> Fingerprints:
        """Digests of a reference row: the measuring subject makes it, for every trainer alike."""
        found: Fingerprints = self.measuring.fingerprints(settings, protocol)
        return found

    def measuring_fingerprints(self, protocol: str, *, earlier: bool = False) -> Fingerprints:
        """Digests of measuring alone: those of a reference row, which nothing is trained for.

        Without reference rows, those of the measuring subject's own default recipe.

        Args:
            protocol: name or path.
            earlier: as the previous version made them, where the subject knows how.
        """
        settings = next(iter(self.references({}, protocol).values()), None)
        if settings is None:
            settings = self._usual_recipe() or {}
        prints = self.measuring.fingerprints
        if earlier:
            prints = getattr(self.measuring, "earlier_fingerprints", prints)
        found: Fingerprints = prints(settings, protocol)
        return found

    def _usual_recipe(self) -> dict[str, Any] | None:
        try:
            recipe: dict[str, Any] = self.measuring.Recipe().model_dump(mode="json")
        except ValueError:
            return None
        return recipe


MOST_LISTED = 200
"""Data files whose digests a record lists, to say which one changed."""
OWN_PROTOCOL = "trainer"
"""Protocol of a study whose trainer measures itself."""


class CommandSubject:
    """Offers the names of `harness.contract.Subject`."""

    Recipe: type[AnyRecipe] = AnyRecipe

    def __init__(self, settings: CommandSettings, project: Path) -> None:
        """Take what the study says, and the folder its relative paths start from."""
        self.settings = settings
        self.project = project
        self.root = (project / settings.cwd).resolve()
        self.metrics: Mapping[str, MetricSpec] = dict(settings.metrics)
        self.default_protocol = OWN_PROTOCOL
        self.protocols: tuple[str, ...] = (OWN_PROTOCOL,)
        self._files: tuple[dict[str, str], dict[str, str]] | None = None

    def recipe_model(self, base: Mapping[str, Any]) -> type[AnyRecipe]:
        """The recipe's model: that of the JSON Schema, or the example the base recipe gives."""
        if self.settings.recipe_schema is None:
            return by_example(base)
        return by_schema(self.project / self.settings.recipe_schema)

    def fingerprints(self, recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        """Digests. The words of the command count like code; the folder of the program does not.

        So another option makes results stale, and they can be kept: only what the command is
        called is in the key (harness/subjects/identity.py).
        """
        code, data = self._digests()
        env = digest_of(public(self.settings.env))
        listed = code | {"environment variables": env}
        if self.settings.student_settings:
            listed["student_settings"] = digest_of(self.settings.student_settings)
        words = invocation_of(self.settings)
        return Fingerprints(
            data=digest_of(data),
            protocol=self._declared(),
            code=digest_of([listed, words]),
            code_files=listed | {"command": digest_of(words)},
            data_files=data if len(data) <= MOST_LISTED else {},
            invocation=words,
        )

    def earlier_fingerprints(self, recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        """As the previous version made them: the words of the command counted as data."""
        code, data = self._digests()
        given = [*invocation_of(self.settings), self.settings.student_settings]
        env = digest_of(public(self.settings.env))
        return Fingerprints(
            data=digest_of({"command": given, "files": data}),
            protocol=self._declared(),
            code=digest_of([code, env]),
            code_files=code | {"environment variables": env},
        )

    def _declared(self) -> str:
        return digest_of({name: spec.model_dump() for name, spec in self.settings.metrics.items()})

    def missing(self, recipe: Mapping[str, Any], protocol: str) -> tuple[str, ...]:
        """Variables that the trainer gets from outside and that are not set."""
        return tuple(f"environment variable {name}: set it" for name in self.settings.unset())

    def scope(self, recipe: Mapping[str, Any], protocol: str) -> str:
        plain = itertools.takewhile(_is_plain, self.settings.words[1:])
        return f"with the trainer `{' '.join([PurePath(self.settings.words[0]).name, *plain])}`"

    def run(self, recipe: Mapping[str, Any], context: Context) -> Iterator[Report]:
        """Train with the command, then measure what it left.

        Raises:
            TrainerError: it failed, or did not leave or report what it should.
        """
        trainer = Trainer(self.settings, self.root, dict(recipe), context)
        diverged = yield from trainer.reports()
        if diverged is None and not trainer.stopped:
            trainer.thin()
            yield from self._measured(trainer)

    def _measured(self, trainer: Trainer) -> Iterator[Report]:
        lacking = [
            name
            for name, spec in self.settings.metrics.items()
            if spec.headline and name not in trainer.own
        ]
        if lacking:
            raise TrainerError(
                f"the trainer ended well but never reported {', '.join(lacking)} in "
                f"{trainer.text(self.settings.progress)}; it reported "
                f"{', '.join(trainer.own) or 'none of the declared metrics'}"
            )
        artifacts, told = trainer.tables(last=True)
        yield Report(
            step=trainer.step,
            total=trainer.total,
            measured=True,
            metrics=trainer.own,
            artifacts=artifacts,
            info=told,
            outcome=Outcome(state="done"),
        )

    def _digests(self) -> tuple[dict[str, str], dict[str, str]]:
        """Of code and of data, read once: a plan asks for every arm."""
        if self._files is None:
            code, data = (file_digests(self.root, n) for n in self._named())
            self._files = ({k: v[:16] for k, v in code.items()}, data)
        return self._files

    def _named(self) -> tuple[list[str], list[str]]:
        return self.settings.code, self.settings.data


class MeasuredCommandSubject(MeasuredElsewhere, CommandSubject):
    """A command that leaves a student, which another subject measures under a protocol."""

    def __init__(self, settings: CommandSettings, project: Path, measuring: Subject) -> None:
        super().__init__(settings, project)
        self.take(measuring)
        self.metrics = {**measuring.metrics, **settings.metrics}

    def fingerprints(self, recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        """Those of the command, and how the student is measured."""
        own = super().fingerprints(recipe, protocol)
        return _measured_by(own, self.measuring_fingerprints(protocol))

    def earlier_fingerprints(self, recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        """As the previous version made them."""
        own = super().earlier_fingerprints(recipe, protocol)
        return _measured_by(own, self.measuring_fingerprints(protocol, earlier=True))

    def scope(self, recipe: Mapping[str, Any], protocol: str) -> str:
        return f"{super().scope(recipe, protocol)}, measured by {PurePath(protocol).stem}"

    def measure(self, student: Path, protocol: str, context: Context) -> Iterator[Report]:
        known = replace(context, student_settings=self.settings.student_settings)
        return iter(self.measuring.measure(student, protocol, known))

    def _measured(self, trainer: Trainer) -> Iterator[Report]:
        assert self.settings.student is not None
        student = Path(trainer.text(self.settings.student))
        if not student.exists():
            raise TrainerError(
                f"the trainer ended well but left no student at {student}; `student` of the "
                "subject says where it is expected"
            )
        kept = student.relative_to(trainer.context.folder).as_posix()
        yield Report(
            step=trainer.step,
            total=trainer.total,
            artifacts=(Artifact(kind="student", path=kept, step=trainer.step),),
        )
        protocol = trainer.context.measurement.protocol
        for report in self.measure(student, protocol, trainer.context):
            place: dict[str, Any] = {"step": trainer.step, "total": trainer.total}
            if report.measured:
                artifacts, told = trainer.tables(last=True)
                place["metrics"] = {**report.metrics, **trainer.own}
                place["artifacts"] = (*_at(report.artifacts, trainer.step), *artifacts)
                place["info"] = {**report.info, **told}
            yield report.model_copy(update=place)


def _at(artifacts: tuple[Artifact, ...], step: int) -> Iterator[Artifact]:
    """Tables that whoever measured gave another step: they belong to the trainer's, as numbers."""
    for artifact in artifacts:
        moved = artifact.kind in KINDS and artifact.step is not None
        yield artifact.model_copy(update={"step": step}) if moved else artifact


def _measured_by(own: Fingerprints, theirs: Fingerprints) -> Fingerprints:
    return own.model_copy(
        update={
            "protocol": theirs.protocol,
            "code": digest_of([own.code, theirs.code]),
            "code_files": theirs.code_files | own.code_files,
        }
    )


def _is_plain(word: str) -> bool:
    """Whether a word belongs to the name of a trainer: no option, no placeholder."""
    return not word.startswith("-") and "{" not in word and "=" not in word


def command_subject(settings: CommandSettings, project: Path, measuring: Any) -> CommandSubject:
    """The subject of a command.

    Raises:
        SubjectError: if its student cannot be measured.
    """
    if settings.student is None:
        return CommandSubject(settings, project)
    if not hasattr(measuring, "measure"):
        raise SubjectError(
            f"measured_by: {settings.measured_by} cannot measure students: it has no `measure`"
        )
    return MeasuredCommandSubject(settings, project, measuring)
