"""Runs what a study misses: plan, claims, attempts, then the answer and the report."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.analysis.answered_study import AnsweredStudy
from harness.contract import Measurement
from harness.errors import STOPPED
from harness.executors.base import Deadline, Executor
from harness.journal import gc_pauses, shards, temporary_folders
from harness.journal.command_line import typed
from harness.journal.history import History
from harness.journal.records import Spending
from harness.journal.shards import Shard
from harness.journal.workspace import Workspace
from harness.journal.writer import Journal
from harness.planning.amendments import as_recorded
from harness.planning.cost import budget_warning
from harness.planning.make import make_plan
from harness.planning.plan import Plan, PlannedTrial
from harness.planning.printed import amendment_lines
from harness.planning.reuse import as_read_by
from harness.running import batches, display, plan_record
from harness.running.catch_up import catch_up
from harness.running.driver import Driver, RunSettings, Tally
from harness.running.executor_choice import ExecutorName, executor_named, trials_at_once
from harness.running.interrupts import Interrupts
from harness.running.refusals import (
    refuse_missing,
    refuse_over_budget,
    refuse_stale,
    refuse_undecidable,
)
from harness.running.study_status import left_by_others
from harness.study.model import Study
from harness.study.opened_study import OpenedStudy
from harness.tracking.mlflow_place import SETTLE_SECONDS, MlflowPlace, stamp
from harness.tracking.tracker import GuardedTracker, Tracker

if TYPE_CHECKING:
    from harness.analysis.model import Answer


Echo = Callable[[str], None]


@dataclass
class RunResult:
    """What a run left behind, for the command line."""

    exit_code: int
    plan: Plan
    answer: Answer | None = None
    report: Path | None = None
    headline: tuple[str, ...] = ()
    """Metrics of the first table."""
    tally: Tally | None = None
    warnings: list[str] = field(default_factory=list)
    left: Mapping[str, int] = field(default_factory=dict)
    """Trials of other shards that have no result yet, by how they stand."""


def run(
    opened: OpenedStudy,
    *,
    executor: ExecutorName | Executor = "ray",
    tracker: Tracker | Callable[[], Tracker] | None = None,
    accept_stale: bool = False,
    rerun_stale: bool = False,
    over_budget: bool = False,
    smoke: bool = False,
    echo: Echo,
    parallel: int | None = None,
    ray_address: str | None = None,
    deadline: float | None = None,
    shard: Shard | None = None,
    live: bool = False,
    until_decided: bool = False,
    at_most: int | None = None,
) -> RunResult:
    """Run what is missing, then analyse and report. Typing the same again continues.

    Args:
        opened: a study in its workspace, where everything is kept.
        executor: `ray`, `inline`, or an executor.
        tracker: a tracker, or how to make one; made only if there is something to run.
        accept_stale: count results of other code or data as they are.
        rerun_stale: run those again; the old results stay in the journal, marked.
        over_budget: run although the study's budget does not hold what is missing.
        smoke: only try the baseline and two extreme arms for three steps; nothing is recorded.
        echo: prints one line.
        parallel: trials at once; default what the machine or cluster holds.
        ray_address: an existing Ray cluster to join.
        deadline: Unix time after which no trial starts, and those that run checkpoint and end.
        shard: run this share of the trials only; other processes run the others.
        live: show the live view (a terminal).
        until_decided: look after each replicate, and stop when the contrasts are decided.
        at_most: replicates that may come to; default the study's.

    Raises:
        HarnessError: for anything the user has to decide or repair; nothing was started then.
    """
    study, workspace = opened.study, opened.workspace
    if not smoke:
        shards.refuse_claimed(workspace, study.name, shard)
    opened.reread()  # it may have been opened a while ago
    headline = tuple(name for name, spec in opened.subject.metrics.items() if spec.headline)
    make = partial(executor_named, executor, study.resources, parallel, ray_address, workspace)
    at_once = parallel
    if ray_address is not None and study.budget is not None and study.budget.hours is not None:
        # hours pass as fast as the cluster works
        at_once = trials_at_once(make(), study.resources, parallel)
    mine = partial(_share, shard=shard)
    planned = partial(
        make_plan,
        opened,
        parallel=at_once,
        check_devices=ray_address is None,  # a cluster's devices are counted by its executor
        until_decided=until_decided and not smoke,
        at_most=at_most,
    )
    plan = planned()
    refuse_undecidable(plan, shard)
    _warn(study, plan, shard, echo)
    refuse_missing(plan, mine(plan), rerun_stale)
    if smoke:
        from harness.running.smoke import run_smoke

        settings = _settings(opened, plan)
        return RunResult(run_smoke(plan, settings, workspace, make(), echo), plan)
    refuse_stale(plan, accept_stale, rerun_stale)
    refuse_over_budget(opened, plan, mine(plan), at_once, rerun_stale, over_budget)
    idle = None
    if not rerun_stale:
        idle = _nothing_to_run(opened, plan, mine(plan), tracker, echo)
    if idle is not None:
        return replace(idle, headline=headline)
    wait = _refuse_strangers(tracker, opened)

    workspace.ensure_usable()
    calm = nullcontext() if executor == "inline" else gc_pauses.relaxed()
    ends = Deadline(shards.lock_of(workspace, study.name, shard).with_suffix(".notice"), deadline)
    with (
        shards.claim_run(workspace, study.name, shard),
        ends.armed(),
        Interrupts(ends.give_notice) as stop,
        calm,
    ):
        temporary_folders.remove_leftovers(workspace)
        history = opened.reread()  # nobody else changes it any more
        plan = planned()
        journal = Journal(workspace.journal, history.described[workspace.journal])
        spending = _levels(plan, echo)
        if rerun_stale and plan_record.supersede(
            study.name, mine(plan), journal, history, workspace.id
        ):
            history = opened.reread()
            plan = planned()
        todo = _to_run(mine(plan))
        echo(f"plan      {_counted(plan, shard, todo)}")
        # On record before the first trial starts: what is judged as planned was planned by then.
        if plan_record.record_plan(opened, plan, journal, again=bool(todo), spending=spending):
            plan = as_recorded(plan, opened)
        work = batches.batches_of(opened, plan, journal)
        made = make()
        tell = GuardedTracker(tracker, _remedy(tracker, study.name, workspace))
        seen = as_read_by(plan, history)
        tell.start(plan, seen)
        result, answered = RunResult(0, plan, headline=headline), False
        try:
            tell.settle(wait)
            if todo or work.unfinished:
                shown = plan.model_copy(update={"trials": mine(plan)})
                with display.make_display(
                    shown, len(todo), echo, seen, live=live, workspace=workspace
                ) as view:
                    work.show(view)
                    driver = Driver(
                        replace(_settings(opened, plan), deadline=ends),
                        work.batch(todo),
                        workspace=workspace,
                        journal=journal,
                        read_history=opened.reread,
                        tracker=tell,
                        display=view,
                        stop=stop,
                        more=work.more,
                    )
                    result.tally = driver.tally
                    try:
                        driver.run(made)
                    finally:
                        made.close()
                        result.plan = work.plan
            if not stop() and stop.notice != signal.SIGTERM:  # which leaves no time for it
                answered = True
                with shards.concluding(workspace, study.name, shard):
                    if shard is not None:  # others may have superseded results since
                        opened.reread()
                        result.plan = planned()
                        plan_record.record_plan(opened, result.plan, journal)
                    _conclude(opened, result, tell)
                    tell.close()
                if shard is not None:
                    own = mine(result.plan)
                    now = as_read_by(result.plan, opened.reread())
                    result.left = left_by_others(result.plan, own, now, workspace)
        finally:
            result.warnings += [*tell.close(), *work.warnings]
        result.exit_code = _exit_code(result.tally, stop, answered)
    return result


def _warn(study: Study, plan: Plan, shard: Shard | None, echo: Echo) -> None:
    """Print what the plan warns of; a shard is judged by its own share of the hours instead."""
    whole = budget_warning(study, plan.cost) if shard is not None else ""
    for warning in plan.warnings:
        if warning != whole:
            echo(f"warning   {warning}")
    for line in amendment_lines(plan):
        echo(f"amended   {line}")


def _nothing_to_run(
    opened: OpenedStudy,
    plan: Plan,
    mine: list[PlannedTrial],
    tracker: Tracker | Callable[[], Tracker] | None,
    echo: Echo,
) -> RunResult | None:
    """The result where neither a trial nor the report is missing; None where something is.

    What MLflow lacks is written, if it can be, before it is said that all is there.
    """
    page = opened.workspace.study(plan.study) / "report.html"
    if _to_run(mine) or (plan.adaptive is not None and not plan.adaptive.over):
        return None
    if _to_run(plan.trials):
        echo(f"nothing to run: all {len(mine)} trials of this shard are there")
        return RunResult(0, plan)
    if not plan_record.is_current(page, plan, opened.history):
        return None
    lacking = ""
    if isinstance(tracker, MlflowPlace) and not shards.others_live(opened.workspace, plan.study):
        lacking = catch_up(AnsweredStudy.of(opened, plan), page, tracker, echo)
    echo(f"nothing to run: all {len(plan.trials)} trials {'ended' if lacking else 'are there'}")
    return RunResult(0, plan, report=page, warnings=[lacking] if lacking else [])


def _refuse_strangers(tracker: object, opened: OpenedStudy) -> float:
    """Ask before anything starts whose the study is in MLflow; seconds to wait for its client.

    Raises:
        ElsewhereError: if somebody went on with it from elsewhere.
    """
    if not isinstance(tracker, MlflowPlace):
        return 0.0
    known = tracker.refuse_strangers(opened.study.name, opened.history)
    return 0.0 if known else SETTLE_SECONDS


def _remedy(tracker: object, study: str, workspace: Workspace) -> str:
    if isinstance(tracker, MlflowPlace):
        command = tracker.sync(study)
    else:
        command = typed("sync", study, workspace=workspace)
    return f"nothing is lost: `{command}` replays the journal"


def _exit_code(tally: Tally | None, stop: Interrupts, answered: bool) -> int:
    """Interrupted is not finished: after a signal only a run that had all, answer included, is."""
    # A batch job that ends with a signal's code is put back, and its second start answers at once.
    # With 0, jobs that wait for this one would start without an answer.
    cut = tally is not None and tally.expired
    if stop() or (stop.notice is not None and (cut or not answered)):
        return stop.exit_code
    if cut:
        return STOPPED
    return 1 if tally is not None and tally.incomplete else 0


def _levels(plan: Plan, echo: Echo) -> Spending | None:
    """The levels that the first run of a study freezes that runs until decided."""
    adaptive = plan.adaptive
    if adaptive is None or adaptive.spending is not None:
        return None
    from harness.analysis.spending import calibrated

    spending = calibrated(adaptive.at_most, plan.alpha, len(plan.contrasts), first=adaptive.first)
    levels = ", ".join(
        f"{spending.level(n, plan.alpha / len(plan.contrasts)):.2g}"
        for n in range(spending.first, spending.at_most + 1)
    )
    echo(
        f"looks     after replicate {spending.first} and each further one, at most "
        f"{spending.at_most}; p below {levels} decides a first contrast of {len(plan.contrasts)}. "
        "Frozen from here on"
    )
    return spending


def _settings(opened: OpenedStudy, plan: Plan) -> RunSettings:
    study = opened.study
    return RunSettings(
        study=study.name,
        subject=study.subject,
        measurement=Measurement(
            protocol=study.protocol, at=tuple(study.measure_at), select=study.select
        ),
        fingerprints=plan.fingerprints,
        measures=hasattr(opened.subject, "measure"),
        gpus=study.resources.gpus,
        cpus=study.resources.cpus,
        project=opened.project,
    )


def _share(plan: Plan, shard: Shard | None) -> list[PlannedTrial]:
    return plan.trials if shard is None else shard.share(plan.trials)


def _to_run(trials: list[PlannedTrial]) -> list[PlannedTrial]:
    return [t for t in trials if t.state in ("new", "measure", "running")]


def _counted(plan: Plan, shard: Shard | None, todo: list[PlannedTrial]) -> str:
    counts = Counter(t.state for t in plan.trials)
    by_state = ", ".join(f"{count} {state}" for state, count in counts.items())
    text = f"{len(plan.arms)} arms x {plan.replicates}, {len(plan.trials)} trials: {by_state}"
    return text if shard is None else f"{text}; shard {shard} runs {len(todo)}"


def _conclude(opened: OpenedStudy, result: RunResult, tracker: Tracker) -> None:
    """Answer and report. A failure here never loses the run: it becomes a warning."""
    stamped: tuple[History, str] | None = None
    try:
        from harness.report.page import write_report

        opened.reread()
        answered = AnsweredStudy.of(opened, result.plan)
        result.answer = answered.answer
        result.report = write_report(answered)
        stamped = answered.history, stamp(answered.plan, answered.history, result.report)
    except Exception as error:  # analysis of odd results may fail in any way
        result.warnings.append(
            f"the report could not be made ({type(error).__name__}: {error}); "
            f"`{typed('report', study=opened.study.file, workspace=opened.workspace)}` tries again"
        )
    if result.answer is not None:
        tracker.answer(result.answer, result.report)
        if stamped is not None:
            tracker.complete(*stamped)
