"""Which designs of the same question fit a budget, what each costs and what it could detect.

Tried are the designs that the study file has all the settings for, each with as many replicates as
fit, on all levels and on those only that contrasts and baseline name. Trials that the history holds
cost nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from harness.errors import HarnessError
from harness.frozen_model import FrozenModel
from harness.journal.command_line import typed
from harness.journal.history import TrialHistory
from harness.journal.trial import Arm
from harness.planning.amendments import frozen_of
from harness.planning.detectable import Pilots, planned_contrast
from harness.planning.make import fingerprints_of, keyed_trials, ordered_arms, rerun_keys
from harness.planning.plan import Plan
from harness.planning.printed import detects
from harness.planning.reuse import as_read_by
from harness.study.arms import (
    ArmsError,
    baseline_of,
    everything_on,
    layout,
    mixtures,
    most_combinations,
)
from harness.study.fractions import NoFractionError
from harness.study.model import DESIGNS, Factor, Level, Scores, Study, find
from harness.study.opened_study import OpenedStudy
from harness.study.planned_contrast import PlannedContrast
from harness.study.where_expression import WhereError
from harness.subjects.identity import identity_of
from harness.text.spelling import nearest

MOST_ARMS = 2_000
MOST_REPLICATES = 100
FEWEST_REPLICATES = 2
"""One replicate says nothing about recipes."""
UNITS = ("gpu_hours", "hours")


@dataclass(frozen=True)
class Limit:
    """What a study may still spend."""

    unit: str
    amount: float

    @classmethod
    def read(cls, text: str) -> Limit:
        """From `gpu_hours=200` or `hours=8`.

        Raises:
            HarnessError: for anything else.
        """
        unit, _, amount = text.partition("=")
        if unit not in UNITS:
            raise HarnessError(f"--fit {text!r}: give gpu_hours=N or hours=N{nearest(unit, UNITS)}")
        try:
            value = float(amount)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise HarnessError(f"--fit {text!r}: {amount!r} is not a number above 0")
        return cls(unit, value)


class Fit(FrozenModel):
    """One design with the replicates that the limit allows."""

    design: str
    resolution: int | None = Field(None, description="For design fractional.")
    levels: str = Field(description="`all`, or `named`: only those in contrasts and baseline.")
    own: bool = Field(False, description="The design and levels of the study file.")
    arms: int
    replicates: int = Field(description="Most that fit; 2 where none do.")
    trials: int = Field(description="Trials still to run, references included.")
    hours: float = Field(description="Wall time with the parallelism of the plan.")
    gpu_hours: float
    fits: bool
    contrasts: list[PlannedContrast] = Field(
        description="With what they could detect; without pairs where the design has no answer."
    )


def fitting_designs(opened: OpenedStudy, plan: Plan, limit: Limit) -> list[Fit]:
    """The designs that fit, the study's own first; then those that do not.

    Args:
        opened: the study, and what is recorded already.
        plan: its plan: seconds a trial and parallelism come from there.
        limit: what may be spent from now on.

    Raises:
        HarnessError: if no trial was measured yet, or GPU-hours are asked of trials without GPUs.
    """
    study, subject = opened.study, opened.subject
    seconds = plan.cost.seconds_per_trial
    if seconds is None:
        again = typed("run", "--hours", 1, study=study.file, workspace=opened.workspace)
        raise HarnessError(
            "no finished trial says what one costs, so nothing can be fitted. Run the study "
            f"for a while: `{again}`. (It freezes the replicates: to try "
            "fewer first, give that study a name of its own.)"
        )
    if limit.unit == "gpu_hours" and study.resources.gpus == 0:
        raise HarnessError(
            "trials of this study take no GPU (resources.gpus is 0); give --fit hours=N"
        )
    rate = study.resources.gpus if limit.unit == "gpu_hours" else 1 / plan.cost.parallel
    affordable = int(limit.amount * 3600 / (seconds * rate) + 1e-9)
    seen: set[frozenset[bytes]] = set()
    found = []
    for variant, levels in variants(study):
        try:
            if most_combinations(variant) > MOST_ARMS:
                continue
            arms = layout(variant, subject).arms
        except (ArmsError, NoFractionError, WhereError):
            continue
        recipes = frozenset(arm.canonical_recipe() for arm in arms)
        start = baseline_of(variant)
        if recipes in seen or not arms or (start and not any(arm.baseline for arm in arms)):
            continue
        seen.add(recipes)
        own = variant is study
        found.append(_fit(opened.asking(variant), levels, own, arms, plan, affordable))
    return sorted(found, key=lambda fit: (not fit.fits, not fit.own))


def fit_lines(fits: list[Fit], limit: Limit) -> list[str]:
    """A design a line, its contrasts below."""
    amount = f"{limit.amount:g} {'GPU-h' if limit.unit == 'gpu_hours' else 'h'}"
    units = any(c.detectable_in == "units" for fit in fits for c in fit.contrasts)
    lines = [f"designs that fit {amount} from now on:"]
    for fit in (f for f in fits if f.fits):
        lines.append(_line(fit))
        for contrast in fit.contrasts:
            lines.append(f"    {contrast.id:<10} {_detects(contrast, fit.replicates, units)}")
    if len(lines) == 1:
        lines = [f"no design fits {amount}, not even with {FEWEST_REPLICATES} replicates:"]
    else:
        lines += ["do not fit:"] if any(not f.fits for f in fits) else []
    return lines + [_line(fit) for fit in fits if not fit.fits]


def _line(fit: Fit) -> str:
    name = fit.design + (f" (resolution {fit.resolution})" if fit.resolution else "")
    name += ", only levels named by contrasts and baseline" if fit.levels == "named" else ""
    name += " [as in the file]" if fit.own else ""
    most = " (no more are looked at)" if fit.replicates == MOST_REPLICATES else ""
    cost = f"{fit.hours:.3g} h" + (f", {fit.gpu_hours:.3g} GPU-h" if fit.gpu_hours else "")
    return f"  {name}: {fit.arms} arms x {fit.replicates}{most}, {fit.trials} trials to run, {cost}"


def _detects(contrast: PlannedContrast, seeds: int, units: bool) -> str:
    if not contrast.arms():
        return "not answered by this design"
    aliases = f"; cannot be told from {', '.join(contrast.aliases)}" if contrast.aliases else ""
    short = ""
    if contrast.detectable_in == "units" and contrast.margin is not None:
        missed = (contrast.detectable or 0.0) > contrast.margin
        short = f"; its margin {contrast.margin:.3g} may go undecided" if missed else ""
    return f"{detects(contrast, seeds, units)} on {contrast.metric}{short}{aliases}"


def _fit(
    opened: OpenedStudy, levels: str, own: bool, arms: list[Arm], plan: Plan, affordable: int
) -> Fit:
    study, subject, history = opened.study, opened.subject, opened.history
    prints = fingerprints_of(study, subject, arms)
    maker = identity_of(study.subject)
    keyed = keyed_trials(subject, arms, prints, MOST_REPLICATES, maker)
    keys = {place: key for place, (key, _) in keyed.items()}
    codes = {key: prints[arm].code for (arm, _), key in keys.items()}
    protocol = plan.fingerprints.protocol
    references = sum(t.trial.kind == "reference" and t.state != "reuse" for t in plan.trials)

    def missing(found: Iterable[str], code: str = "") -> int:
        known = ((history.trials.get(key), codes.get(key, code)) for key in found)
        return sum(not _there(t and t.read_by(study.name, c), protocol) for t, c in known)

    replicates = trials = 0
    once = references
    for r in range(1 + max((r for _, r in keys), default=0)):
        once += missing(keys[arm.name, r] for arm in arms if (arm.name, r) in keys)
        first = ordered_arms(arms)[0]
        again = rerun_keys(study.reruns, first, keyed, r + 1, maker)
        total = once + missing((key for _, key in again), prints[first.name].code)
        if total > affordable and r >= FEWEST_REPLICATES:
            break
        replicates, trials = r + 1, total
    chosen = study.model_copy(update={"replicates": replicates})
    made = layout(chosen, subject)
    recipes = {arm.name: arm.recipe for arm in arms}
    seen = history.read_by(study.name, codes)
    # It is one question in every design: what the study's own shows, each is told.
    theirs = [t.trial for t in plan.trials if t.trial.kind == "trial"]
    its_keys = {(trial.arm, trial.replicate): trial.key for trial in theirs}
    better = {name: spec.higher_is_better for name, spec in subject.metrics.items()}
    whole = Pilots(as_read_by(plan, history), its_keys, protocol, higher_is_better=better)
    lent = {c.id: c.prompt_spread for c in plan.contrasts if c.prompt_spread is not None}
    pilots = Pilots(seen, keys, protocol, higher_is_better=better, whole=whole, lent=lent)
    contrasts = [
        planned_contrast(
            chosen,
            contrast,
            made,
            pilots,
            recipes=recipes,
            mixtures=mixtures(chosen, subject),
            frozen=frozen_of(history, study.name),
        )
        for contrast in study.contrasts
    ]
    seconds = trials * (plan.cost.seconds_per_trial or 0.0)
    return Fit(
        design=study.design,
        resolution=study.resolution,
        levels=levels,
        own=own,
        arms=len(arms),
        replicates=replicates,
        trials=trials,
        hours=seconds / plan.cost.parallel / 3600,
        gpu_hours=seconds * study.resources.gpus / 3600,
        fits=trials <= affordable,
        contrasts=contrasts,
    )


def _there(known: TrialHistory | None, protocol: str) -> bool:
    complete = known.complete if known else None
    if known is None or complete is None or complete.closed is None:
        return False
    return complete.closed.state == "diverged" or bool(known.measured(protocol))


def variants(study: Study) -> Iterator[tuple[Study, str]]:
    """The study's own design, then the others it has the settings for; all levels, then named."""
    for levels, base in (("all", study), ("named", _thinned(study))):
        if base is None:
            continue
        yield base, levels
        for design in DESIGNS:
            if design in ("zip", "explicit") or not _settled(base, design):
                continue
            for resolution in (3, 4, 5) if design == "fractional" else (None,):
                made = {"design": design, "resolution": resolution}
                if made != {"design": study.design, "resolution": study.resolution}:
                    yield base.model_copy(update=made), levels


def _settled(study: Study, design: str) -> bool:
    """Whether the file says all that a design needs."""
    levels = study.levels()
    if design in ("one_factor", "pairs"):
        return bool(study.baseline)
    if design == "leave_one_out":
        if not all(factor.has_off for factor in study.factors.values()):
            return False
        return bool(study.baseline) or everything_on(study.factors, levels).keys() == levels.keys()
    return design != "fractional" or all(len(own) == 2 for own in levels.values())


def _thinned(study: Study) -> Study | None:
    """The study with the levels that contrasts and baseline name; None if those are all.

    A factor that no contrast names keeps all of its levels: contrasts are averaged over them.
    """
    if not study.contrasts or study.design in ("zip", "explicit"):
        return None
    named: dict[str, set[str]] = {factor: set() for factor in study.factors}
    levels = study.levels()
    for contrast in study.contrasts:
        for name, picked in contrast.levels.items():
            named[name] |= _labels(levels[name], picked)
        for name in contrast.factors:  # trend, best and slopes are over all levels
            by_side = any(name in s for s in (*contrast.sides, contrast.collapse, contrast.levels))
            named[name] |= set() if by_side else set(levels[name])
    sides = [s for c in study.contrasts for s in (*c.sides, c.collapse, c.at)]
    for side in (study.baseline, *sides):
        for name, value in side.items():
            named[name] |= _labels(levels[name], [value])
    factors = {}
    for name, factor in study.factors.items():
        own = levels[name]
        judged = any(name in c.at or name in c.factors for c in study.contrasts)
        kept = [v.index for label, v in own.items() if label in named[name] or not judged]
        written = factor.levels
        left = (
            {k: v for k, v in written.items() if k in kept}
            if isinstance(written, dict)
            else [v for i, v in enumerate(written) if i in kept]
        )
        update = {"levels": left, "ordered": _order_of(factor, own, kept)}
        factors[name] = factor.model_copy(update=update)
    if all(len(factors[f].levels) == len(study.factors[f].levels) for f in factors):
        return None
    return study.model_copy(update={"factors": factors})


def _labels(levels: Mapping[str, Level], values: Iterable[Any]) -> set[str]:
    found = (find(levels, value) for value in values)
    return {level.label for level in found if level is not None}


def _order_of(factor: Factor, own: Mapping[str, Level], kept: Sequence[int | str]) -> Any:
    """How the levels that are kept are ordered: listed scores are those of all levels."""
    if not isinstance(factor.ordered, Scores):
        return factor.ordered
    pairs = zip(own.values(), factor.ordered.scores, strict=True)
    return Scores(scores=[score for level, score in pairs if level.index in kept])
