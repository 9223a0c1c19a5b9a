"""The records of a journal: what a study planned, how attempts began and ended."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from harness.contract import Artifact, Estimate
from harness.frozen_model import FrozenModel
from harness.journal.states import EndState
from harness.journal.trial import Trial
from harness.journal.workspace import WorkspaceId
from harness.text.identifiers import Name
from harness.text.secrets import public

Moment = Annotated[float, Field(ge=0, lt=253402300800)]
"""Unix time, seconds; before the year 10000, so that it can be told as a date."""


class _Record(BaseModel):
    # later versions may add fields; `1e999` would be read as infinity
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def _without_secrets(study: dict[str, Any]) -> dict[str, Any]:
    """As it is written today: earlier versions recorded secrets of a command's `env`."""
    subject = study.get("subject")
    env = subject.get("env") if isinstance(subject, Mapping) else None
    if not isinstance(subject, Mapping) or not isinstance(env, Mapping) or not env:
        return study
    if not all(isinstance(value, str) for value in env.values()):
        return study
    return {**study, "subject": {**subject, "env": public(env)}}


_StudyJson = Annotated[dict[str, Any], AfterValidator(_without_secrets)]


class Spending(_Record):
    """Levels of the looks of a study that runs until it is decided (`analysis/spending.py`)."""

    at_most: int = Field(ge=2, le=10_000, description="Replicates at most: the last look.")
    first: int = Field(ge=2, description="Replicates at the first look; one after each from there.")
    alphas: list[float] = Field(min_length=1, description="Error rates of one contrast, rising.")
    levels: list[list[float]] = Field(
        description="For each of them the p that rejects at each look, from the first to the last."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        looks = self.at_most - self.first + 1
        rising = all(0 < a < b for a, b in pairwise([*self.alphas, 1.0 + 1e-9]))
        if looks < 1 or not rising or len(self.levels) != len(self.alphas):
            raise ValueError("alphas of looks must rise to 1 at most, with levels for each")
        if any(len(row) != looks or not all(0 < p <= 1 for p in row) for row in self.levels):
            raise ValueError(f"levels of looks must be {looks} numbers in (0, 1] for each alpha")
        return self

    def level(self, replicates: int, alpha: float) -> float:
        """The two-sided p below which a contrast is decided at a look, if `alpha` is its share.

        Interpolated in log alpha, as the ratio of level to alpha.
        """
        column = replicates - self.first
        if not 0 <= column <= self.at_most - self.first:
            raise ValueError(f"no look after {replicates} replicates: {self.first}-{self.at_most}")
        if alpha >= self.alphas[-1]:
            return self.levels[-1][column]
        if alpha <= self.alphas[0]:
            return self.levels[0][column] / self.alphas[0] * alpha
        above = bisect_right(self.alphas, alpha)
        (a, low), (b, high) = (
            (math.log(self.alphas[i]), math.log(self.levels[i][column] / self.alphas[i]))
            for i in (above - 1, above)
        )
        part = (math.log(alpha) - a) / (b - a)
        return alpha * math.exp(low + part * (high - low))

    def alpha_of(self, replicates: int, p: float) -> float:
        """The share of alpha at which a look's p is just small enough: p corrected for looking."""
        if p <= 0.0:
            return 0.0
        low, high = math.log(p) - 60.0, 0.0
        if self.level(replicates, 1.0) <= p:
            return 1.0
        while high - low > 1e-12:
            middle = (low + high) / 2
            small = self.level(replicates, math.exp(middle)) < p
            low, high = (middle, high) if small else (low, middle)
        return math.exp((low + high) / 2)


SAME_NUMBER = 1e-7
"""Relative difference up to which a number is the one that a look saw: machines round otherwise."""
OutcomeState = Literal["open", "decided", "futile", "prompt-bound"]


class LookOutcome(_Record):
    """What a planned contrast said at a look."""

    state: OutcomeState = Field(
        description="open: more replicates could decide it. futile: little hope of a difference. "
        "prompt-bound: on these prompts no number of replicates could."
    )
    verdict: str = ""
    level: float = Field(description="Two-sided error rate of its last interval.")
    p: float | None = Field(None, description="Neither adjusted for others nor for looking.")
    difference: float | None = None
    lo: float | None = None
    hi: float | None = None

    @property
    def told(self) -> str:
        """In a word: `improves`, `futile`, `open`."""
        return self.verdict if self.state == "decided" else self.state

    def is_of(self, p: float | None, difference: float | None) -> bool:
        """Whether it was made of the same numbers: trials may have ended since."""
        pairs = [(self.p, p)]
        if self.difference is not None:
            pairs.append((self.difference, difference))
        return all(_alike(then, now) for then, now in pairs)


def _alike(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return math.isclose(one, other, rel_tol=SAME_NUMBER, abs_tol=1e-290)


class Look(_Record):
    """A look that was taken: it is not taken again."""

    at: Moment
    replicates: int = Field(ge=2, description="Complete replicates it was taken on.")
    outcomes: dict[str, LookOutcome] = Field(
        description="Planned contrast -> what it said; of those that were open before."
    )
    dropped: list[str] = Field(
        default_factory=list, description="Arms that are not planned further from here."
    )
    over: bool = Field(False, description="Nothing is open any more: the study is decided.")


class Frozen(_Record):
    """What a study said when it was first run: the rest is judged against this for good."""

    at: Moment = Field(description="Unix time of the first run, seconds.")
    digest: str
    study_json: _StudyJson
    arms: list[str] = Field(default_factory=list, description="Names of the arms planned then.")
    cells: dict[str, str] = Field(
        default_factory=dict, description="Contrast -> digest of the names of arms it compares."
    )
    compared: dict[str, str] = Field(
        default_factory=dict,
        description="Contrast -> digest of the recipes it compares, whatever they are called; "
        "empty in records of earlier versions.",
    )
    lost: bool = Field(
        False, description="Attempts were recorded, but no plan before them: it was not the first."
    )
    spending: Spending | None = Field(
        None, description="Of a study that runs until it is decided: its looks and their levels."
    )


class Planned(_Record):
    """A study was started: its resolved text and every trial it plans (references included)."""

    type: Literal["planned"] = "planned"
    at: Moment = Field(description="Unix time, seconds.")
    study: Name
    digest: str = Field(description="sha256 of the study's canonical JSON.")
    study_json: _StudyJson
    study_file: str = Field("", description="Path relative to the project.")
    trials: list[Trial]
    codes: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Code digest -> arms and reference rows that the study reads results of it of.",
    )
    accepted: dict[Name, str] = Field(
        default_factory=dict,
        description="Key -> code digest of another result that the study reads (--accept-stale).",
    )
    frozen: Frozen | None = Field(
        None, description="What the first run froze; every later record carries it along."
    )
    looks: list[Look] = Field(
        default_factory=list,
        description="Looks taken so far, where it runs until decided; carried along as well.",
    )

    def reads(self) -> dict[str, str]:
        """Key -> digest of the code whose result the study reads; empty in old records."""
        of_arm = {arm: code for code, arms in self.codes.items() for arm in arms}
        codes = {t.key: of_arm[t.arm] for t in self.trials if t.arm in of_arm}
        return codes | self.accepted


class PromptSpread(FrozenModel):
    """Variance of one contrast's difference over prompts, with what it rests on.

    It stands in a file of its own beside the answer: see `planning/prompt_spread.py`.
    """

    id: str = Field(description="The contrast.")
    metric: str
    replicates: list[str] = Field(description="Digest of each replicate's trials and values.")
    variance: float = Field(ge=0, description="SE_P^2: of the difference, over prompts.")
    both: float = Field(ge=0, description="SE_E^2: the part that the spread over seeds holds too.")
    df: float = Field(gt=0, description="Degrees of freedom of `variance`.")
    prompts: int = Field(ge=2, description="Prompts in all strata.")
    strata: int = Field(ge=1)


class Opened(_Record):
    """An attempt of a trial began."""

    type: Literal["opened"] = "opened"
    at: Moment
    key: Name
    attempt: int = Field(ge=1)
    nonce: Name
    study: Name
    mode: Literal["train", "measure"] = "train"
    trial: Trial
    protocol: str = Field(description="Protocol fingerprint.")
    protocol_name: str = ""
    code: str = Field(description="Code digest.")
    code_files: dict[str, str] = Field(default_factory=dict)
    data_files: dict[str, str] = Field(default_factory=dict)
    invocation: tuple[str, ...] = Field((), description="Words of a command.")
    student_of: str = Field(
        "", description="Mode measure: nonce of the attempt whose student is measured."
    )
    environment: dict[str, str] = Field(
        default_factory=dict, description="Python and package versions."
    )
    device: str = Field("", description="Device model.")
    gpus: float = Field(0.0, description="GPUs it takes; 0 too in records of earlier versions.")
    host: str = ""
    workspace: WorkspaceId = Field(
        "", description="Id of the workspace it was made in; empty in records of earlier versions."
    )
    resumed_from: int | None = Field(None, description="Attempt whose checkpoint was copied.")

    def is_elsewhere(self, workspace: str) -> bool:
        """Whether it was made in another workspace than the one of this id, as far as is known."""
        return bool(self.workspace) and self.workspace != workspace


class MeasuredAt(_Record):
    """Metrics of one measurement: a trial at a step under a protocol fingerprint."""

    step: int
    metrics: dict[str, float | None] = Field(description="None where the value was not finite.")
    estimates: list[Estimate] = Field(default_factory=list)


class Closed(_Record):
    """An attempt ended. `done` and `diverged` complete the trial; the others do not."""

    type: Literal["closed"] = "closed"
    at: Moment
    key: Name
    attempt: int
    nonce: Name
    state: EndState
    reason: str = ""
    seconds: float = Field(0.0, description="Wall time of the attempt.")
    gpus: float = 0.0
    step: int = 0
    measurements: list[MeasuredAt] = Field(default_factory=list)
    artifacts: list[Artifact] = Field(
        default_factory=list, description="Final items, student, panels."
    )
    info: dict[str, str] = Field(default_factory=dict)


class Glanced(Closed):
    """A closing record without its numbers and files: they are read under names no line has."""

    measurements: list[MeasuredAt] = Field(default_factory=list, validation_alias="not read")
    artifacts: list[Artifact] = Field(default_factory=list, validation_alias="not read either")


class Superseded(_Record):
    """A study no longer reads the results that some code made of a trial (`--rerun-stale`).

    They stay, and other studies go on reading them.
    """

    type: Literal["superseded"] = "superseded"
    at: Moment
    key: Name
    attempt: int = Field(description="Their last attempt.")
    study: str = Field("", description="Whose; in records of earlier versions all studies.")
    code: str = Field("", description="Digest of the code that made them.")
    workspace: WorkspaceId = Field("", description="Id of the workspace where that was said.")
    reason: str = ""


Record = Planned | Opened | Closed | Superseded
