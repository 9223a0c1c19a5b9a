"""The answer of a study as plain data: what the report draws, MLflow shows and tables export."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from harness.frozen_model import FrozenModel
from harness.journal.records import PromptSpread
from harness.planning.plan import Amendment, Confounded
from harness.study.kinds import ContrastKind

RULES = 2
"""Version of the rules that verdicts are made by; 1 judged over seeds alone, with one pooled
variance below six replicates."""

VerdictName = Literal[
    "improves",
    "harms",
    "improves (size unsettled)",
    "harms (size unsettled)",
    "more",
    "less",
    "best",
    "collapses",
    "holds",
    "sooner",
    "later",
    "equivalent",
    "undecided",
]

About = Literal["recipes", "checkpoints"]
"""What a claim is about: how students are made, or the very checkpoints that were measured."""

AgreementName = Literal["follows", "opposes", "undecided"]


class Cell(FrozenModel):
    """One arm's metric over its replicates."""

    mean: float | None
    lo: float | None = None
    hi: float | None = None
    sd: float | None = None
    n_prompts: int = Field(
        0,
        description="Prompts that the interval reaches over; 0: it is over seeds alone. That of a "
        "single checkpoint (n is 1) is over prompts alone.",
    )
    n: int = Field(description="Replicates with a finite value.")
    values: dict[int, float] = Field(description="Replicate to value.")


class ArmRow(FrozenModel):
    """One planned arm, or one reference row; every planned arm appears."""

    arm: str
    kind: Literal["arm", "reference"] = "arm"
    levels: dict[str, str]
    baseline: bool = False
    n_planned: int
    n_done: int
    states: dict[str, int] = Field(description="State to number of trials, e.g. {'done': 3}.")
    keys: dict[int, str] = Field(description="Replicate to trial key.")
    cells: dict[str, Cell] = Field(description="Metric to cell.")
    trial_states: dict[int, str] = Field(
        default_factory=dict,
        description="Replicate to state; `unmeasured` is done, but not under this protocol.",
    )


class Spread(FrozenModel):
    """Where a verdict's standard error comes from."""

    seeds: float | None = Field(
        description="Standard error over seeds; None for a claim about checkpoints."
    )
    seeds_df: float | None
    prompts: float | None = Field(None, description="Standard error over prompts, `both` included.")
    prompts_df: float | None = None
    both: float | None = Field(None, description="What seeds and prompts share; in both of them.")


class Narrow(FrozenModel):
    """The claim on exactly these prompts: over seeds alone."""

    lo: float | None
    hi: float | None
    level: float
    p: float | None
    p_adjusted: float | None
    verdict: VerdictName
    words: str


class Part(FrozenModel):
    """A further estimate of a contrast, such as the bend of a trend."""

    name: str
    level: str = ""
    difference: float | None
    lo: float | None = None
    hi: float | None = None
    p: float | None = None


class Verdict(FrozenModel):
    """A contrast judged by the verdict table (`step_down.read`)."""

    id: str
    claim: str
    kind: ContrastKind = "difference"
    metric: str
    about: About = Field("recipes", description="Checkpoints are compared over prompts alone.")
    planned: bool = Field(description="False for exploratory ones (main effects and the like).")
    n: int = Field(description="Replicates with at least one matched cell.")
    n_planned: int
    n_prompts: int = Field(
        0, description="Prompts that the claim reaches over; 0: it is on exactly these prompts."
    )
    difference: float | None = Field(description="Mean of (a - b) over cells and replicates.")
    lo: float | None = None
    hi: float | None = None
    level: float = Field(
        0.95, description="Of the interval: 1 - alpha / `left`, at the step that decided it."
    )
    left: int = Field(1, description="Contrasts left at that step, this one included.")
    p: float | None = None
    p_adjusted: float | None = Field(
        None, description="Planned: `left` times p. Exploratory: Benjamini-Hochberg."
    )
    p_sign_flip: float | None = Field(None, description="In records of earlier rules only.")
    margin: float | None = None
    method: str = ""
    spread: Spread | None = None
    narrow: Narrow | None = Field(None, description="The claim on exactly these prompts.")
    verdict: VerdictName
    expectation: Literal["as expected", "contrary to expectation", ""] = ""
    words: str = Field(description="One plain sentence with numbers, interval, n and scope.")
    notes: list[str] = Field(default_factory=list)
    per_replicate: dict[int, float] = Field(default_factory=dict)
    a: str = Field("", description="Side a in words, e.g. `edit_share=0.5`.")
    b: str = Field("", description="Side b in words.")
    worst_case: VerdictName | None = Field(
        None, description="Verdict with the winner's divergences filled in; None if none."
    )
    best: list[str] = Field(
        default_factory=list, description="Kind `best`: levels that may be the best."
    )
    step: int | None = Field(None, description="Kind `collapse`: cycle from which most is lost.")
    parts: list[Part] = Field(default_factory=list, description="Further estimates of its kind.")
    sizes: dict[str, float] = Field(
        default_factory=dict, description="Standardised sizes, e.g. `d_z`."
    )
    factor: str = Field("", description="Factor of an exploratory comparison of two levels.")
    keys: list[str] = Field(default_factory=list, description="Keys of the trials compared.")
    amended: str = Field(
        "", description="For a declared contrast that is exploratory: added or changed when."
    )
    aliases: list[str] = Field(
        default_factory=list, description="Interactions the difference cannot be told from."
    )

    @field_validator("verdict", "worst_case", mode="before")
    @classmethod
    def _earlier_name(cls, value: object) -> object:
        return value.replace("below margin", "size unsettled") if isinstance(value, str) else value

    @property
    def declared(self) -> bool:
        """Whether the study file names it, planned before the first run or not."""
        return self.planned or bool(self.amended)


class Interaction(FrozenModel):
    """Two factors changed together against the sum of the single changes (exploratory)."""

    factors: tuple[str, str]
    levels: tuple[str, str]
    references: tuple[str, str]
    metric: str
    difference: float | None = Field(description="Difference of differences, in metric units.")
    lo: float | None = None
    hi: float | None = None
    level: float = 0.95
    p: float | None = None
    p_adjusted: float | None = Field(None, description="Benjamini-Hochberg, with all exploratory.")
    n: int
    n_prompts: int = 0
    why: str = Field("", description="Why there is no number, or no interval.")
    aliases: list[str] = Field(
        default_factory=list, description="Interactions it cannot be told from."
    )


class Effect(FrozenModel):
    """A main effect: one level against the mean of the factor's levels (exploratory)."""

    factor: str
    level: str
    metric: str
    mean: float | None
    lo: float | None
    hi: float | None
    n: int
    n_prompts: int = 0
    why: str = Field("", description="Why there is no number, or no interval.")
    aliases: list[str] = Field(
        default_factory=list, description="Interactions it cannot be told from."
    )


class ParetoPoint(FrozenModel):
    """Membership of an arm in the Pareto front of two metrics."""

    arm: str
    x: float
    y: float
    on_front: bool
    probability: float = Field(description="Share of draws (a t by arm) with the arm on the front.")


class Agreement(FrozenModel):
    """How well a learned metric ranks trained arms like the one that reads the truth."""

    metric: str
    follows: str = Field(description="The metric that reads the truth.")
    rho: float | None = Field(
        description="Rank correlation, positive where better goes with better; None if none."
    )
    lo: float | None = None
    hi: float | None = None
    level: float = 0.95
    n: int = Field(description="Arms with both metrics; reference rows never count.")
    n_planned: int = Field(description="Planned arms.")
    agreement: AgreementName = Field(description="Whether the interval lies on one side of 0.")
    method: str = ""
    words: str = Field(description="One plain sentence with number, interval, n and scope.")


class Answer(FrozenModel):
    """Everything the report says."""

    rules: int = Field(1, description="Version of the rules that the verdicts are made by.")
    study: str
    question: str
    scope: str
    about: About = Field(
        "recipes",
        description="Checkpoints: from elsewhere, never trained here; those measured once each "
        "are compared over prompts alone.",
    )
    protocol: str
    protocol_name: str = ""
    primary: str
    headline: str = Field(description="First line of the MLflow note: state of the answer.")
    metrics: dict[str, dict[str, str | bool | None]] = Field(
        description="Metric to {unit, higher_is_better, description, headline}; headline first."
    )
    arms: list[ArmRow]
    verdicts: list[Verdict]
    effects: list[Effect]
    interactions: list[Interaction] = Field(default_factory=list)
    left_out: list[str] = Field(
        default_factory=list, description="Interactions that were not formed, and why."
    )
    alpha: float = Field(0.05, description="Level at which an adjusted p decides.")
    replicates: int = Field(0, description="Planned replicates per arm.")
    pareto: list[ParetoPoint] = Field(default_factory=list)
    pareto_metrics: tuple[str, str] | None = None
    fraction: Confounded | None = Field(None, description="Alias table of a fractional design.")
    frozen_at: float | None = Field(None, description="Unix time of the study's first run.")
    amendments: list[Amendment] = Field(
        default_factory=list, description="Changes of the study file since its first run."
    )
    agreement: list[Agreement] = Field(
        default_factory=list, description="Learned metrics against the oracle, over trained arms."
    )
    failures: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="'factor=level' to {state: count} of what did not finish."
    )
    seconds_all: float = Field(0.0, description="Wall seconds of every attempt, failures included.")
    seconds_failed: float = 0.0
    gpu_hours: float = 0.0
    attempts: int = Field(0, description="Attempts of the study's trials, every kind and state.")
    attempts_failed: int = Field(0, description="Attempts whose result does not count.")
    attempts_cut_off: int = Field(
        0, description="Attempts without a closing record: their time is not known."
    )
    trial_seconds: tuple[float, float, float] | None = Field(
        None, description="Least, median and most wall seconds of an attempt that counts."
    )
    devices: list[str] = Field(default_factory=list)
    warnings: list[str] = Field(
        default_factory=list, description="Confounds, mixed code, changes since."
    )
    prompt_spreads: list[PromptSpread] = Field(
        default_factory=list,
        exclude=True,
        description="For `plan`, which reads them from a file of their own beside the answer.",
    )
