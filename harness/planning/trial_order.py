"""Arms x replicates -> trials in running order: references, then replicate by replicate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.contract import Fingerprints, Subject
from harness.errors import HarnessError
from harness.study import Study
from harness.trial import Arm, Trial, canonical, key_of, keys_of


def fingerprints_of(study: Study, subject: Subject, arms: Sequence[Arm]) -> dict[str, Fingerprints]:
    """Arm name -> digests of its surroundings.

    The weights that `select` names are part of how a trial is measured, so they are added to the
    protocol's fingerprint where they are not the default.

    Raises:
        HarnessError: if the subject refuses the protocol or cannot read its data.
    """
    suffix = "" if study.select == "ema" else f"+{study.select}"
    found = {}
    for arm in arms:
        try:
            prints = subject.fingerprints(arm.recipe, study.protocol)
        except (ValueError, OSError) as error:
            raise HarnessError(
                f"subject {study.subject} has no fingerprints for arm {arm.name} under protocol "
                f"{study.protocol!r}: {error}"
            ) from error
        if suffix:
            prints = prints.model_copy(update={"protocol": prints.protocol + suffix})
        found[arm.name] = prints
    return found


def trials_of(
    study: Study, subject: Subject, arms: Sequence[Arm], prints: Mapping[str, Fingerprints]
) -> list[Trial]:
    """References first, then replicate by replicate, the baseline first in each.

    So a study that is stopped anywhere is a balanced smaller study, one replicate short at most.
    """
    keys = {
        arm.name: keys_of(arm.canonical_recipe(), range(study.replicates), prints[arm.name].data)
        for arm in arms
    }
    ordered = sorted(arms, key=lambda arm: not arm.baseline)
    return _references(study, subject, ordered, prints) + [
        Trial(
            key=keys[arm.name][replicate],
            arm=arm.name,
            levels=arm.levels,
            replicate=replicate,
            recipe=arm.recipe,
            data=prints[arm.name].data,
        )
        for replicate in range(study.replicates)
        for arm in ordered
    ]


def _references(
    study: Study, subject: Subject, arms: Sequence[Arm], prints: Mapping[str, Fingerprints]
) -> list[Trial]:
    """The reference rows of all arms, each setting once, with the data of the first arm."""
    offered = getattr(subject, "references", None)
    if offered is None:
        return []
    data = prints[arms[0].name].data
    found: dict[bytes, Trial] = {}
    taken: set[str] = {arm.name for arm in arms}
    for arm in arms:
        rows: Mapping[str, Mapping[str, Any]] = offered(arm.recipe, study.protocol)
        for name, settings in rows.items():
            content = canonical([name, dict(settings)])
            if content in found:
                continue
            key = key_of(settings, 0, data, kind="reference")
            unique = name if name not in taken else f"{name}-{key[:4]}"
            taken.add(unique)
            found[content] = Trial(
                key=key, kind="reference", arm=unique, replicate=0, recipe=dict(settings), data=data
            )
    return list(found.values())
