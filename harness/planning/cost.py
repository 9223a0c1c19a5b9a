"""What the missing trials of a study will cost: from measured trials, else as expected."""

from __future__ import annotations

import math
import os
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from harness.contract import Expected, Subject
from harness.errors import HarnessError
from harness.journal import History, Planned, TrialHistory
from harness.plan import Cost, PlannedTrial
from harness.planning.expected import expected_trials
from harness.study import Resources, Study
from harness.subjects.settings import alike, parsed

DEVICES = Path("/dev")
_HOUR = 3600.0
ESTIMATED = "estimated, no trial measured"
"""How the basis of a cost begins that rests on what the subject expects."""


def gpus_here() -> int:
    """GPUs this process may use, without importing torch or calling nvidia-smi."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return len([d for d in named.split(",") if d.strip() and d.strip() != "-1"])
    return len([p for p in DEVICES.glob("nvidia*") if re.fullmatch(r"nvidia\d+", p.name)])


def cpus_here() -> int:
    """CPU cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def check_devices(resources: Resources) -> None:
    """Refuse trials that would wait for devices forever.

    Raises:
        HarnessError: if one trial asks for more GPUs or cores than there are.
    """
    gpus, cpus = gpus_here(), cpus_here()
    if resources.gpus > gpus:
        raise HarnessError(
            f"resources.gpus is {resources.gpus:g} a trial, this machine offers {gpus} "
            "(/dev/nvidia*, CUDA_VISIBLE_DEVICES). Set `resources: {gpus: 0}` to run on the CPU, "
            "or run where the GPUs are; `plan --gpus N` plans for a cluster of N."
        )
    if resources.cpus > cpus:
        raise HarnessError(
            f"resources.cpus is {resources.cpus:g} a trial, this machine offers {cpus}. Ask for "
            f"{cpus} or fewer."
        )


def parallel_here(resources: Resources) -> int:
    """Trials that fit on this machine at once; at least 1."""
    fit = math.floor(cpus_here() / resources.cpus + 1e-9)
    if resources.gpus > 0:
        fit = min(fit, math.floor(gpus_here() / resources.gpus + 1e-9))
    return max(1, fit)


def parallel_of(resources: Resources, gpus: int) -> int:
    """Trials at once on a cluster of some GPUs; cores are taken to be enough.

    Raises:
        HarnessError: if not even one trial fits.
    """
    if resources.gpus <= 0:
        raise HarnessError(
            "--gpus plans for a cluster, but resources.gpus of this study is 0: its trials run on "
            "the CPU. Set resources.gpus, or leave --gpus out."
        )
    fit = math.floor(gpus / resources.gpus + 1e-9)
    if fit < 1:
        raise HarnessError(
            f"resources.gpus is {resources.gpus:g} a trial, --gpus plans for {gpus}. Give at least "
            f"{math.ceil(resources.gpus)}."
        )
    return fit


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
