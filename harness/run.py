"""Runs what a study misses: preflight, plan, claims, attempts, then the answer and the report."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness import subjects
from harness.contract import Measurement, Subject
from harness.executors.base import Executor
from harness.journal import History, Journal, Planned, Superseded
from harness.plan import Plan, PlannedTrial
from harness.planning.amendments import content_of, frozen_with
from harness.planning.plan_text import amendment_lines
from harness.running import claims, collector, display, refusals
from harness.running.driver import Driver, Tally
from harness.running.interrupts import Interrupts
from harness.running.opening import Settings
from harness.trackers.base import Tracker
from harness.trackers.guarded import GuardedTracker
from harness.workspace import Workspace, project_of

if TYPE_CHECKING:
    from harness.analyse.answer import Answer
    from harness.study import Study

RESULTS = "results"
"""Folder beside a study file with recorded journals that count as history."""

ExecutorName = Literal["ray", "inline"]
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


def history_of(study: Study, workspace: Workspace) -> History:
    """The workspace's journals and those recorded beside the study file."""
    return History.read([workspace.journal, study.file.parent / RESULTS])


def run_study(study: Study, **options: Any) -> int:
    """Run a study and return the exit code; see `run` for the options."""
    return run(study, **options).exit_code


def run(
    study: Study,
    *,
    workspace: Workspace,
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
    live: bool = False,
) -> RunResult:
    """Run what is missing, then analyse and report. Typing the same again continues.

    Args:
        study: a loaded study.
        workspace: where everything is kept.
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
        live: show the live view (a terminal).

    Raises:
        HarnessError: for anything the user has to decide or repair; nothing was started then.
    """
    lock = claims.study_lock(workspace, study.name)
    if claims.is_claimed(lock) and not smoke:
        raise claims.claimed_error(lock, study.name)
    project = project_of(study.file)
    subject = subjects.load(study.subject, project=project)  # refuses what breaks the contract
    headline = tuple(name for name, spec in subject.metrics.items() if spec.headline)
    planned = partial(_planned, study, workspace, parallel, ray_address)
    history, plan = planned()
    for warning in plan.warnings:
        echo(f"warning   {warning}")
    for line in amendment_lines(plan):
        echo(f"amended   {line}")
    refusals.refuse_missing(plan)
    if smoke:
        from harness.running.smoke import run_smoke

        made = _executor(executor, study, parallel, ray_address, workspace)
        settings = _settings(study, plan, subject, project)
        return RunResult(run_smoke(plan, settings, workspace, made, echo), plan)
    refusals.refuse_stale(plan, accept_stale, rerun_stale)
    refusals.refuse_over_budget(study, plan, history, parallel, rerun_stale, over_budget)
    page = workspace.study(study.name) / "report.html"
    if not rerun_stale and not _to_run(plan) and _is_current(page, plan, history):
        echo(f"nothing to run: all {len(plan.trials)} trials are there")
        return RunResult(0, plan, report=page)

    workspace.ensure_usable()
    calm = nullcontext() if executor == "inline" else collector.relaxed()
    with Interrupts() as stop, claims.claim_study(workspace, study.name), calm:
        journal = Journal(workspace.journal)
        history, plan = planned()  # nobody else changes it any more
        if rerun_stale and _supersede(plan, journal, history):
            history, plan = planned()
        todo = _to_run(plan)
        echo(f"plan      {_counted(plan)}")
        if todo or not _is_announced(plan, history):
            _announce(study, plan, journal, history, project)
        made = _executor(executor, study, parallel, ray_address, workspace)
        tell = GuardedTracker(tracker)
        tell.start(plan, history)
        result = RunResult(0, plan, headline=headline)
        try:
            if todo:
                with display.make(plan, len(todo), echo, history, live=live) as view:
                    driver = Driver(
                        replace(_settings(study, plan, subject, project), deadline=deadline),
                        todo,
                        workspace=workspace,
                        journal=journal,
                        read_history=lambda: history_of(study, workspace),
                        tracker=tell,
                        display=view,
                        stop=stop,
                    )
                    result.tally = driver.tally
                    try:
                        driver.run(made)
                    finally:
                        made.close()
            if not stop():
                _conclude(study, workspace, result, tell)
        finally:
            result.warnings += tell.close()
        if stop():
            result.exit_code = stop.exit_code
        elif result.tally and result.tally.incomplete:
            result.exit_code = 1
    return result


def _planned(
    study: Study, workspace: Workspace, parallel: int | None, ray_address: str | None
) -> tuple[History, Plan]:
    from harness.plan import make_plan

    history = history_of(study, workspace)
    here = ray_address is None  # a cluster's devices are counted by its executor
    return history, make_plan(
        study, history, workspace=workspace, parallel=parallel, check_devices=here
    )


def _settings(study: Study, plan: Plan, subject: Subject, project: Path) -> Settings:
    return Settings(
        study=study.name,
        subject=study.subject,
        measurement=Measurement(
            protocol=study.protocol, at=tuple(study.measure_at), select=study.select
        ),
        fingerprints=plan.fingerprints,
        measures=hasattr(subject, "measure"),
        gpus=study.resources.gpus,
        cpus=study.resources.cpus,
        python_path=(str(project),),
    )


def _to_run(plan: Plan) -> list[PlannedTrial]:
    return [t for t in plan.trials if t.state in ("new", "measure", "running")]


def _counted(plan: Plan) -> str:
    counts = Counter(t.state for t in plan.trials)
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{len(plan.arms)} arms x {plan.replicates}, {len(plan.trials)} trials: {told}"


def _is_announced(plan: Plan, history: History) -> bool:
    last = history.latest_plan(plan.study)
    return last is not None and last.digest == plan.digest


def _is_current(page: Path, plan: Plan, history: History) -> bool:
    """True if the report is of this study and was written after the last attempt ended."""
    if not page.is_file() or not _is_announced(plan, history):
        return False
    known = (history.trials.get(t.trial.key) for t in plan.trials)
    ends = [a.closed.at for h in known if h for a in h.ordered if a.closed]
    return page.stat().st_mtime >= max(ends, default=0.0)


def _announce(study: Study, plan: Plan, journal: Journal, history: History, project: Path) -> None:
    """Record what is planned."""
    file = study.file.resolve()
    record = Planned(
        at=history.now(study.name),
        study=study.name,
        digest=plan.digest,
        study_json=content_of(study),
        study_file=str(file.relative_to(project)) if file.is_relative_to(project) else file.name,
        trials=[t.trial for t in plan.trials],
        frozen=frozen_with(history, study, plan.contrasts, (arm.name for arm in plan.arms)),
    )
    journal.append(record)
    history.add(record)


def _supersede(plan: Plan, journal: Journal, history: History) -> int:
    """Record that the results of stale trials no longer count; how many there were."""
    stale = [t for t in plan.trials if t.state == "stale"]
    for planned in stale:
        latest = history.trials[planned.trial.key].latest
        number = latest.opened.attempt if latest else 0
        journal.append(
            Superseded(at=time.time(), key=planned.trial.key, attempt=number, reason=planned.why)
        )
    return len(stale)


def _executor(
    wanted: ExecutorName | Executor,
    study: Study,
    parallel: int | None,
    address: str | None,
    workspace: Workspace,
) -> Executor:
    if wanted == "inline":
        from harness.executors.inline import InlineExecutor

        return InlineExecutor(study.resources.cpus)
    if wanted == "ray":
        from harness.executors.ray_tune import RayExecutor

        scratch = workspace.cache / "ray" / secrets.token_hex(4)
        return RayExecutor(scratch, parallel=parallel, address=address)
    return wanted


def _conclude(study: Study, workspace: Workspace, result: RunResult, tracker: Tracker) -> None:
    """Answer and report. A failure here never loses the run: it becomes a warning."""
    try:
        from harness.analyse.answers import answer
        from harness.report.page import write_report

        history = history_of(study, workspace)
        result.answer = answer(result.plan, study, history)
        result.report = write_report(result.answer, result.plan, study, history, workspace)
    except Exception as error:  # analysis of odd results may fail in any way
        result.warnings.append(
            f"the report could not be made ({type(error).__name__}: {error}); "
            f"`stillhouse report {study.file}` tries again"
        )
    if result.answer is not None:
        tracker.answer(result.answer, result.report)
