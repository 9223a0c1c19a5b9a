"""The study file: a question, what varies, how it is measured, and which contrasts are judged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from harness.journal.labels import label_of
from harness.journal.trial import canonical
from harness.study.kinds import KEYS, ContrastKind
from harness.subjects.settings import SubjectSpec
from harness.text.spelling import nearest

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema


DESIGNS: dict[str, str] = {
    "full": "every combination",
    "one_factor": "the baseline and one change at a time",
    "leave_one_out": "everything on, and each factor at its `off` level",
    "pairs": "the baseline, single changes and all pairs of changes",
    "fractional": "a fraction of all combinations of two levels each, by `resolution`",
    "zip": "the factors advance together",
    "explicit": "the arms listed",
}
"""Design -> its arms, in words."""

LATER_FIELDS = ("resolution", "reruns")
"""Fields younger than the first recorded results: left out of the digest while not given."""

ORDERS = ("true", "log", "rank", "{scores: [...]}")
"""What `ordered` may say."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
_FACTOR = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
_Word = Annotated[str, Field(min_length=1)]
_Levels = dict[str, Any]
_Two = Annotated[list[_Word], Field(min_length=2, max_length=2)]
_Pair = Annotated[list[Any], Field(min_length=2, max_length=2)]


def _known_design(value: str) -> str:
    if value not in DESIGNS:
        raise ValueError(f"unknown design{nearest(value, DESIGNS)}")
    return value


class _StrictPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Scores(_StrictPart):
    """Where the levels of an ordered factor stand, in the order they are listed."""

    scores: list[Annotated[float, Field(allow_inf_nan=False)]] = Field(
        min_length=1, description="A number for each level, in the order they are listed."
    )


def _order(value: Any) -> Any:
    if isinstance(value, bool | dict | Scores) or value in ("log", "rank"):
        return value
    raise ValueError(f"an order is one of {', '.join(ORDERS)}{nearest(value, ('log', 'rank'))}")


def _order_of(value: Any) -> str:
    """Which form of an order it is; tags that are no key of the file, so that places hold."""
    word = "<scores>" if isinstance(value, dict | Scores) else "<word>"
    return "<truth>" if isinstance(value, bool) else word


_Ordered = Annotated[
    Annotated[bool, Tag("<truth>")]
    | Annotated[Literal["log", "rank"], Tag("<word>")]
    | Annotated[Scores, Tag("<scores>")],
    Discriminator(_order_of),
    BeforeValidator(_order),
]


class Factor(_StrictPart):
    """What varies. A bare list is short for `{path: <the factor's name>, levels: [...]}`."""

    path: str | None = Field(
        None, description="Dotted recipe path that the levels set; default the factor's name."
    )
    levels: list[Any] | dict[str, Any] = Field(
        min_length=1,
        description="Values for `path`; or name -> value; or, without `path`, name -> "
        "{path: value, ...} for levels that set several fields.",
    )
    off: Any = Field(
        None, description="For design leave_one_out: the level that takes this factor out."
    )
    ordered: _Ordered = Field(
        False,
        description="That the levels are steps of one quantity, for a `trend` over them. true: "
        "their own numbers; log: logarithms to base 2, so that a step is a doubling; rank: 1, 2, "
        "3, ... as listed; {scores: [...]}: these numbers.",
    )

    @property
    def has_off(self) -> bool:
        """Whether `off` is given; null is a level like any other."""
        return "off" in self.model_fields_set

    @model_serializer(mode="wrap")
    def _without_absent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A record read back must still tell an `off` that is null from none.

        `ordered` is younger than the first recorded results: left out while not given.
        """
        written: dict[str, Any] = handler(self)
        absent = {*(() if self.has_off else ("off",)), *(() if self.ordered else ("ordered",))}
        return {k: v for k, v in written.items() if k not in absent}

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, value: Any) -> Any:
        return {"levels": value} if isinstance(value, list) else value

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        written = handler.resolve_ref_schema(handler(core_schema)).copy()
        levels = {"type": "array", "minItems": 1, "description": "Values; the path is the name."}
        return {"anyOf": [written, levels]}


class Sooner(_StrictPart):
    """Two sides whose curves are compared by when they reach a value."""

    a: _Levels = Field(min_length=1, description="Factor -> level of side a.")
    b: _Levels = Field(description="Factor -> level of side b.")
    threshold: float | None = Field(
        None, allow_inf_nan=False, description="The value, in units of the metric; required."
    )
    falls: bool = Field(
        False, description="Judge when the value is lost, instead of when it is reached."
    )


_ONE_KIND = [{"required": ["a", "b"]}, *({"required": [key]} for key in KEYS if key != "a")]


class Contrast(_StrictPart):
    """A planned comparison: of two sides (`a`, `b`), or of another kind, which one key names.

    Arms are matched on every factor that the contrast does not name.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": list[Any](_ONE_KIND)})

    id: _Word = Field(pattern=_NAME, description="Short name, e.g. `H12`; unique in the study.")
    claim: str = Field("", description="What is expected, in words.")
    a: _Levels = Field(default_factory=dict, min_length=1, description="Factor -> level of side a.")
    b: _Levels = Field(
        default_factory=dict,
        description="Factor -> level of side b; the difference is a - b.",
    )
    trend: _Word = Field("", description="An ordered factor: does the metric rise or fall with it?")
    interaction: _Two = Field(
        default_factory=list,
        description="Two factors, each of two levels or ordered: does one act otherwise where the "
        "other is changed?",
    )
    more: _Two = Field(
        default_factory=list,
        description="Two factors, each of two levels or ordered: does the first move the metric "
        "more than the second, from one end of its levels to the other?",
    )
    levels: dict[str, _Pair] = Field(
        default_factory=dict,
        min_length=1,
        description="For `interaction` and `more`: factor -> the two of its levels that count.",
    )
    best: _Word = Field("", description="A factor: which of its levels may be the best?")
    collapse: _Levels = Field(
        default_factory=dict,
        min_length=1,
        description="Factor -> level, an arm: does it lose more than `margin` after an earlier "
        "measured cycle? See `measure_at`.",
    )
    sooner: Sooner | None = Field(None, description="Which of two sides reaches a value sooner?")
    at: _Levels = Field(
        default_factory=dict, description="Factor -> level that pins other factors."
    )
    metric: str = Field("", description="Metric judged; default the study's primary.")
    expect: Literal["higher", "lower", ""] = Field(
        "",
        description="Expected direction of a - b, a trend or an interaction; adds words, never "
        "changes the test.",
    )
    margin: float | None = Field(
        None, gt=0, description="Smallest difference that matters, in units of the metric."
    )

    @property
    def kind(self) -> ContrastKind:
        """The kind that its key makes it; the first, before the checks refused several."""
        return next((KEYS[key] for key in KEYS if getattr(self, key)), "difference")

    @property
    def sides(self) -> tuple[_Levels, _Levels]:
        """Sides a and b of a difference, or of `sooner`."""
        return (self.sooner.a, self.sooner.b) if self.sooner else (self.a, self.b)

    @property
    def factors(self) -> list[str]:
        """Names of the factors it is about; those that `at` pins are not among them."""
        a, b = self.sides
        named = [*a, *b, *self.collapse, self.trend, self.best, *self.interaction, *self.more]
        return [name for name in dict.fromkeys(named) if name]

    @model_serializer(mode="wrap")
    def _without_later(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Kinds are younger than the first recorded results: left out while not given."""
        written: dict[str, Any] = handler(self)
        absent = {key for key in _LATER_PARTS if not written[key]}
        absent |= set() if self.a or self.b else {"a", "b"}
        return {k: v for k, v in written.items() if k not in absent}


_LATER_PARTS = (*(key for key in KEYS if key != "a"), "levels")


class Resources(_StrictPart):
    """What one trial takes."""

    gpus: float = Field(0.0, ge=0, description="GPUs a trial; fractions below 1 share one.")
    cpus: float = Field(1.0, gt=0, description="CPU cores a trial.")

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("above 1, GPUs must be a whole number")
        return value


class Budget(_StrictPart):
    """What the whole study may spend, attempts already made included."""

    gpu_hours: float | None = Field(None, gt=0, description="GPU-hours in all.")
    hours: float | None = Field(None, gt=0, description="Hours of wall time still to come.")


class StudyFile(_StrictPart):
    """A study as written by its author: what the YAML file may hold."""

    name: str = Field(pattern=_NAME, description="Name of the study, and of its folder.")
    question: _Word = Field(description="The question, as one would ask it.")
    subject: SubjectSpec = Field(
        "recipes.subject",
        description="The thing under study: `package.module`; or `command: ...`, someone else's "
        "trainer; or `students: [...]`, checkpoints from elsewhere.",
    )
    recipe: str | dict[str, Any] = Field(
        description="Base recipe: a YAML file, relative to this one, or the mapping itself."
    )
    set: dict[str, Any] = Field(
        default_factory=dict, description="Recipe path -> value, for every arm."
    )
    factors: dict[Annotated[str, Field(pattern=_FACTOR)], Factor] = Field(
        min_length=1,
        description="Factor name -> what varies.",
        json_schema_extra={"additionalProperties": False},
    )
    where: list[str] = Field(
        default_factory=list,
        description="Expressions over factors; only arms for which all are true are kept.",
    )
    design: Annotated[str, AfterValidator(_known_design)] = Field(
        "full",
        description="; ".join(f"{name}: {words}" for name, words in DESIGNS.items()) + ".",
        json_schema_extra={"enum": list(DESIGNS)},
    )
    resolution: int | None = Field(
        None,
        ge=3,
        le=8,
        description="For design fractional. 3: main effects are clear of each other; 4: of "
        "two-factor interactions too; 5: those are clear of each other as well.",
    )
    baseline: _Levels = Field(default_factory=dict, description="Factor -> level, all of them.")
    arms: list[_Levels] = Field(
        default_factory=list,
        description="For design explicit: factor -> level each; the baseline fills what is left.",
    )
    replicates: int = Field(6, ge=1, le=1000, description="Independent repetitions of every arm.")
    reruns: int = Field(
        0,
        ge=0,
        le=1000,
        description="Trials of the baseline run once more with the same seeds, to record how much "
        "numbers move by themselves; `reproduce` judges by it, tables do not count them.",
    )
    protocol: str = Field("", description="How it is measured; default the subject's.")
    primary: str = Field("", description="Metric that decides; default the first headline metric.")
    contrasts: list[Contrast] = Field(default_factory=list, description="Comparisons judged.")
    measure_at: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list, description="Cycles at which the protocol is run; default the end."
    )
    select: Literal["ema", "last"] = Field("ema", description="Which weights are measured.")
    resources: Resources = Field(
        default_factory=Resources, description="GPUs and CPU cores that one trial takes."
    )
    budget: Budget | None = Field(None, description="Limits: `run` refuses what exceeds them.")
    alpha: float = Field(
        0.05,
        ge=0.0001,
        le=0.5,
        description="Error rate over all contrasts together; 0.0001 to 0.5.",
    )

    @field_validator("where", mode="before", json_schema_input_type=str | list[str])
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class Study(StudyFile):
    """A checked study: defaults resolved, base recipe read, every name known."""

    file: Path = Field(Path(), strict=False, description="The study file; not part of the digest.")
    base: dict[str, Any] = Field(
        default_factory=dict, description="The base recipe as its file says it."
    )
    _cache: dict[str, Any] = PrivateAttr(default_factory=dict)

    def __copy__(self) -> Study:
        """A copy works out its own levels and arms, since `model_copy` may change what they are."""
        made = super().__copy__()
        made._cache = {}
        return made

    def digest(self) -> str:
        """sha256 of the study's canonical JSON: what was asked, not where the files lie."""
        content = self.model_dump(mode="json", exclude={"file", "recipe"})
        # Or every study recorded before would read as amended.
        for name in LATER_FIELDS:
            if content[name] == StudyFile.model_fields[name].default:
                del content[name]
        # The path of a protocol's file is another on every machine; its content has a fingerprint.
        content["protocol"] = Path(self.protocol).name
        return hashlib.sha256(canonical(content)).hexdigest()

    def levels(self) -> dict[str, dict[str, Level]]:
        """Factor -> level label -> level, in the order of the file."""
        if "levels" not in self._cache:
            self._cache["levels"] = {n: levels_of(n, f) for n, f in self.factors.items()}
        made: dict[str, dict[str, Level]] = self._cache["levels"]
        return made


@dataclass(frozen=True)
class Level:
    """One level of one factor."""

    label: str
    """Short and stable: depends on the level alone, not on its place."""
    value: Any
    """What `where`, `baseline` and contrasts compare: the value, or the name of a named level."""
    assignments: dict[str, Any]
    """Recipe path -> value."""
    named: bool
    index: int | str
    """Its place in the file: position in the list, or name."""


def levels_of(name: str, factor: Factor) -> dict[str, Level]:
    """Label -> level of one factor. Levels of the same label collapse; the checks refuse them."""
    found: dict[str, Level] = {}
    if isinstance(factor.levels, dict):
        for label, value in factor.levels.items():
            sets = {factor.path: value} if factor.path else dict(value)
            found.setdefault(label, Level(label, label, sets, True, label))
    else:
        path = factor.path or name
        for index, value in enumerate(factor.levels):
            label = label_of(value)
            plain = label if isinstance(value, dict) else value
            found.setdefault(label, Level(label, plain, {path: value}, False, index))
    return found


def find(levels: Mapping[str, Level], value: Any) -> Level | None:
    """The level that a baseline, a contrast or an arm means: by value, else by label."""
    for level in levels.values():
        # In Python True == 1: a level `on` is not the level 1.
        if isinstance(level.value, bool) == isinstance(value, bool) and level.value == value:
            return level
        if value in level.assignments.values() and not level.named and isinstance(value, dict):
            return level
    return levels.get(value) if isinstance(value, str) else None
