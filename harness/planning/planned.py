"""Parts of a plan: trials with their states, contrasts resolved to arms, a fraction, the cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from harness.contract import Fingerprints
from harness.planning.prompt_spread import PromptSpread
from harness.study import ContrastKind
from harness.trial import Trial

INCOMPARABLE = "records of an earlier version, whose code nothing compares with today's"
"""Why a result counts that nothing says to be of today's code."""

PlanState = Literal["new", "measure", "reuse", "stale", "running"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlannedTrial(_Frozen):
    """A trial of the plan and how it stands against the history."""

    trial: Trial
    state: PlanState = Field(
        description="new, measure, reuse, stale, or running (claimed elsewhere)."
    )
    why: str = Field("", description="For stale: what changed.")
    code: str = Field(
        "", description="Digest of the code that made the result there is; empty without one."
    )
    fingerprints: Fingerprints | None = Field(
        None,
        exclude=True,
        repr=False,
        description="Its own surroundings: arms may run different source files, and replicates may "
        "have different data. None: the plan's.",
    )

    @property
    def incomparable(self) -> bool:
        """Whether nothing says if the result was made by the code of today."""
        return self.state == "reuse" and self.why == INCOMPARABLE


class Enough(_Frozen):
    """Seeds and prompts that are enough for a difference."""

    seeds: int
    prompts: int | None = Field(None, description="None: the claim is on exactly these prompts.")


LINEAR: tuple[ContrastKind, ...] = ("difference", "trend", "interaction")
"""Kinds that are one weighted sum of arms."""


class ContrastPart(BaseModel):
    """One weighted sum of arms that a contrast is made of, in matched cells of equal weight."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        description="difference, interaction: empty. trend: slope, quadratic, neighbour. more: "
        "first, second. best: level. collapse: arm. sooner: a, b."
    )
    cells: list[dict[str, float]] = Field(
        description="Arm -> weight, one for each matched cell; cell by cell the same in all parts "
        "of a contrast, except for the two of `more`. Least squares: one cell."
    )
    level: str = Field("", description="Label of a part of `best`; both, of neighbours of a trend.")


class PlannedContrast(_Frozen):
    """A contrast with its sides resolved to arms, matched cell by cell."""

    id: str
    claim: str
    metric: str
    kind: ContrastKind = "difference"
    about: str = Field("", description="What it asks, in plain words; empty for a difference.")
    expect: Literal["higher", "lower", ""] = ""
    margin: float | None = None
    threshold: float | None = Field(None, description="Of `sooner`: the value that is reached.")
    falls: bool = Field(False, description="Of `sooner`: the value is lost, not reached.")
    pairs: list[tuple[str, str]] = Field(
        default_factory=list, description="Of a difference: matched (arm of a, arm of b)."
    )
    parts: list[ContrastPart] = Field(
        default_factory=list, description="The weighted sums of arms that decide."
    )
    weights: dict[str, float] = Field(
        default_factory=dict,
        description="Arm -> weight, where no cell of a fraction holds both sides: least squares.",
    )
    aliases: list[str] = Field(
        default_factory=list, description="Interactions that a least-squares difference contains."
    )
    fitted: int = Field(0, description="Arms of a least-squares estimate; 0 where cells match.")
    confounded: list[str] = Field(
        default_factory=list, description="What else the sides differ in, by their recipes."
    )
    amended: str = Field(
        "", description="Why it is exploratory: added or changed after the first run."
    )
    unmatched: list[str] = Field(
        default_factory=list, description="Arms without a partner; dropped."
    )
    detectable: float | None = Field(None, description="Smallest difference found with 80 % power.")
    detectable_in: Literal["units", "sd"] = Field(
        "sd",
        description="`units` of the metric (of kind `sooner` cycles) when the history has "
        "replicates, else in SDs of the difference of one matched pair; of kind `collapse` in "
        "`units` the loss, margin included, in `sd` what it exceeds the margin by.",
    )
    family: int = Field(1, description="Contrasts of the first run, among which alpha is shared.")
    spread: float | None = Field(
        None,
        description="Standard deviation of one replicate's difference that is planned with, its "
        "own uncertainty included; units of the metric.",
    )
    spread_replicates: int = Field(0, description="Recorded replicates that say so.")
    prompts: int | None = Field(
        None, description="Prompts that the claim is planned over; None: on exactly these prompts."
    )
    prompt_spread: PromptSpread | None = Field(
        None, description="What the last report found over prompts."
    )
    margin_reached_by: list[Enough] = Field(
        default_factory=list,
        description="Where a difference of the margin may not be found: what would find it.",
    )
    notes: list[str] = Field(
        default_factory=list, description="What is hard to reach, and what would reach it."
    )

    @model_validator(mode="before")
    @classmethod
    def _difference(cls, given: Any) -> Any:
        """The part of a difference is its pairs, or its least squares."""
        if not isinstance(given, dict) or given.get("parts") or given.get("kind") not in _SIDES:
            return given
        cells = [{a: 1.0, b: -1.0} for a, b in given.get("pairs", ())]
        weights = given.get("weights")
        cells = [dict(weights)] if weights else cells
        return {**given, "parts": [ContrastPart(name="", cells=cells)] if cells else []}

    def cells(self) -> list[dict[str, float]]:
        """Matched cells of the first part, each arm -> weight."""
        return self.parts[0].cells if self.parts else []

    def arms(self) -> list[str]:
        """Every arm that it compares, each once."""
        return list(dict.fromkeys(a for p in self.parts for cell in p.cells for a in cell))

    def arm_weights(self) -> dict[str, float]:
        """Arm -> weight of the difference, slope or interaction: the mean over its cells.

        Empty for the kinds that are no single weighted sum of arms.
        """
        if self.weights or self.kind not in LINEAR:
            return dict(self.weights)
        return weights_of(self.pairs) if self.kind == "difference" else mean_of(self.cells())


_SIDES = (None, "difference")


class Confounded(_Frozen):
    """A fraction of all combinations, and what it cannot tell apart."""

    resolution: int
    arms: int = Field(description="Arms of the whole fraction, before `where`.")
    combinations: int = Field(description="All combinations, of which it is a fraction.")
    generators: dict[str, str] = Field(description="Factor -> the product it is set by.")
    aliases: dict[str, list[str]] = Field(
        description="Effect -> what it cannot be told from, up to two-factor interactions; every "
        "main effect, then interactions clear of main effects, the first of each confounded set."
    )


class Cost(_Frozen):
    """Expected cost of what is missing."""

    trials: int = Field(description="Trials that would run.")
    seconds_per_trial: float | None = Field(
        None, description="Median of measured trials, mean of expected ones; None if not known."
    )
    memory_gb: float | None = Field(
        None, description="Expected at the peak on one GPU, of the arm that needs most; 10^9 bytes."
    )
    gpu_hours: float | None = None
    hours: float | None = Field(None, description="Wall time with the parallelism at hand.")
    lo_hours: float | None = None
    hi_hours: float | None = None
    basis: str = Field("", description="What the estimate rests on.")
    parallel: int = Field(1, description="Trials that run at once.")
    spent_gpu_hours: float = Field(
        0.0,
        description="GPU-hours of all attempts made so far: failures, superseded results and "
        "trials planned no longer included.",
    )
    budget_gpu_hours: float | None = Field(None, description="The study's limit, if it has one.")


def difference_of(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """The cell of one less another, without arms that cancel."""
    found = dict(one)
    for arm, weight in other.items():
        found[arm] = found.get(arm, 0.0) - weight
    return {arm: weight for arm, weight in found.items() if weight}


def differences_of(
    one: Iterable[Mapping[str, float]], other: Iterable[Mapping[str, float]]
) -> list[dict[str, float]]:
    """Cell by cell one side less the other; without cells in which they are the same arms."""
    return [cell for a, b in zip(one, other, strict=True) if (cell := difference_of(a, b))]


def weights_of(pairs: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Weights over arms of the mean of (a - b) over matched pairs, without arms that cancel."""
    listed = list(pairs)
    found: dict[str, float] = {}
    for a, b in listed:
        found[a] = found.get(a, 0.0) + 1.0 / len(listed)
        found[b] = found.get(b, 0.0) - 1.0 / len(listed)
    return {arm: w for arm, w in found.items() if abs(w) > 1e-12}


def mean_of(cells: Sequence[dict[str, float]]) -> dict[str, float]:
    """Weights over arms of the mean over cells, without arms that cancel."""
    found: dict[str, float] = {}
    for cell in cells:
        for arm, weight in cell.items():
            found[arm] = found.get(arm, 0.0) + weight / len(cells)
    most = max((abs(w) for w in found.values()), default=0.0)
    return {arm: w for arm, w in found.items() if abs(w) > 1e-12 * most}
