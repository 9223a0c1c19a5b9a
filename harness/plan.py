"""Study + history -> what will run, what it costs and what it can detect. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.contract import Fingerprints
from harness.running.collector import paused
from harness.trial import Arm, Trial

if TYPE_CHECKING:
    from harness.design import Layout
    from harness.journal import History
    from harness.study import Study
    from harness.workspace import Workspace

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
    spent_gpu_hours: float = Field(
        0.0, description="GPU-hours of all attempts made so far, failures included."
    )
    budget_gpu_hours: float | None = Field(None, description="The study's limit, if it has one.")


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

    design: str = Field("full", description="How arms were chosen from the levels.")
    mixtures: dict[str, dict[str, dict[str, float]]] = Field(
        default_factory=dict, description="Mixture path -> arm -> resolved shares, where they vary."
    )

    def count(self, state: PlanState) -> int:
        """Number of trials in a state."""
        return sum(t.state == state for t in self.trials)

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(a for a in self.arms if a.name == name)

    def unpartnered(self, contrast: PlannedContrast) -> list[str]:
        """Arms that the contrast drops though the design could have matched them.

        Under `one_factor` an arm differs from the baseline only, so having no partner is normal.
        """
        return [] if self.design == "one_factor" else contrast.unmatched

    def missing(self) -> list[PlannedTrial]:
        """Trials that `run` would execute (stale ones not among them)."""
        return [t for t in self.trials if t.state in ("new", "measure")]


SCOPED = 200
"""Arms whose scope is asked for: a subject may have to read a whole recipe for it."""


def _joined(scopes: list[str]) -> str:
    """What claims about all arms are limited to: `on the toy world, 40 cycles or 58 cycles`."""
    different = list(dict.fromkeys(scopes))
    heads, _, tails = zip(*(text.rpartition(", ") for text in different), strict=True)
    if len(set(heads)) > 1 or not heads[0]:
        return " or ".join(different)
    return f"{heads[0]}, {' or '.join(tails)}"


@paused()
def make_plan(
    study: Study,
    history: History,
    *,
    workspace: Workspace,
    parallel: int | None = None,
    check_devices: bool = True,
) -> Plan:
    """Plan a checked study against a history. Writes nothing.

    Args:
        study: from `harness.study.load`.
        history: what is recorded already.
        workspace: where students are kept and trials are claimed.
        parallel: trials at once; default what fits on this machine.
        check_devices: refuse GPUs that are not here; off where the trials run elsewhere.

    Raises:
        HarnessError: if a trial asks for devices that do not exist, or the protocol is refused.
    """
    from harness import subjects  # the functions below need the models above
    from harness.design import layout, mixtures
    from harness.planning import cost
    from harness.planning.attainable import planned_contrast
    from harness.planning.matching import match
    from harness.planning.reuse import Recorded, orphans
    from harness.planning.trial_order import fingerprints_of, trials_of
    from harness.workspace import project_of

    if check_devices:
        cost.check_devices(study.resources)
    subject = subjects.load(study.subject, project=project_of(study.file))
    made = layout(study, subject)
    prints = fingerprints_of(study, subject, made.arms)
    own = prints[made.arms[0].name]
    recorded = Recorded(history, workspace, hasattr(subject, "measure"), tuple(study.measure_at))
    planned = trials_of(study, subject, made.arms, prints)
    trials = [recorded.judge(trial, prints.get(trial.arm, own)) for trial in planned]
    keys = {
        (t.trial.arm, t.trial.replicate): t.trial.key for t in trials if t.trial.kind != "rerun"
    }
    contrasts = [
        planned_contrast(
            study,
            contrast,
            match(study, made, contrast),
            history,
            keys,
            arms=len(made.arms),
            protocol=own.protocol,
        )
        for contrast in study.contrasts
    ]
    estimate = cost.cost_of(study, trials, history, parallel)
    scope = getattr(subject, "scope", None)
    over = cost.budget_warning(study, estimate)
    warnings = [*history.warnings, *_shared(made), *_differing(prints), *([over] if over else [])]
    return Plan(
        study=study.name,
        question=study.question,
        digest=study.digest(),
        study_file=str(study.file),
        subject=study.subject,
        protocol=study.protocol,
        fingerprints=own,
        factors={factor: list(levels) for factor, levels in study.levels().items()},
        arms=made.arms,
        trials=trials,
        contrasts=contrasts,
        replicates=study.replicates,
        primary=study.primary,
        scope=_joined([str(scope(arm.recipe, study.protocol)) for arm in made.arms[:SCOPED]])
        if scope
        else "",
        cost=estimate,
        orphans=orphans(history, study.name, {t.key for t in planned} | set(keys.values())),
        warnings=warnings,
        design=study.design,
        mixtures=mixtures(study, subject),
    )


def _shared(made: Layout) -> list[str]:
    """Combinations of levels that are one recipe, and so are run once."""
    return [
        f"arm {arm} stands for {len(combinations)} combinations that are the same recipe: "
        + "; ".join(", ".join(f"{k}={v}" for k, v in c.items()) for c in combinations)
        for arm, combinations in made.shared.items()
    ]


def _differing(prints: Mapping[str, Fingerprints]) -> list[str]:
    """Arms whose protocol or code is not the first arm's: their numbers do not compare."""
    found = []
    for part in ("protocol", "code"):
        groups: dict[str, list[str]] = {}
        for arm, own in prints.items():
            groups.setdefault(getattr(own, part), []).append(arm)
        if len(groups) > 1:
            sizes = ", ".join(f"{len(arms)} arm(s) like {arms[0]}" for arms in groups.values())
            found.append(f"the {part} fingerprint is not the same for all arms: {sizes}")
    return found
