"""What `subject:` of a study file may say: a module, a command, or a list of students."""

from __future__ import annotations

import os
import shlex
from pathlib import Path, PurePath
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    TypeAdapter,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from harness.contract import MetricSpec
from harness.subjects.placeholders import OUTSIDE, placeholders
from harness.text.secrets import public, unset

MEASURED_BY = "recipes.subject"
INSIDE = "{attempt}/"
TABLES = ("items", "prompts")
"""Fields that name tables of values by item and by prompt, one for each measured step."""
_EVERYTHING = {"attempt", "gpus", "key", "recipe_file", "replicate", "recipe", "seed"}
_Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class CommandSettings(_Strict):
    """Someone else's trainer, as a command. It is started without a shell, once an attempt."""

    command: _Text | list[_Text] = Field(
        description="Program and arguments; text is split like a shell would, then placeholders "
        "are filled in, so that no value can add an argument. {key} {replicate} {attempt} {gpus} "
        "{seed.<stream>} {recipe.<path>} {recipe_file} {resume}; {{ and }} for braces."
    )
    name: str | None = Field(
        None,
        min_length=1,
        max_length=100,
        description="What the trainer is called in the key of every trial. Default: its program "
        "with the script or `-m module` that it starts; with a name, these may be renamed.",
    )
    cwd: str = Field(".", description="Folder it is started in, relative to the study file.")
    code: list[_Text] = Field(
        min_length=1,
        description="Files and folders, relative to `cwd`, whose contents are the code digest.",
    )
    data: list[_Text] = Field(
        default_factory=list,
        description="Files and folders, relative to `cwd`, that the data digest (and so the key) "
        "covers: training data, base weights.",
    )
    progress: str = Field(
        "{attempt}/progress.jsonl",
        description='File the trainer appends to, a line a report: {"step": 10, "total": 100, '
        '"metrics": {"train/loss": 0.3}}; or flat, {"step": 10, "loss": 0.3}. Of other keys, '
        '"diverged" holds why it gives up.',
    )
    items: str | None = Field(
        None,
        description="Table of values by item that the trainer writes before it reports a measured "
        "step, e.g. `{attempt}/items-{step}.csv`; without {step}, that of the end. So claims hold "
        "over prompts, too. CSV with a row an item: `item`, and where there are any `prompt` (what "
        "several items were made from), `stratum` (a category; the metric is the mean over them), "
        "`weight`, `stratum_weight`; and a column for each metric, named as the metric.",
    )
    prompts: str | None = Field(
        None,
        description="The same for metrics that are no means of items, such as FID: a row a "
        "`prompt`, with the jackknife's pseudo-values P D - (P - 1) D(without that prompt), D the "
        "distance in the stratum and P its prompts.",
    )
    student: str | None = Field(
        None, description="Folder the trainer leaves its student in, measured by the protocol."
    )
    student_settings: dict[str, Any] = Field(
        default_factory=dict,
        description="What the student's own files do not say, for example `base` of a LoRA.",
    )
    measured_by: str = Field(
        MEASURED_BY, description="Subject, as `package.module`, that measures the student."
    )
    metrics: dict[str, MetricSpec] = Field(
        default_factory=dict,
        description="Metrics the trainer itself measures and reports: name -> unit, direction, "
        "headline. The last value reported counts.",
    )
    checkpoint: str = Field(
        "",
        description="Pattern of complete checkpoints, e.g. `{attempt}/checkpoint-*`; the one with "
        "the largest numbers in its name is the newest.",
    )
    keep: int | None = Field(
        None,
        ge=1,
        description="How many checkpoints, the newest ones, are left of a trial that is over. "
        "Without it nothing that the trainer wrote is deleted.",
    )
    resume: str = Field(
        "",
        description="Further arguments where there is a checkpoint to continue from, e.g. "
        "`--resume {resume}`. Without one, {resume} is empty.",
    )
    env: dict[str, str] = Field(
        default_factory=dict,
        description="Environment variables, on top of those there are. Where the name says TOKEN, "
        "KEY, SECRET, PASS or CREDENTIAL, no record holds the value; {env:NAME} is taken from the "
        "environment of `run`.",
    )
    recipe_schema: str | None = Field(
        None,
        description="JSON Schema of the recipe, relative to the study file. Without one, paths and "
        "types are those of the base recipe.",
    )
    grace_seconds: float = Field(
        60.0, ge=0, description="Between SIGTERM and SIGKILL when the trainer has to stop."
    )

    @field_validator("command", "resume")
    @classmethod
    def _command(cls, value: str | list[str]) -> str | list[str]:
        for text in [value] if isinstance(value, str) else value:
            _refuse_others(text, _EVERYTHING | {"resume"})
        split(value)
        return value

    @field_validator("env")
    @classmethod
    def _environment(cls, value: dict[str, str]) -> dict[str, str]:
        for text in value.values():
            _refuse_others(text, _EVERYTHING | {"resume", OUTSIDE})
        return value

    @field_serializer("env", when_used="json")
    def _recorded(self, value: dict[str, str]) -> dict[str, str]:
        """Secrets are in no record and no digest."""
        return public(value)

    def unset(self) -> list[str]:
        """Variables that `env` takes from outside and that are not set here."""
        return unset(self.env.values())

    @field_validator("progress", "student", "checkpoint", "items", "prompts")
    @classmethod
    def _inside_the_attempt(cls, value: str | None, about: ValidationInfo) -> str | None:
        if not value:
            return value
        tables = {"step"} if about.field_name in TABLES else set()
        _refuse_others(value, _EVERYTHING | tables)
        if tables and not value.endswith(".csv"):
            raise ValueError("must be a CSV file, its name ending in .csv")
        if not value.startswith(INSIDE) or ".." in PurePath(value).parts:
            raise ValueError(
                f"must start with {INSIDE} and stay inside it: attempts run side by side, and "
                "only what lies in an attempt's folder is known to be its own"
            )
        return value

    @model_serializer(mode="wrap")
    def _without_later_fields(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Not said is left out: studies recorded before there was the field are the same."""
        made: dict[str, Any] = plain(self)
        for name in ("keep", "name", *TABLES):
            if getattr(self, name) is None:
                made.pop(name, None)
        return made

    @model_validator(mode="after")
    def _measures_something(self) -> CommandSettings:
        if self.student is None and not self.metrics:
            raise ValueError(
                "nothing would be measured: give `student` (a folder the protocol measures), or "
                "`metrics` (numbers the trainer reports itself), or both"
            )
        if self.keep is not None and not self.checkpoint:
            raise ValueError(
                "`keep` counts checkpoints: say with `checkpoint` which files they are"
            )
        if self.student is None and not any(m.headline for m in self.metrics.values()):
            raise ValueError("`metrics` marks none as headline: true; the study needs one to judge")
        return self

    @property
    def words(self) -> list[str]:
        """Program and arguments, placeholders still in them."""
        return split(self.command)

    @property
    def resume_words(self) -> list[str]:
        """Further arguments of an attempt that continues."""
        return split(self.resume)

    def templates(self) -> list[tuple[str, str]]:
        """(field, text) of every text that may hold placeholders."""
        texts = [("command", word) for word in self.words]
        texts += [("env", text) for text in self.env.values()]
        return texts + [
            (name, getattr(self, name) or "")
            for name in ("resume", "progress", "student", "checkpoint", *TABLES)
        ]

    def placed(self, folder: Path, project: Path) -> CommandSettings:
        """With paths that were relative to the study's folder made relative to its project."""
        schema = self.recipe_schema
        return self.model_copy(
            update={
                "cwd": relative(self.cwd, folder, project),
                "recipe_schema": schema and relative(schema, folder, project),
            }
        )


def split(command: str | list[str]) -> list[str]:
    """Words of a command as a shell would split it, nothing expanded.

    Raises:
        ValueError: for a quote that is not closed, or no word at all.
    """
    if isinstance(command, list):
        return command
    try:
        return shlex.split(command)
    except ValueError as error:
        raise ValueError(f"cannot be split into words: {error}") from None


def relative(path: str, folder: Path, project: Path) -> str:
    """A path relative to `folder` as one relative to `project`; absolute ones stay."""
    given = Path(path).expanduser()
    if given.is_absolute():
        return str(given)
    return PurePath(os.path.relpath(folder / given, project)).as_posix()


def _refuse_others(text: str, known: set[str]) -> None:
    for placeholder in placeholders(text):
        space = OUTSIDE if placeholder.name.startswith(OUTSIDE) else placeholder.name
        if space.partition(".")[0] not in known:
            where = "`items` and `prompts`" if space == "step" else "the command"
            raise ValueError(f"{{{placeholder.name}}} has no meaning here, only in {where}")


class StudentSettings(_Strict):
    """One checkpoint from elsewhere."""

    path: _Text = Field(description="Student's folder, relative to the study file.")
    levels: dict[str, Any] = Field(min_length=1, description="Factor -> level: which arm it is of.")
    replicate: int = Field(0, ge=0, lt=1000, description="Which independent repetition it is.")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="What its files do not say, e.g. `base` of a LoRA."
    )
    digest: str = Field(
        "",
        description="Digest of its files, as `stillhouse measure` notes it: results stay readable "
        "where the folder is gone.",
    )


class StudentsSettings(_Strict):
    """Checkpoints from elsewhere, measured under a protocol; nothing is trained."""

    students: list[StudentSettings] = Field(min_length=1, description="The checkpoints.")
    measured_by: str = Field(
        MEASURED_BY, description="Subject, as `package.module`, that measures them."
    )

    @model_validator(mode="after")
    def _one_each(self) -> StudentsSettings:
        factors = set(self.students[0].levels)
        seen: dict[str, str] = {}
        for student in self.students:
            if set(student.levels) != factors:
                raise ValueError(
                    f"{student.path} is labelled with {sorted(student.levels)}, the first one with "
                    f"{sorted(factors)}: every checkpoint needs the same labels"
                )
            place = f"{dict(sorted(student.levels.items()))} replicate {student.replicate}"
            if place in seen:
                raise ValueError(
                    f"{student.path} and {seen[place]} both are {place}: number the repetitions of "
                    "an arm with `replicate`"
                )
            seen[place] = student.path
        return self

    def placed(self, folder: Path, project: Path) -> StudentsSettings:
        """As `CommandSettings.placed`."""
        moved = [
            s.model_copy(update={"path": relative(s.path, folder, project)}) for s in self.students
        ]
        return self.model_copy(update={"students": moved})


def _kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "module"
    if isinstance(value, StudentsSettings) or (isinstance(value, dict) and "students" in value):
        return "StudentsSettings"
    return "CommandSettings" if isinstance(value, dict | CommandSettings) else None


SubjectSpec = Annotated[
    Annotated[_Text, Tag("module")]
    | Annotated[CommandSettings, Tag("CommandSettings")]
    | Annotated[StudentsSettings, Tag("StudentsSettings")],
    Discriminator(
        _kind,
        custom_error_type="subject_kind",
        custom_error_message="give `package.module`, or a mapping with `command` or `students`",
    ),
]
"""What a study names as its subject. Plain text is a module."""

_ADAPTER: TypeAdapter[str | CommandSettings | StudentsSettings] = TypeAdapter(SubjectSpec)


def parsed(value: Any) -> str | CommandSettings | StudentsSettings:
    """A subject as it was recorded; nothing recorded means ours.

    Raises:
        ValueError: for data that is no subject.
    """
    return _ADAPTER.validate_python(value or MEASURED_BY)


def imported_by(spec: str | CommandSettings | StudentsSettings) -> str:
    """The module that loading a subject imports: itself, or what measures; empty for none."""
    if isinstance(spec, str):
        return spec
    measures = not isinstance(spec, CommandSettings) or spec.student is not None
    return spec.measured_by if measures else ""


def alike(one: SubjectSpec, two: SubjectSpec) -> bool:
    """Whether trials of two subjects take about as long: the same module, trainer or measuring."""
    if isinstance(one, CommandSettings) and isinstance(two, CommandSettings):
        return (one.words, one.cwd) == (two.words, two.cwd) and imported_by(one) == imported_by(two)
    return type(one) is type(two) and imported_by(one) == imported_by(two)


def name_of(spec: str | CommandSettings | StudentsSettings) -> str:
    """Short name of a subject, for messages."""
    if isinstance(spec, CommandSettings):
        return f"command {' '.join(spec.words)[:60]}"
    if isinstance(spec, StudentsSettings):
        return f"{len(spec.students)} students of others"
    return spec
