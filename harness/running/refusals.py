"""What `run` does not start without a word from the user: mixed code, and more than the budget."""

from __future__ import annotations

from harness.errors import HarnessError
from harness.journal import History
from harness.plan import Plan
from harness.planning.cost import budget_warning, cost_of
from harness.study import Study


class StaleError(HarnessError):
    """Some trials were run with other code or data, and the user has not said what to do."""


class BudgetError(HarnessError):
    """What is missing does not fit the study's budget, and the user has not allowed it."""


def refuse_missing(plan: Plan) -> None:
    """Refuse to start trials whose weights or data are not on this machine.

    Raises:
        HarnessError: with everything that is missing.
    """
    if plan.not_here and plan.missing():
        raise HarnessError(
            "not here yet, and needed by trials of this study:\n  "
            + "\n  ".join(plan.not_here)
            + "\nBring these, or run where they are; `plan` works without them."
        )


def refuse_stale(plan: Plan, accept: bool, rerun: bool) -> None:
    """Refuse to mix results of different code or data.

    Raises:
        StaleError: if there are stale trials and neither `accept` nor `rerun` is given.
        HarnessError: if both are.
    """
    if accept and rerun:
        raise HarnessError("give --accept-stale or --rerun-stale, not both")
    stale = [t for t in plan.trials if t.state == "stale"]
    if not stale or accept or rerun:
        return
    why = "; ".join(sorted({t.why for t in stale if t.why})) or "other code or data"
    shown = ", ".join(t.trial.short for t in stale[:3]) + (", ..." if len(stale) > 3 else "")
    raise StaleError(
        f"{len(stale)} of {len(plan.trials)} trials were run before something changed ({why}): "
        f"{shown}. Comparing them with new ones would mix two experiments. Say --rerun-stale to "
        "run them again (old results stay in the journal, marked), or --accept-stale to count "
        "them as they are. Nothing was started."
    )


def refuse_over_budget(
    study: Study,
    plan: Plan,
    history: History,
    parallel: int | None,
    rerun_stale: bool,
    allowed: bool,
) -> None:
    """Refuse to start what the study's budget does not hold, in the words of `plan`.

    Raises:
        BudgetError: if something would run (stale trials too, with `rerun_stale`), what was spent
            and is expected exceeds the budget, and that is not `allowed`.
    """
    cost = plan.cost
    if rerun_stale:
        again = {"state": "new"}
        trials = [t.model_copy(update=again) if t.state == "stale" else t for t in plan.trials]
        cost = cost_of(study, trials, history, parallel, spent=cost.spent_gpu_hours)
    over = budget_warning(study, cost)
    if over and cost.trials and not allowed:
        raise BudgetError(
            f"{over}, with {cost.trials} trials to run. Raise `budget` in {study.file}, plan fewer "
            "trials, or say --over-budget. Nothing was started."
        )
