"""Parts of a plan: trials with their states, contrasts resolved to arms, a fraction, the cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.contract import Fingerprints
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


Kind = Literal["difference", "trend", "interaction", "more", "best", "collapse", "sooner"]


class ContrastPart(_Frozen):
    """One of the estimates that a contrast is made of."""

    name: str = Field("", description="E.g. `slope` and `quadratic` of a trend.")
    level: str = Field("", description="The level it is about, where it is one of several.")
    cells: list[dict[str, float]] = Field(description="Arm -> weight, a matched cell each.")


class PlannedContrast(_Frozen):
    """A contrast with its sides resolved to arms, matched cell by cell."""

    id: str
    claim: str
    kind: Kind = "difference"
    metric: str
    expect: Literal["higher", "lower", ""] = ""
    margin: float | None = None
    pairs: list[tuple[str, str]] = Field(description="Matched (arm of a, arm of b).")
    weights: dict[str, float] = Field(
        default_factory=dict,
        description="Arm -> weight, where no cell of a fraction holds both sides: least squares.",
    )
    parts: list[ContrastPart] = Field(
        default_factory=list, description="What another kind than a difference is made of."
    )
    threshold: float | None = Field(None, description="Kind `sooner`: the value to be reached.")
    falls: bool = Field(False, description="Kind `sooner`: the value is lost rather than reached.")
    aliases: list[str] = Field(
        default_factory=list, description="Interactions that a least-squares difference contains."
    )
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
        "sd", description="`units` of the metric when the history has replicates, else in SDs."
    )
    notes: list[str] = Field(
        default_factory=list, description="What cannot reach significance, and so on."
    )

    def cells(self) -> list[dict[str, float]]:
        """Arm -> weight of each matched cell of its first part."""
        if self.parts:
            return self.parts[0].cells
        return [dict(self.weights)] if self.weights else [{a: 1.0, b: -1.0} for a, b in self.pairs]

    def arm_weights(self) -> dict[str, float]:
        """Arm -> weight of the difference: the mean of (a - b) over pairs, or least squares."""
        if self.parts:
            return {arm: 1.0 for part in self.parts for cell in part.cells for arm in cell}
        return dict(self.weights) or weights_of(self.pairs)


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


def weights_of(pairs: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Weights over arms of the mean of (a - b) over matched pairs, without arms that cancel."""
    listed = list(pairs)
    found: dict[str, float] = {}
    for a, b in listed:
        found[a] = found.get(a, 0.0) + 1.0 / len(listed)
        found[b] = found.get(b, 0.0) - 1.0 / len(listed)
    return {arm: w for arm, w in found.items() if abs(w) > 1e-12}
