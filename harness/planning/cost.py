"""What missing trials will cost, by measured trials, else as expected; what is spent already."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from harness.contract import Expected, Subject
from harness.errors import SubjectError
from harness.journal import attempts
from harness.journal.history import Attempt, History, TrialHistory
from harness.journal.records import Planned
from harness.journal.workspace import Workspace
from harness.planning.devices import parallel_here
from harness.planning.plan import Cost, PlannedTrial
from harness.study.model import Study
from harness.subjects.settings import alike, parsed

_HOUR = 3600.0
ESTIMATED = "estimated, no trial measured"
"""How the basis of a cost begins that rests on what the subject expects."""


def cost_of(
    study: Study,
    trials: Sequence[PlannedTrial],
    history: History,
    parallel: int | None,
    subject: Subject | None = None,
    *,
    spent: float = 0.0,
) -> Cost:
    """Cost of the trials that `run` would execute: median, and an 80 % interval by quantiles.

    Seconds come from finished trials of this plan, else of this study, else of other studies of
    the same subject, unless that can say itself what these would cost (other studies may be of
    another model altogether); the interval is an assumption then.

    Args:
        study: the study.
        trials: its plan's, or a share of them.
        history: what is recorded already.
        parallel: trials at once; default what fits on this machine.
        subject: asked where no trial of the study was measured.
        spent: GPU-hours spent already.
    """
    missing = [t for t in trials if t.state in ("new", "measure")]
    at_once = parallel or parallel_here(study.resources)
    limit = study.budget.gpu_hours if study.budget else None
    seconds, basis = _measured(study, trials, history)
    if not seconds and subject is not None:
        expected = expected_trials(study, subject, missing)
        if expected:
            return _estimated(study, expected, at_once, spent)
    if not seconds:
        seconds, basis = _measured_otherwise(study, history)
    if not seconds:
        return Cost(
            trials=len(missing),
            basis="no finished trial to go by",
            parallel=at_once,
            spent_gpu_hours=spent,
            budget_gpu_hours=limit,
        )
    middle = statistics.median(seconds)
    low, high = _interval(seconds)
    again = _seconds_of_measuring(history)
    # What only has to be measured counts as the part of a trial that measuring took so far.
    units = sum(again / middle if again and t.state == "measure" else 1.0 for t in missing)
    busy = min(at_once, max(len(missing), 1))
    return Cost(
        trials=len(missing),
        seconds_per_trial=middle,
        gpu_hours=units * middle * study.resources.gpus / _HOUR,
        hours=units * middle / busy / _HOUR,
        lo_hours=units * low / busy / _HOUR,
        hi_hours=units * high / busy / _HOUR,
        basis=basis,
        parallel=at_once,
        spent_gpu_hours=spent,
        budget_gpu_hours=limit,
    )


def _estimated(study: Study, trials: list[Expected], at_once: int, spent: float) -> Cost:
    """Cost of trials of which none was measured."""
    middle, low, high = (
        math.fsum(getattr(e, name) for e in trials) for name in ("seconds", "lo", "hi")
    )
    busy = min(at_once, len(trials))
    memory = [e.memory_gb for e in trials if e.memory_gb is not None]
    bases = list(dict.fromkeys(e.basis for e in trials))
    more = " (of the first arm; others differ)" if len(bases) > 1 else ""
    return Cost(
        trials=len(trials),
        seconds_per_trial=middle / len(trials),
        gpu_hours=middle * study.resources.gpus / _HOUR,
        hours=middle / busy / _HOUR,
        lo_hours=low / busy / _HOUR,
        hi_hours=high / busy / _HOUR,
        memory_gb=max(memory, default=None),
        basis=f"{ESTIMATED}: {bases[0]}{more}",
        parallel=at_once,
        spent_gpu_hours=spent,
        budget_gpu_hours=study.budget.gpu_hours if study.budget else None,
    )


def budget_warning(study: Study, cost: Cost) -> str:
    """Why the plan does not fit the study's budget; empty if it does, or if nothing is known."""
    if study.budget is None:
        return ""
    over = []
    total = cost.spent_gpu_hours + (cost.gpu_hours or 0.0)
    if study.budget.gpu_hours is not None and total > study.budget.gpu_hours:
        over.append(
            f"{total:.3g} GPU-h in all ({cost.spent_gpu_hours:.3g} spent) of "
            f"{study.budget.gpu_hours:g} GPU-h"
        )
    if study.budget.hours is not None and (cost.hours or 0.0) > study.budget.hours:
        over.append(f"{cost.hours:.3g} h of {study.budget.hours:g} h")
    return f"over budget: {'; '.join(over)}" if over else ""


def _measured(
    study: Study, trials: Sequence[PlannedTrial], history: History
) -> tuple[list[float], str]:
    planned = {t.trial.key for t in trials if t.trial.kind == "trial"}
    done = [k for k in history.trials.values() if _finished(k)]
    groups = (
        ([k for k in done if k.key in planned], "of this plan"),
        ([k for k in done if k.attempts and _study_of(k) == study.name], "of this study"),
    )
    for group, words in groups:
        if group:
            return [k.seconds() for k in group], f"{len(group)} finished trial(s) {words}"
    return [], ""


def _measured_otherwise(study: Study, history: History) -> tuple[list[float], str]:
    done = [k for k in history.trials.values() if _finished(k)]
    same = {name for name, plans in history.planned.items() if _alike(plans[-1], study)}
    group = [k.seconds() for k in done if _study_of(k) in same]
    return group, f"{len(group)} finished trial(s) of other studies"


def _finished(known: TrialHistory) -> bool:
    complete = known.complete
    return (
        complete is not None
        and complete.closed is not None
        and complete.closed.state == "done"
        and complete.opened.trial.kind == "trial"
        and known.seconds() > 0
    )


def _study_of(known: TrialHistory) -> str:
    return known.ordered[-1].opened.study


def _alike(planned: Planned, study: Study) -> bool:
    """Whether a study was of the same subject, as its last plan says."""
    try:
        return alike(parsed(planned.study_json.get("subject")), study.subject)
    except ValueError:  # written by another version
        return False


def _interval(seconds: list[float]) -> tuple[float, float]:
    if len(seconds) < 2:
        return seconds[0], seconds[0]
    tenths = statistics.quantiles(seconds, n=10, method="inclusive")
    return tenths[0], tenths[-1]


def _seconds_of_measuring(history: History) -> float | None:
    found = [
        a.closed.seconds
        for known in history.trials.values()
        for a in known.ordered
        if a.opened.mode == "measure" and a.closed is not None and a.closed.state == "done"
    ]
    return statistics.median(found) if found else None


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


def spent_gpu_hours(
    study: str, keys: Collection[str], history: History, workspace: Workspace
) -> float:
    """GPU-hours of every attempt of the study, and of the trials that are its own.

    Failures count, and so do superseded results. An attempt that
    nobody closed, because its driver died or is at it, counts up to its last report.

    Args:
        study: name of the study.
        keys: trials that it plans, or planned once; other studies may have run some of them.
        history: what is recorded.
        workspace: where attempts leave their reports.
    """
    own = frozenset(keys)
    return (
        sum(
            _gpu_seconds(attempt, workspace)
            for key, known in history.trials.items()
            for attempt in known.attempts.values()
            if key in own or attempt.opened.study == study
        )
        / _HOUR
    )


def _gpu_seconds(attempt: Attempt, workspace: Workspace) -> float:
    if attempt.closed is not None:
        return attempt.closed.seconds * attempt.closed.gpus
    opened = attempt.opened
    # Records of earlier versions do not say how many; a compact journal has no orphans either, so
    # both count less than was spent.
    if not opened.gpus:
        return 0.0
    lines = attempts.read_reports(attempts.folder_of(workspace, attempt))
    return (attempts.last_report_time(opened.at, lines) - opened.at) * opened.gpus
