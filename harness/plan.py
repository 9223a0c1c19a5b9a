"""Study + history -> what will run, what it costs and what it can detect. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from harness.code_files import conflict
from harness.contract import Fingerprints, Subject
from harness.planning.adaptive import Adaptive, adaptive_of, as_at_most
from harness.planning.amendments import Amendment, day
from harness.planning.planned import (
    Confounded,
    Cost,
    PlannedContrast,
    PlannedTrial,
    PlanState,
    weights_of,
)
from harness.running.collector import paused
from harness.subjects.settings import StudentsSettings, SubjectSpec
from harness.trial import Arm

if TYPE_CHECKING:
    from harness.design import Layout
    from harness.journal import Frozen, History
    from harness.study import Study
    from harness.workspace import Workspace

__all__ = [
    "Confounded",
    "Cost",
    "Plan",
    "PlanState",
    "PlannedContrast",
    "PlannedTrial",
    "make_plan",
    "weights_of",
]


class Plan(BaseModel):
    """Everything `run` needs and `plan` shows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
        """Number of trials in a state."""
        return sum(t.state == state for t in self.trials)

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
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
    gpus: int | None = None,
    subject: Subject | None = None,
    until_decided: bool = False,
    at_most: int | None = None,
) -> Plan:
    """Plan a checked study against a history. Writes nothing.

    Args:
        study: from `harness.study.load`.
        history: what is recorded already.
        workspace: where students are kept and trials are claimed.
        parallel: trials at once; default what fits on this machine.
        check_devices: refuse GPUs that are not here; off where the trials run elsewhere.
        gpus: GPUs of the cluster that is planned for, instead of those here.
        subject: in the place of the one that the study names.
        until_decided: plan a run that stops when it is decided; a study that began so goes on so.
        at_most: replicates such a run may come to; default the study's.

    Raises:
        HarnessError: if a trial asks for devices that do not exist, or the protocol is refused.
    """
    from harness import subjects  # the functions below need the models above
    from harness.design import layout, mixtures
    from harness.planning import cost
    from harness.planning.amendments import amendments, frozen_fields, frozen_of, known_arms
    from harness.planning.attainable import Pilots, planned_contrast
    from harness.planning.expected import not_here
    from harness.planning.matching import match
    from harness.planning.prompt_spread import recorded_for
    from harness.planning.reuse import Recorded, orphans, read_by_plan
    from harness.planning.spending import spent_gpu_hours
    from harness.planning.trial_order import earlier_fingerprints, fingerprints_of, trials_of
    from harness.workspace import project_of

    if gpus is not None:
        parallel = parallel or cost.parallel_of(study.resources, gpus)
    elif check_devices:
        cost.check_devices(study.resources)
    subject = subject or subjects.load(study.subject, project=project_of(study.file))
    frozen, written = frozen_of(history, study.name), study
    adaptive = adaptive_of(study, history, frozen, until_decided=until_decided, at_most=at_most)
    study = as_at_most(study, adaptive)
    made = layout(study, subject)
    prints = fingerprints_of(study, subject, made.arms)
    own = prints[made.arms[0].name]
    recorded = Recorded(
        history,
        workspace,
        study.name,
        hasattr(subject, "measure"),
        tuple(study.measure_at),
        partial(earlier_fingerprints, study, subject),
    )
    planned, of_rows = trials_of(study, subject, made.arms, prints)
    planned = adaptive.planned(planned) if adaptive is not None else planned
    own_prints = {**of_rows, **prints}
    trials = [recorded.judge(trial, own_prints[trial.arm]) for trial in planned]
    keys = {
        (t.trial.arm, t.trial.replicate): t.trial.key for t in trials if t.trial.kind != "rerun"
    }
    seen = read_by_plan(study.name, own, trials, history)
    then = known_arms(made.arms, keys, history, study.name) if frozen is not None else None
    shares = mixtures(study, subject)
    recipes = {arm.name: arm.recipe for arm in made.arms}
    pilots = Pilots(
        seen,
        keys,
        own.protocol,
        recorded_for(study, workspace),
        higher_is_better={name: spec.higher_is_better for name, spec in subject.metrics.items()},
    )
    contrasts = [
        planned_contrast(
            study,
            contrast,
            match(study, made, contrast),
            pilots,
            recipes=recipes,
            mixtures=shares,
            frozen=frozen,
            arms=then,
        )
        for contrast in study.contrasts
    ]
    gone = orphans(history, study.name, {t.key for t in planned} | {t.trial.key for t in trials})
    known = {*gone, *(t.trial.key for t in trials)}
    spent = spent_gpu_hours(study.name, known, history, workspace)
    estimate = cost.cost_of(study, trials, history, parallel, subject, spent=spent)
    scope = getattr(subject, "scope", None)
    over = cost.budget_warning(study, estimate)
    lost = _lost(frozen)
    warnings = [
        *history.warnings,
        *lost,
        *_shared(made),
        *_differing(prints),
        *([over] if over else []),
    ]
    return Plan(
        study=study.name,
        question=study.question,
        digest=written.digest(),
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
        orphans=gone,
        warnings=warnings,
        not_here=not_here(study, subject, (arm.recipe for arm in made.arms)),
        design=study.design,
        mixtures=shares,
        fraction=_confounded(study),
        adaptive=adaptive,
        **frozen_fields(written, frozen),
        amendments=amendments(written, [arm.name for arm in made.arms], history),
    )


def _lost(frozen: Frozen | None) -> list[str]:
    if frozen is None or not frozen.lost:
        return []
    return [
        f"attempts of this study are recorded from {day(frozen.at)} on, but no plan from before "
        "them: nothing says what was planned, so every contrast is exploratory"
    ]


def _confounded(study: Study) -> Confounded | None:
    if study.design != "fractional":
        return None
    from harness.planning.enumeration import fraction_of

    fraction, names = fraction_of(study), list(study.factors)
    return Confounded(
        resolution=fraction.resolution,
        arms=fraction.runs,
        combinations=2 ** len(names),
        generators=fraction.generators(names),
        aliases=fraction.aliases(names),
    )


def _shared(made: Layout) -> list[str]:
    """Combinations of levels that are one recipe, and so are run once."""
    return [
        f"arm {arm} stands for {len(combinations)} combinations that are the same recipe: "
        + "; ".join(", ".join(f"{k}={v}" for k, v in c.items()) for c in combinations)
        for arm, combinations in made.shared.items()
    ]


def _differing(prints: Mapping[str, Fingerprints]) -> list[str]:
    """Arms whose protocol or code is not the first arm's: their numbers do not compare.

    Arms may run different source files; their code differs where a file of both does.
    """
    found = []
    for part in ("protocol", "code"):
        groups: dict[str, list[str]] = {}
        for arm, own in prints.items():
            groups.setdefault(getattr(own, part), []).append(arm)
        firsts = {value: prints[arms[0]].code_files for value, arms in groups.items()}
        if len(groups) > 1 and (part == "protocol" or conflict(firsts)):
            sizes = ", ".join(f"{len(arms)} arm(s) like {arms[0]}" for arms in groups.values())
            found.append(f"the {part} fingerprint is not the same for all arms: {sizes}")
    return found
