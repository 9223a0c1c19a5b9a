"""What a run records about its plan before anything starts: the plan, and results that are over."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from harness.journal import History, Journal, Planned, Superseded
from harness.plan import Plan, PlannedTrial
from harness.planning.amendments import content_of, frozen_with
from harness.study import Study
from harness.workspace import in_project


def is_announced(plan: Plan, history: History) -> bool:
    """True if the latest plan on record is this one."""
    last = history.latest_plan(plan.study)
    if last is None or last.digest != plan.digest:
        return False
    return {t.key for t in last.trials} == {t.trial.key for t in plan.trials}


def is_current(page: Path, plan: Plan, history: History) -> bool:
    """True if the report is of this study and was written after the last attempt ended.

    With what lies beside it: the same report as text, and the records from which others reproduce.
    """
    beside = (page.with_suffix(".md"), page.parent / "results")
    if not page.is_file() or not is_announced(plan, history) or not all(map(_is_there, beside)):
        return False
    known = (history.trials.get(t.trial.key) for t in plan.trials)
    ends = [a.closed.at for h in known if h for a in h.ordered if a.closed]
    return page.stat().st_mtime >= max(ends, default=0.0)


def _is_there(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def announce_new(
    study: Study,
    plan: Plan,
    journal: Journal,
    history: History,
    *,
    again: bool = False,
) -> bool:
    """Record what is planned; where the latest record says so already, only if told `again`.

    True if it was recorded: the plan does not know yet what the first run froze, or that
    amendments were run.
    """
    if is_announced(plan, history) and not again:
        return False
    record = Planned(
        at=history.now(study.name),
        study=study.name,
        digest=plan.digest,
        study_json=content_of(study),
        study_file=in_project(study.file),
        trials=[t.trial for t in plan.trials],
        frozen=frozen_with(history, study, plan.contrasts, (arm.name for arm in plan.arms)),
    )
    journal.append(record)
    history.add(record)
    return True


def supersede(trials: Iterable[PlannedTrial], journal: Journal, history: History) -> int:
    """Record that the results of the stale ones no longer count; how many there were."""
    stale = [t for t in trials if t.state == "stale"]
    for planned in stale:
        latest = history.trials[planned.trial.key].latest
        number = latest.opened.attempt if latest else 0
        journal.append(
            Superseded(at=time.time(), key=planned.trial.key, attempt=number, reason=planned.why)
        )
    return len(stale)
