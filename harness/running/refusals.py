"""What `run` does not start without a word from the user: mixed code, more than the budget."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import HarnessError
from harness.journal.shards import Shard
from harness.planning.cost import budget_warning, cost_of
from harness.planning.plan import Plan, PlannedTrial
from harness.study.opened_study import OpenedStudy


class StaleError(HarnessError):
    """Some trials were run with other code or data, and the user has not said what to do."""


class BudgetError(HarnessError):
    """What is missing does not fit the study's budget, and the user has not allowed it."""


def refuse_missing(plan: Plan, mine: Sequence[PlannedTrial], rerun_stale: bool) -> None:
    """Refuse to start trials whose weights or data are not on this machine.

    Args:
        plan: the whole plan.
        mine: the trials of it that this process runs.
        rerun_stale: whether stale ones are run too; they are superseded before they start.

    Raises:
        HarnessError: with everything that is missing.
    """
    started = ("new", "measure", *(("stale",) if rerun_stale else ()))
    if plan.not_here and any(t.state in started for t in mine):
        raise HarnessError(
            "not here yet, and needed by trials of this study:\n  "
            + "\n  ".join(plan.not_here)
            + "\nBring these, or run where they are; `plan` works without them."
        )


def refuse_undecidable(plan: Plan, shard: Shard | None) -> None:
    """Refuse to run until decided what nobody could decide: in shards, or without a contrast.

    Raises:
        HarnessError: if the plan runs until decided and that is so.
    """
    if plan.adaptive is None:
        return
    if shard is not None:
        raise HarnessError(
            f"study {plan.study!r} runs until it is decided: after each replicate somebody has to "
            f"look at all of it, which no shard can. Leave out --shard {shard}; --ray-address, or "
            "`stillhouse slurm` with Ray, spreads one run over many machines."
        )
    if not plan.adaptive.over and all(contrast.amended for contrast in plan.contrasts):
        raise HarnessError(
            f"study {plan.study!r} runs until it is decided, but every contrast that its first run "
            "planned was changed since, so nothing is left to decide. Put them back, or ask under "
            "another name."
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
    opened: OpenedStudy,
    plan: Plan,
    mine: Sequence[PlannedTrial],
    parallel: int | None,
    rerun_stale: bool,
    allowed: bool,
) -> None:
    """Refuse to start what the study's budget does not hold, in the words of `plan`.

    GPU-hours are judged for the whole study, hours of wall time for `mine`, the trials that this
    process runs: shards run side by side.

    Raises:
        BudgetError: if something would run (stale trials too, with `rerun_stale`), what was spent
            and is expected exceeds the budget, and that is not `allowed`.
    """
    study, subject, history = opened.study, opened.subject, opened.history
    cost = own = plan.cost
    if rerun_stale or len(mine) < len(plan.trials):
        again = {"state": "new"} if rerun_stale else {}
        trials = [t.model_copy(update=again) if t.state == "stale" else t for t in plan.trials]
        keys = {t.trial.key for t in mine}
        others = {"state": "reuse"}
        share = [t if t.trial.key in keys else t.model_copy(update=others) for t in trials]
        cost, own = (
            cost_of(study, part, history, parallel, subject, spent=cost.spent_gpu_hours)
            for part in (trials, share)
        )
    over = budget_warning(study, cost.model_copy(update={"hours": own.hours}))
    if over and own.trials and not allowed:
        raise BudgetError(
            f"{over}, with {own.trials} trials to run. Raise `budget` in {study.file}, plan fewer "
            "trials, or say --over-budget. Nothing was started."
        )
