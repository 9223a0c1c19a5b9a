"""Cost of a study before any of its trials has run, as its subject expects it; what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from harness.contract import Expected, Subject
from harness.errors import SubjectError
from harness.plan import PlannedTrial
from harness.study import Study

ASKED = 200
"""Arms whose needs are asked for: a subject may have to look at many files for each."""
GPU_MEMORY_GB = (16, 24, 32, 48, 80, 141, 192)
"""Sizes that GPUs come in."""
SPARE = 0.95
"""Share of a GPU's memory that a trial can have."""


def not_here(study: Study, subject: Subject, recipes: Iterable[dict[str, Any]]) -> list[str]:
    """What some trial needs and this machine lacks, each once; empty for subjects that do not say.

    Args:
        study: its protocol is asked about too.
        subject: of the study.
        recipes: resolved recipes of the arms.
    """
    missing = getattr(subject, "missing", None)
    if missing is None:
        return []
    found: dict[str, None] = {}
    for _, recipe in zip(range(ASKED), recipes, strict=False):
        found |= dict.fromkeys(missing(recipe, study.protocol))
    return list(found)


def expected_trials(
    study: Study, subject: Subject, trials: Sequence[PlannedTrial]
) -> list[Expected]:
    """What each trial is expected to cost; empty if the subject cannot tell for one of them.

    Reference rows and trials that only have to be measured count as a whole trial of their study.

    Raises:
        SubjectError: a trial cannot run with the study's resources, as the subject says.
    """
    ask = getattr(subject, "expected_cost", None)
    if ask is None:
        return []
    resources = {
        "gpus": study.resources.gpus,
        "cpus": study.resources.cpus,
        "measurements": max(1, len(study.measure_at)),
    }
    by_arm: dict[str, Expected | None] = {}
    for planned in trials:
        trial = planned.trial
        if trial.kind == "trial" and trial.arm not in by_arm:
            try:
                by_arm[trial.arm] = ask(trial.recipe, study.protocol, resources)
            except ValueError as error:
                raise SubjectError(f"{study.name}, arm {trial.arm}: {error}") from error
    told = [e for e in by_arm.values() if e is not None]
    if not told or len(told) < len(by_arm):
        return []
    dearest = max(told, key=lambda e: e.seconds)
    return [by_arm.get(t.trial.arm) or dearest for t in trials]


def fitting(memory_gb: float) -> str:
    """`76 GB a GPU: fits one of 80 GB`; which size of GPU a trial needs."""
    sizes = [size for size in GPU_MEMORY_GB if memory_gb <= SPARE * size]
    fits = f"fits one of {sizes[0]} GB" if sizes else f"above {GPU_MEMORY_GB[-1]} GB, fits none"
    return f"{memory_gb:.0f} GB a GPU: {fits}"
