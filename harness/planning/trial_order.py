"""Arms x replicates -> trials in running order: references, replicate by replicate, reruns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.contract import Fingerprints, Subject
from harness.errors import HarnessError
from harness.study import Study
from harness.subjects import Digests, data_of, digests_of_references
from harness.subjects.identity import identity_of, maker_of_references
from harness.subjects.settings import name_of
from harness.trial import Arm, Trial, canonical, key_of, keys_of


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
