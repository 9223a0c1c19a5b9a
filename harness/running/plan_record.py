"""What a run records about its plan before anything starts: the plan, and results that are over."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from harness.journal.history import History
from harness.journal.records import Planned, Spending, Superseded
from harness.journal.workspace import RESULTS, in_project
from harness.journal.writer import Journal
from harness.planning.amendments import content_of, frozen_with
from harness.planning.plan import Plan, PlannedTrial
from harness.planning.reuse import as_read_by, codes_of
from harness.study.opened_study import OpenedStudy


def is_recorded(plan: Plan, history: History) -> bool:
    """True if the latest plan on record is this one, and nothing it reads was superseded since.

    What is read again after that (an edit was taken back) has to be said by a plan of its own.
    """
    last = history.latest_plan(plan.study)
    if last is None or last.digest != plan.digest:
        return False
    if {t.key for t in last.trials} != {t.trial.key for t in plan.trials}:
        return False
    reads = last.reads()  # none in the records of earlier versions
    if not reads:
        return True
    return reads == codes_of(plan.trials, plan.fingerprints) and not any(
        known.superseded.get(plan.study, {}).get(code, last.at) > last.at
        for key, code in reads.items()
        if (known := history.trials.get(key)) is not None
    )


def is_current(page: Path, plan: Plan, history: History) -> bool:
    """True if the report is of this study and was written after the last attempt ended.

    With what lies beside it: the same report as text, and the records from which others reproduce.
    """
    beside = (page.with_suffix(".md"), page.parent / RESULTS)
    if not page.is_file() or not is_recorded(plan, history) or not all(map(_is_there, beside)):
        return False
    seen = as_read_by(plan, history).trials
    known = (seen.get(t.trial.key) for t in plan.trials)
    ends = [a.closed.at for h in known if h for a in h.ordered if a.closed]
    return page.stat().st_mtime >= max(ends, default=0.0)


def _is_there(path: Path) -> bool:
    return path.is_file() or (path.is_dir() and any(path.iterdir()))


def record_plan(
    opened: OpenedStudy,
    plan: Plan,
    journal: Journal,
    *,
    again: bool = False,
    spending: Spending | None = None,
) -> bool:
    """Record what is planned; where the latest record says so already, only if told `again`.

    The first record freezes `spending`, the levels of looks, where there are any.

    True if it was recorded: the plan does not know yet what the first run froze, or that
    amendments were run.
    """
    study, history = opened.study, opened.history
    if is_recorded(plan, history) and not again:
        return False
    codes, accepted = _by_arm(plan)
    record = Planned(
        at=history.now(study.name),
        study=study.name,
        digest=plan.digest,
        study_json=content_of(study),
        study_file=in_project(study.file),
        trials=[t.trial for t in plan.trials],
        codes=codes,
        accepted=accepted,
        frozen=frozen_with(history, study, plan.contrasts, plan.arms, spending),
        looks=plan.adaptive.looks if plan.adaptive is not None else [],
    )
    journal.append(record)
    history.add(record)
    return True


def _by_arm(plan: Plan) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Code digest -> arms and reference rows; key -> digest of the trials that read another."""
    of_arm: dict[str, str] = {}
    for planned in plan.trials:
        own = (planned.fingerprints or plan.fingerprints).code
        of_arm.setdefault(planned.trial.arm, own)
    codes: dict[str, list[str]] = {}
    for arm, code in of_arm.items():
        codes.setdefault(code, []).append(arm)
    arms = {t.trial.key: t.trial.arm for t in plan.trials}
    return codes, {
        k: c for k, c in codes_of(plan.trials, plan.fingerprints).items() if c != of_arm[arms[k]]
    }


def supersede(
    study: str,
    trials: Iterable[PlannedTrial],
    journal: Journal,
    history: History,
    workspace: str = "",
) -> int:
    """Record that a study no longer reads the results of its stale trials; how many there were."""
    stale = [t for t in trials if t.state == "stale"]
    for planned in stale:
        key = planned.trial.key
        for code in _made_by(study, planned, history):
            of_code = [a for a in history.trials[key].ordered if a.opened.code == code]
            record = Superseded(
                at=time.time(),
                key=key,
                attempt=of_code[-1].opened.attempt,
                study=study,
                code=code,
                workspace=workspace,
                reason=planned.why,
            )
            journal.append(record)
            history.add(record)
    return len(stale)


def _made_by(study: str, planned: PlannedTrial, history: History) -> list[str]:
    """Codes of the result that is stale, and of all others that the study itself made."""
    known = history.trials[planned.trial.key].results()
    return list(
        dict.fromkeys([planned.code, *(a.opened.code for a in known if a.opened.study == study)])
    )
