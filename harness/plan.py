"""Study + history -> what will run, what it costs and what it can detect. Writes nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.contract import Fingerprints
from harness.trial import Arm, Trial

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


class PlannedContrast(_Frozen):
    """A contrast with its sides resolved to arms, matched cell by cell."""

    id: str
    claim: str
    metric: str
    expect: Literal["higher", "lower", ""] = ""
    margin: float | None = None
    pairs: list[tuple[str, str]] = Field(description="Matched (arm of a, arm of b).")
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


class Cost(_Frozen):
    """Expected cost of what is missing."""

    trials: int = Field(description="Trials that would run.")
    seconds_per_trial: float | None = Field(
        None, description="Median of measured trials; None if none."
    )
    gpu_hours: float | None = None
    hours: float | None = Field(None, description="Wall time with the parallelism at hand.")
    lo_hours: float | None = None
    hi_hours: float | None = None
    basis: str = Field("", description="What the estimate rests on.")
    parallel: int = Field(1, description="Trials that run at once.")


class Plan(_Frozen):
    """Everything `run` needs and `plan` shows."""

    study: str
    question: str
    digest: str = Field(description="sha256 of the study's canonical JSON.")
    study_file: str
    subject: str = Field(description="Import string of the subject, or `command`.")
    protocol: str = Field(description="Protocol name or path as the study gives it.")
    fingerprints: Fingerprints
    factors: dict[str, list[str]] = Field(description="Factor to level labels, in order.")
    arms: list[Arm]
    trials: list[PlannedTrial] = Field(
        description="In running order: references, baseline, then replicate-major."
    )
    contrasts: list[PlannedContrast]
    replicates: int
    primary: str
    scope: str = ""
    cost: Cost
    orphans: list[str] = Field(
        default_factory=list, description="Keys once planned by this study, no longer."
    )
    warnings: list[str] = Field(default_factory=list)

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(a for a in self.arms if a.name == name)

    def missing(self) -> list[PlannedTrial]:
        """Trials that `run` would execute (stale ones not among them)."""
        return [t for t in self.trials if t.state in ("new", "measure")]
