"""What a subject offers to the harness and what it gets: the only types that cross the border.

A subject is any module (or object) with the attributes of `Subject`. Importing it imports no torch,
ray or mlflow; heavy imports happen inside `run`, `measure` and `reference`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, field_validator

ArtifactKind = Literal["panel", "items", "prompts", "features", "student", "checkpoint"]
"""panel: PNG of one item x draw at a step; items, prompts: tables of values, see below; features:
npz without pickle; student: folder of exported weights; checkpoint: what `resume_from` may name.

Claims hold over prompts, too, where a measurement tells its values prompt by prompt. `items` is a
CSV in UTF-8 (a parquet file may be named, with the CSV beside it), a row an item:

    item            name of the item (or `item_id`), each once
    prompt          what it was made from; items of one prompt belong together. Default: the item
    stratum         category or edit type over which the metric is a weighted mean. Default: `all`
    weight          of the item inside its stratum, 0 or more. Default: 1
    stratum_weight  of the stratum in the metric, the same in all its rows. Default: all equal
    <metric>        a column for each metric, named as the metric; empty or NaN: does not apply

The metric must be the mean over strata of the means over their items. What is no mean of items, as
a distance between sets, stands in `prompts`: the same columns without `item`, a row a prompt, with
the jackknife's pseudo-values P D - (P - 1) D(without this prompt), D the distance in the stratum
and P its prompts. Where prompts were left out in groups, a row is a group, and `n_prompts` says how
many prompts it stands for. A metric stands in one of the two. Both belong to a step; the report
that holds the measurement names them. Other columns are for other readers; a table without a
column of a metric, too. What cannot be used is told in the trial's record, and nothing fails."""


class CorruptCheckpoint(ValueError):
    """Raised by a subject that cannot load `resume_from`: the harness offers the previous one.

    Raise it before the first report. With no checkpoint left the trial starts from its beginning.
    """


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MetricSpec(_Frozen):
    """What a metric is: its unit, direction and legal range."""

    unit: str = Field("", description="Unit as printed after the number; empty for pure numbers.")
    higher_is_better: bool | None = Field(
        None, description="None where neither direction is better."
    )
    low: float | None = Field(None, description="Smallest legal value, if bounded.")
    high: float | None = Field(None, description="Largest legal value, if bounded.")
    headline: bool = Field(False, description="Shown in the first table; the others are extras.")
    description: str = Field("", description="One sentence: what it measures, and its source.")
    follows: str | None = Field(
        None,
        description="For a learned metric: the metric that reads the truth and that this one "
        "should rank arms like. The report says how well it does.",
    )


class Estimate(_Frozen):
    """A number with an interval and what it is a claim about."""

    name: str = Field(description="Metric name, e.g. `t2i/kd`.")
    value: float = Field(description="Point estimate.")
    lo: float | None = Field(None, description="Lower end of the interval.")
    hi: float | None = Field(None, description="Upper end of the interval.")
    level: float = Field(0.95, gt=0, lt=1, description="Coverage the interval aims at.")
    method: str = Field("", description="How the interval was made, e.g. `jackknife t`.")
    claim: Literal["checkpoint", "recipe"] = Field(
        "checkpoint", description="What it is about: this checkpoint, or the recipe (replicates)."
    )
    n_items: int = Field(0, ge=0, description="Items behind the number.")


class Artifact(_Frozen):
    """A file or folder the subject wrote inside its attempt folder."""

    kind: ArtifactKind = Field(description="One of the kinds the harness knows.")
    path: str = Field(description="Path relative to the attempt folder, inside it.")
    step: int | None = Field(None, ge=0, description="Cycle it belongs to.")
    item: str = Field("", description="Item id, for panels.")
    draw: int = Field(0, ge=0, description="Noise draw, for panels.")
    caption: str = Field("", description="Text shown beside a panel (prompt or instruction).")

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        # A cheap look first: journals hold tens of thousands of paths, and nearly all of them are
        # plain.
        suspicious = value.startswith("/") or ".." in value or ":" in value
        if suspicious and (Path(value).is_absolute() or ".." in Path(value).parts):
            raise ValueError(
                f"artifact path {value!r} must be relative and stay in the attempt folder"
            )
        return value


class Outcome(_Frozen):
    """How a run ended. A diverged run is a result, not a failure."""

    state: Literal["done", "diverged"] = Field(description="`done` or `diverged`.")
    reason: str = Field("", description="Why it diverged; empty when done.")


class Report(_Frozen):
    """What a subject yields: progress, metrics, artifacts. Cancelling happens at each yield."""

    step: int = Field(ge=0, description="Cycles done so far.")
    total: int | None = Field(None, description="Cycles in all, for progress bars.")
    metrics: dict[str, float] = Field(
        default_factory=dict, description="Name to value at this step."
    )
    measured: bool = Field(
        False,
        description="True where `metrics` are a measurement under the protocol, not training logs.",
    )
    estimates: tuple[Estimate, ...] = Field((), description="Intervals of measured metrics.")
    artifacts: tuple[Artifact, ...] = Field((), description="Files written since the last report.")
    info: dict[str, str] = Field(
        default_factory=dict,
        description="Facts to keep once: device, realised mixture, probe choices.",
    )
    outcome: Outcome | None = Field(None, description="Set on the last report only.")

    def non_finite(self) -> tuple[str, ...]:
        """Names of metrics that are NaN or infinite."""
        return tuple(k for k, v in self.metrics.items() if not math.isfinite(v))


class Fingerprints(_Frozen):
    """Digests of what surrounds a recipe. Cheap and cached; hex strings."""

    data: str = Field(description="Training data (part of the trial key).")
    protocol: str = Field(description="How it is measured (stands beside every number).")
    code: str = Field(description="The source that the subject runs.")
    code_files: dict[str, str] = Field(
        default_factory=dict,
        description="Digest per source file, or per definition as `path#definition`, to say what "
        "changed. Behind a hyphen may stand a digest of what a definition uses.",
    )
    data_files: dict[str, str] = Field(
        default_factory=dict,
        description="Digest per data file or source, to say which one changed; of many files one "
        "for each folder.",
    )
    invocation: tuple[str, ...] = Field(
        (), description="Words of a command, to say which one changed; part of the code digest."
    )


class Expected(_Frozen):
    """What a subject expects one trial to cost before any has run."""

    seconds: float = Field(gt=0, description="Wall time of one trial, measuring included.")
    lo: float = Field(gt=0, description="Lower end of what is plausible.")
    hi: float = Field(gt=0, description="Upper end.")
    memory_gb: float | None = Field(
        None, gt=0, description="Memory at the peak on one GPU, 10^9 bytes; None if not known."
    )
    basis: str = Field(description="What it rests on, assumptions included.")


class Measurement(_Frozen):
    """Which protocol is run, when, and on which weights."""

    protocol: str = Field(description="Protocol name or path.")
    at: tuple[int, ...] = Field(
        (), description="Cycles at which it is run; empty means at the end."
    )
    select: str = Field("ema", description="Which weights are measured: `ema` or `last`.")


@dataclass(frozen=True)
class Context:
    """What a subject gets beside the recipe. Seeds reach training and evaluation only from here."""

    key: str
    """Trial key; empty when measuring a stranger's checkpoint."""
    replicate: int
    seed: Callable[..., int]
    """`seed(stream, *index) -> int` in [0, 2**63): hashed from (replicate, stream, index)."""
    folder: Path
    """Attempt folder: the only place the subject may write, the cache apart."""
    measurement: Measurement
    resume_from: Path | None = None
    """A complete checkpoint (a path this subject reported as artifact `checkpoint`), or None."""
    cache: Path = field(default_factory=Path)
    """Shared, content-addressed; may be emptied at any time."""
    device: str = "cpu"
    gpus: float = 0.0
    """GPUs the trial has; a fraction where it shares one."""
    rank: int = 0
    world_size: int = 1
    deadline: float | None = None
    """Unix time after which the trial should report a checkpoint and return without an outcome.

    The attempt is then closed as killed, reason `deadline`; the next `run` continues it from there.
    A trial that is nearly done may also finish; nothing forces it to stop.
    """
    student_settings: Mapping[str, Any] = field(default_factory=dict)
    """For `measure`: what the files of a student from elsewhere do not say, e.g. `base` of a LoRA.
    """


@runtime_checkable
class Subject(Protocol):
    """The thing under study. A module with these names is one."""

    Recipe: type[BaseModel]
    metrics: Mapping[str, MetricSpec]

    def fingerprints(self, recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        """Digests for a resolved recipe (plain data) and a protocol name or path."""
        ...

    def run(self, recipe: Mapping[str, Any], context: Context) -> Iterator[Report]:
        """Train and measure. Raise for a failure; end with an `Outcome` otherwise."""
        ...


# Optional names of a subject; the harness asks with getattr:
#   own_code_digest: bool
#       True: `fingerprints` covers all source that a trial runs, so the harness adds nothing. By
#       default it hashes the subject's module and what that imports of its project, by file.
#   reference_fingerprints(settings: Mapping, protocol: str) -> Fingerprints
#       Digests of a reference row, where `fingerprints` does not give them.
#   earlier_fingerprints(recipe: Mapping, protocol: str) -> Fingerprints
#       As the previous version made them, so that its records can be compared for one release.
#   recipe_model(base: Mapping) -> type[BaseModel]
#       The model of recipes like this base, where `Recipe` alone does not say it.
#   data_of(recipe: Mapping, replicate: int) -> str | None
#       Data digest of one replicate, where replicates differ in it; None: there is no such trial.
#   examine(student: Path, settings: Mapping) -> Mapping[str, Any]
#       What a student from elsewhere is, without torch; raises ValueError for what `measure` would
#       refuse.
#   measure(student: Path, protocol: str, context: Context) -> Iterator[Report]
#       Measure kept weights under a protocol, without training.
#   recompute(folder: Path, step: int, recipe: Mapping, protocol: str, cache: Path) -> Mapping
#       Metric -> number, worked out again from the items and features stored in an attempt folder.
#       Nothing is sampled. Numbers it cannot work out are left out.
#   prompt_tables(folder: Path, step: int, recipe: Mapping, protocol: str, cache: Path) -> Mapping
#       Kind (`items`, `prompts`) -> text of that table, from what an attempt folder stores: for
#       measurements recorded without one. Raises for what it cannot read.
#   references(recipe: Mapping, protocol: str) -> Mapping[str, Mapping]
#       name -> plain settings of the reference rows worth showing beside this recipe.
#   gap(recipe: Mapping, protocol: str) -> tuple[str, str] | None
#       Names of the two reference rows whose distance a difference is told as a share of: the
#       recipe's teacher, and data measured like a student. None where it has no single teacher.
#   reference(settings: Mapping, context: Context) -> Iterator[Report]
#       Produce one reference row (may come from shipped records whose fingerprint matches).
#   arm_label(path: str, value: Any) -> str
#       Short label of one level in arm names, e.g. ("guidance.scale", 2.0) -> "g2".
#   protocols: Iterable[str]
#       Known protocol names, for spelling suggestions; a protocol may also be a .yaml file.
#   default_protocol: str
#       Protocol of a study that names none; default the first of `protocols`.
#   scope(recipe: Mapping, protocol: str) -> str
#       What a verdict is about, e.g. "on the toy world, 1.4 M parameters".
#   missing(recipe: Mapping, protocol: str) -> Sequence[str]
#       What a trial needs that is not on this machine (weights, data), one line each with the
#       command that fetches it. `plan` shows it, `run` refuses to start while there is any.
#   expected_cost(recipe: Mapping, protocol: str, resources: Mapping[str, float]) -> Expected | None
#       Cost of one trial before any has run; `resources` holds gpus, cpus and measurements.
#   project(assignments: Mapping[str, Any], recipe: Mapping) -> Mapping
#       (none yet) reserved.
