"""Arms x replicates -> trials in running order: references, replicate by replicate, reruns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.contract import Fingerprints, Subject
from harness.errors import HarnessError
from harness.study import Study
from harness.subjects import data_of
from harness.subjects.settings import name_of
from harness.trial import Arm, Trial, canonical, key_of, keys_of


def fingerprints_of(study: Study, subject: Subject, arms: Sequence[Arm]) -> dict[str, Fingerprints]:
    """Arm name -> digests of its surroundings.

    Raises:
        HarnessError: if the subject refuses the protocol or cannot read its data.
    """
    return {arm.name: _prints(study, subject, f"arm {arm.name}", arm.recipe) for arm in arms}


def _prints(study: Study, subject: Subject, name: str, settings: Mapping[str, Any]) -> Fingerprints:
    """Digests of what surrounds a recipe or the settings of a reference row.

    The weights that `select` names are part of how a trial is measured, so they are added to the
    protocol's fingerprint where they are not the default.
    """
    try:
        prints = subject.fingerprints(settings, study.protocol)
    except (ValueError, OSError) as error:
        raise HarnessError(
            f"subject {name_of(study.subject)} has no fingerprints for {name} under protocol "
            f"{study.protocol!r}: {error}"
        ) from error
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
    ordered = sorted(arms, key=lambda arm: not arm.baseline)
    data = {arm.name: _data(study, subject, arm, prints[arm.name]) for arm in arms}
    keys = {}
    for arm in arms:
        recipe = arm.canonical_recipe()
        for digest in dict.fromkeys(data[arm.name].values()):
            same = [r for r, own in data[arm.name].items() if own == digest]
            made = keys_of(recipe, same, digest)
            keys.update({(arm.name, replicate): key for replicate, key in made.items()})
    rows, of_rows = _references(study, subject, ordered)
    trials = [
        Trial(
            key=keys[arm.name, replicate],
            arm=arm.name,
            levels=arm.levels,
            replicate=replicate,
            recipe=arm.recipe,
            data=data[arm.name][replicate],
        )
        for replicate in range(study.replicates)
        for arm in ordered
        if replicate in data[arm.name]
    ]
    first = ordered[0]
    return rows + trials + _reruns(study, first, data[first.name]), of_rows


def _data(study: Study, subject: Subject, arm: Arm, prints: Fingerprints) -> dict[int, str]:
    """Replicate -> data digest, for the replicates there are."""
    found = ((r, data_of(subject, arm.recipe, r, prints)) for r in range(study.replicates))
    return {replicate: digest for replicate, digest in found if digest is not None}


def _reruns(study: Study, arm: Arm, data: Mapping[int, str]) -> list[Trial]:
    """Same-seed repetitions of the baseline (else the first arm), spread over its replicates."""
    replicates = sorted(data)
    found = []
    for number in range(1, study.reruns + 1 if replicates else 1):
        replicate = replicates[(number - 1) % len(replicates)]
        found.append(
            Trial(
                key=key_of(arm.recipe, replicate, data[replicate], "rerun", number),
                kind="rerun",
                arm=arm.name,
                levels=arm.levels,
                replicate=replicate,
                rerun=number,
                recipe=arm.recipe,
                data=data[replicate],
            )
        )
    return found


def _references(
    study: Study, subject: Subject, arms: Sequence[Arm]
) -> tuple[list[Trial], dict[str, Fingerprints]]:
    """The reference rows of all arms, each setting once, with digests of their own."""
    offered = getattr(subject, "references", None)
    if offered is None:
        return [], {}
    of_rows: dict[str, Fingerprints] = {}
    found: dict[bytes, Trial] = {}
    taken: set[str] = {arm.name for arm in arms}
    for arm in arms:
        rows: Mapping[str, Mapping[str, Any]] = offered(arm.recipe, study.protocol)
        for name, settings in rows.items():
            content = canonical([name, dict(settings)])
            if content in found:
                continue
            prints = _prints(study, subject, f"reference row {name}", settings)
            key = key_of(settings, 0, prints.data, kind="reference")
            unique = name if name not in taken else f"{name}-{key[:4]}"
            taken.add(unique)
            of_rows[unique] = prints
            found[content] = Trial(
                key=key,
                kind="reference",
                arm=unique,
                replicate=0,
                recipe=dict(settings),
                data=prints.data,
            )
    return list(found.values()), of_rows
