"""Makes a plan: study + history -> what will run, in what order, its cost, what it detects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.contract import Fingerprints, Subject
from harness.errors import HarnessError
from harness.journal.code import conflict
from harness.journal.gc_pauses import paused
from harness.journal.trial import Arm, Trial, canonical, key_of, keys_of
from harness.planning import cost, devices
from harness.planning.amendments import amendments, frozen_fields, frozen_of, known_arms
from harness.planning.cost import not_here, spent_gpu_hours
from harness.planning.detectable import Pilots, planned_contrast
from harness.planning.looks import adaptive_of, with_most_replicates
from harness.planning.plan import Confounded, Plan, day
from harness.planning.prompt_spread import recorded_for
from harness.planning.reuse import ReuseCheck, orphans, read_by_plan
from harness.study.arms import fraction_of, layout, mixtures
from harness.study.model import Study
from harness.subjects.identity import identity_of, maker_of_references
from harness.subjects.load import Digests, data_of, digests_of_references
from harness.subjects.settings import name_of

if TYPE_CHECKING:
    from harness.journal.records import Frozen
    from harness.study.arms import Layout
    from harness.study.opened_study import OpenedStudy


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
    opened: OpenedStudy,
    *,
    parallel: int | None = None,
    check_devices: bool = True,
    gpus: int | None = None,
    until_decided: bool = False,
    at_most: int | None = None,
) -> Plan:
    """Plan an opened study against its history. Writes nothing.

    Args:
        opened: the study, its subject and workspace, and what is recorded already.
        parallel: trials at once; default what fits on this machine.
        check_devices: refuse GPUs that are not here; off where the trials run elsewhere.
        gpus: GPUs of the cluster that is planned for, instead of those here.
        until_decided: plan a run that stops when it is decided; a study that began so goes on so.
        at_most: replicates such a run may come to; default the study's.

    Raises:
        HarnessError: if a trial asks for devices that do not exist, or the protocol is refused.
    """
    study, subject, workspace = opened.study, opened.subject, opened.workspace
    history = opened.history
    if gpus is not None:
        parallel = parallel or devices.parallel_of(study.resources, gpus)
    elif check_devices:
        devices.check_devices(study.resources)
    frozen, written = frozen_of(history, study.name), study
    adaptive = adaptive_of(study, history, frozen, until_decided=until_decided, at_most=at_most)
    study = with_most_replicates(study, adaptive)
    made = layout(study, subject)
    prints = fingerprints_of(study, subject, made.arms)
    own = prints[made.arms[0].name]
    recorded = ReuseCheck(
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
            made,
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
    gap = getattr(subject, "gap", None)
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
        gaps={
            arm.name: found
            for arm in made.arms[:SCOPED]
            if gap and (found := gap(arm.recipe, study.protocol))
        },
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


def fingerprints_of(study: Study, subject: Subject, arms: Sequence[Arm]) -> dict[str, Fingerprints]:
    """Arm name -> digests of its surroundings.

    Raises:
        HarnessError: if the subject refuses the protocol or cannot read its data.
    """
    digests = subject.fingerprints
    return {arm.name: _prints(study, digests, f"arm {arm.name}", arm.recipe) for arm in arms}


def _prints(study: Study, digests: Digests, name: str, settings: Mapping[str, Any]) -> Fingerprints:
    """Digests of what surrounds a recipe or the settings of a reference row.

    The weights that `select` names are part of how a trial is measured, so they are added to the
    protocol's fingerprint where they are not the default.
    """
    try:
        prints = digests(settings, study.protocol)
    except (ValueError, OSError) as error:
        raise HarnessError(
            f"subject {name_of(study.subject)} has no fingerprints for {name} under protocol "
            f"{study.protocol!r}: {error}"
        ) from error
    return selecting(prints, study.select)


def earlier_fingerprints(study: Study, subject: Subject, trial: Trial) -> Fingerprints | None:
    """Digests of a trial as the previous version made them; None where nothing says."""
    before = getattr(subject, "earlier_fingerprints", subject.fingerprints)
    try:
        prints: Fingerprints | None = before(trial.recipe, study.protocol)
        if prints is None:
            return None
        if trial.kind != "reference" and hasattr(subject, "data_of"):
            data = data_of(subject, trial.recipe, trial.replicate, prints)
            prints = prints.model_copy(update={"data": data or ""})
    except (ValueError, OSError):  # what an earlier version recorded may not be here any more
        return None
    return selecting(prints, study.select)


def selecting(prints: Fingerprints, select: str) -> Fingerprints:
    """Fingerprints whose protocol says which weights are measured, where not the default ones."""
    if select == "ema":
        return prints
    return prints.model_copy(update={"protocol": f"{prints.protocol}+{select}"})


def trials_of(
    study: Study, subject: Subject, arms: Sequence[Arm], prints: Mapping[str, Fingerprints]
) -> tuple[list[Trial], dict[str, Fingerprints]]:
    """References first, then replicate by replicate, the baseline first in each; reruns last.

    So a study that is stopped anywhere is a balanced smaller study, one replicate short at most.

    Returns:
        The trials, and the digests of each reference row by its name.
    """
    ordered = ordered_arms(arms)
    maker = identity_of(study.subject)
    keyed = keyed_trials(subject, arms, prints, study.replicates, maker)
    rows, of_rows = _references(study, subject, ordered)
    trials = [
        Trial(
            key=keyed[arm.name, replicate][0],
            arm=arm.name,
            levels=arm.levels,
            replicate=replicate,
            recipe=arm.recipe,
            data=keyed[arm.name, replicate][1],
            subject=maker,
        )
        for replicate in range(study.replicates)
        for arm in ordered
        if (arm.name, replicate) in keyed
    ]
    again = rerun_keys(study.reruns, ordered[0], keyed, study.replicates, maker)
    first = {t.replicate: t for t in trials if t.arm == ordered[0].name}
    reruns = [
        first[replicate].model_copy(update={"key": key, "kind": "rerun", "rerun": number})
        for number, (replicate, key) in enumerate(again, 1)
    ]
    return rows + trials + reruns, of_rows


def ordered_arms(arms: Sequence[Arm]) -> list[Arm]:
    """The baseline first, the others as they come."""
    return sorted(arms, key=lambda arm: not arm.baseline)


def keyed_trials(
    subject: Subject,
    arms: Sequence[Arm],
    prints: Mapping[str, Fingerprints],
    replicates: int,
    maker: str,
) -> dict[tuple[str, int], tuple[str, str]]:
    """(arm name, replicate) -> key and data digest, of the trials there are: perhaps not all."""
    found = {}
    for arm in arms:
        recipe = arm.canonical_recipe()
        for digest, same in _replicates(replicates, subject, arm, prints[arm.name]).items():
            for replicate, key in keys_of(recipe, same, digest, subject=maker).items():
                found[arm.name, replicate] = key, digest
    return found


def rerun_keys(
    reruns: int,
    arm: Arm,
    keyed: Mapping[tuple[str, int], tuple[str, str]],
    replicates: int,
    maker: str,
) -> list[tuple[int, str]]:
    """Replicate and key of each same-seed repetition, spread over the replicates of an arm.

    Args:
        reruns: how many.
        arm: the baseline, else the first arm.
        keyed: from `keyed_trials`.
        replicates: how many replicates the study has.
        maker: identity of the subject.
    """
    there = [r for r in range(replicates) if (arm.name, r) in keyed]
    spread = [(n, there[(n - 1) % len(there)]) for n in range(1, reruns + 1 if there else 1)]
    return [
        (r, key_of(arm.recipe, r, keyed[arm.name, r][1], "rerun", n, subject=maker))
        for n, r in spread
    ]


def _replicates(
    replicates: int, subject: Subject, arm: Arm, prints: Fingerprints
) -> dict[str, list[int]]:
    """Data digest -> the replicates that have it; a subject may have other data for each."""
    if not hasattr(subject, "data_of"):
        return {prints.data: list(range(replicates))}
    found: dict[str, list[int]] = {}
    for replicate in range(replicates):
        digest = data_of(subject, arm.recipe, replicate, prints)
        if digest is not None:
            found.setdefault(digest, []).append(replicate)
    return found


def _references(
    study: Study, subject: Subject, arms: Sequence[Arm]
) -> tuple[list[Trial], dict[str, Fingerprints]]:
    """The reference rows of all arms, each setting once, with digests of their own."""
    offered = getattr(subject, "references", None)
    if offered is None:
        return [], {}
    of_rows: dict[str, Fingerprints] = {}
    maker = maker_of_references(study.subject)
    found: dict[bytes, Trial] = {}
    taken: set[str] = {arm.name for arm in arms}
    for arm in arms:
        rows: Mapping[str, Mapping[str, Any]] = offered(arm.recipe, study.protocol)
        for name, settings in rows.items():
            content = canonical([name, dict(settings)])
            if content in found:
                continue
            digests = digests_of_references(subject)
            prints = _prints(study, digests, f"reference row {name}", settings)
            key = key_of(settings, 0, prints.data, "reference", subject=maker)
            unique = name if name not in taken else f"{name}-{key[1:5]}"
            taken.add(unique)
            of_rows[unique] = prints
            found[content] = Trial(
                key=key,
                kind="reference",
                arm=unique,
                replicate=0,
                recipe=dict(settings),
                data=prints.data,
                subject=maker,
            )
    return list(found.values()), of_rows
