"""The plan as data: trials with their states, contrasts resolved to arms, cost. Written nowhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from harness.contract import Fingerprints
from harness.frozen_model import FrozenModel
from harness.journal.records import Look, LookOutcome, OutcomeState, Spending
from harness.journal.states import PlanState
from harness.journal.trial import Arm, Trial
from harness.study.planned_contrast import PlannedContrast
from harness.subjects.settings import StudentsSettings, SubjectSpec


class Plan(FrozenModel):
    """Everything `run` needs and `plan` shows."""

    study: str
    question: str
    digest: str = Field(description="sha256 of the study's canonical JSON.")
    study_file: str
    subject: SubjectSpec = Field(description="Import string, or the settings of a command.")
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
    gaps: dict[str, tuple[str, str]] = Field(
        default_factory=dict,
        description="Arm to its reference rows of teacher and data, where the subject names them.",
    )
    cost: Cost
    orphans: list[str] = Field(
        default_factory=list, description="Keys once planned by this study, no longer."
    )
    warnings: list[str] = Field(default_factory=list)
    not_here: list[str] = Field(
        default_factory=list,
        description="What trials need and this machine lacks: `run` refuses while there is any.",
    )

    design: str = Field("full", description="How arms were chosen from the levels.")
    mixtures: dict[str, dict[str, dict[str, float]]] = Field(
        default_factory=dict, description="Mixture path -> arm -> resolved shares, where they vary."
    )

    fraction: Confounded | None = Field(None, description="For design fractional.")
    alpha: float = Field(0.05, description="Error rate of the planned contrasts: the frozen one.")
    adaptive: Adaptive | None = Field(
        None, description="How it runs until it is decided, if it does; `replicates` are at most."
    )
    frozen_at: float | None = Field(None, description="Unix time of the study's first run.")
    frozen_replicates: int | None = Field(None, description="Replicates planned at the first run.")
    frozen_contrasts: int | None = Field(
        None, description="Contrasts planned at the first run: the family that Holm adjusts for."
    )
    amendments: list[Amendment] = Field(
        default_factory=list, description="Changes of the study file since its first run."
    )

    @property
    def of_checkpoints(self) -> bool:
        """Whether its trials are checkpoints from elsewhere, measured and never trained."""
        return isinstance(self.subject, StudentsSettings)

    def count(self, state: PlanState) -> int:
        return sum(t.state == state for t in self.trials)

    def arm(self, name: str) -> Arm:
        return next(a for a in self.arms if a.name == name)

    def replicates_of(self, arm: str) -> int:
        """Replicates planned of an arm: all, unless a look ended it before."""
        return self.replicates if self.adaptive is None else self.adaptive.replicates_of(arm)

    def unpartnered(self, contrast: PlannedContrast) -> list[str]:
        """Arms that the contrast drops though the design could have matched them.

        Designs that run a part of all combinations leave arms without a partner by intention.
        """
        return contrast.unmatched if self.design in ("full", "explicit", "zip") else []

    def missing(self) -> list[PlannedTrial]:
        """Trials that `run` would execute (stale ones not among them)."""
        return [t for t in self.trials if t.state in ("new", "measure")]


Kind = Literal["added", "removed", "changed"]
AmendedPath = tuple[str, ...]


class Amendment(FrozenModel):
    """One change of a study file after its first run."""

    path: str = Field(description="What changed, e.g. `contrasts.H12.margin`.")
    kind: Kind
    before: str = Field("", description="What it was, as short JSON.")
    now: str = Field("", description="What it became, as short JSON.")
    at: float | None = Field(
        None, description="Unix time of the first run with it; None: no run has it yet."
    )

    @property
    def words(self) -> str:
        """`contrasts.H12.margin: 0.01 -> 0.02 (run 2026-11-24)`."""
        change = {
            "added": f"added {self.now}",
            "removed": f"removed, was {self.before}",
            "changed": f"{self.before} -> {self.now}",
        }[self.kind]
        when = "not run yet" if self.at is None else f"run {day(self.at)}"
        return f"{self.path}: {change} ({when})"


def day(at: float) -> str:
    """A date as people write it, in UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))


FIRST_LOOK = 3
"""Replicates at the first look."""


class Adaptive(FrozenModel):
    """How a study runs until it is decided."""

    at_most: int = Field(description="Replicates at most.")
    first: int = Field(FIRST_LOOK, description="Replicates at the first look; then one each.")
    spending: Spending | None = Field(
        None, description="Levels of the looks, once the first run froze them."
    )
    looks: list[Look] = Field(default_factory=list, description="Taken so far, in order.")

    @property
    def over(self) -> bool:
        """Whether no further replicate is planned."""
        return any(look.over for look in self.looks)

    @property
    def looked(self) -> int:
        """Replicates at the last look; 0 before the first."""
        return self.looks[-1].replicates if self.looks else 0

    @property
    def due(self) -> int:
        """Replicates at the next look."""
        return max(self.first, self.looked + 1)

    def replicates_of(self, arm: str) -> int:
        """Replicates planned of an arm: all, unless a look ended it."""
        ended = [k.replicates for k in self.looks if k.over or arm in k.dropped]
        return min(ended, default=self.at_most)

    def judged_on(self, contrast: str, due: int | None = None) -> int:
        """Replicates a planned contrast is judged on: those of the look that ended it, if one did.

        Else those of the look that is `due`, or of the last one; 0 before the first.
        """
        ended = self.ended().get(contrast)
        return ended[0] if ended else self.looked if due is None else due

    def ended(self) -> dict[str, tuple[int, OutcomeState]]:
        """Contrast -> replicates of the look that ended it, and how."""
        found: dict[str, tuple[int, OutcomeState]] = {}
        for look in self.looks:
            for contrast, said in look.outcomes.items():
                if said.state != "open":
                    found.setdefault(contrast, (look.replicates, said.state))
                    if said.state == "decided":  # though given up before: others have left since
                        found[contrast] = found[contrast][0], "decided"
        return found

    def how(self, contrast: str) -> str:
        """What a look made of a contrast: `improves`, `futile`; empty while it is open."""
        said = [k.outcomes[contrast] for k in self.looks if contrast in k.outcomes]
        last = [o for o in said if o.state != "open"]
        return last[-1].told if last else ""

    def last_said(self, contrast: str) -> tuple[int, LookOutcome] | None:
        """Replicates of the last look that tells of a contrast, and what it said."""
        told = [k for k in self.looks if contrast in k.outcomes]
        return (told[-1].replicates, told[-1].outcomes[contrast]) if told else None

    def planned(self, trials: Sequence[Trial]) -> list[Trial]:
        """Of all trials at most, those that no look has ended; reruns of replicates that ran."""
        return [
            t for t in trials if t.kind == "reference" or t.replicate < self.replicates_of(t.arm)
        ]


INCOMPARABLE = "records of an earlier version, whose code nothing compares with today's"
"""Why a result counts that nothing says to be of today's code."""


class PlannedTrial(FrozenModel):
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


class Confounded(FrozenModel):
    """A fraction of all combinations, and what it cannot tell apart."""

    resolution: int
    arms: int = Field(description="Arms of the whole fraction, before `where`.")
    combinations: int = Field(description="All combinations, of which it is a fraction.")
    generators: dict[str, str] = Field(description="Factor -> the product it is set by.")
    aliases: dict[str, list[str]] = Field(
        description="Effect -> what it cannot be told from, up to two-factor interactions; every "
        "main effect, then interactions clear of main effects, the first of each confounded set."
    )


class Cost(FrozenModel):
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


class ExpectedTrials(FrozenModel):
    """Trials of a study that runs until decided; references and reruns are left out."""

    at_most: int = Field(description="If nothing is ever decided or given up.")
    nothing_differs: float = Field(description="On average, if no contrast has a difference.")
    as_detectable: float = Field(
        description="On average, if each has the one that all replicates would find in 80 %."
    )
