"""Runs what a study misses: preflight, plan, claims, attempts, then the answer and the report."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness import claims, display, subjects
from harness.contract import Measurement
from harness.driver import Driver, Tally
from harness.errors import HarnessError
from harness.executors.base import Executor
from harness.interrupts import Interrupts
from harness.journal import History, Journal, Planned, Superseded
from harness.opening import Settings
from harness.plan import Plan, PlannedTrial
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


class StaleError(HarnessError):
    """Some trials were run with other code or data, and the user has not said what to do."""


@dataclass
class RunResult:
    """What a run left behind, for the command line."""

    exit_code: int
    plan: Plan
    answer: Answer | None = None
    report: Path | None = None
    tally: Tally | None = None
    warnings: tuple[str, ...] = ()


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
    smoke: bool = False,
    echo: Echo,
    parallel: int | None = None,
    ray_address: str | None = None,
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
        smoke: only try the baseline and two extreme arms for three steps; nothing is recorded.
        echo: prints one line.
        parallel: trials at once; default what the machine or cluster holds.
        ray_address: an existing Ray cluster to join.
        live: show the live view (a terminal).

    Raises:
        HarnessError: for anything the user has to decide or repair; nothing was started then.
    """
    from harness.plan import make_plan

    lock = claims.study_lock(workspace, study.name)
    if claims.is_claimed(lock) and not smoke:
        raise claims.claimed_error(lock, study.name)
    project = project_of(study.file)
    subjects.load(study.subject, project=project)  # refuses what breaks the contract
    settings_of = _Settings(study, project)

    def planned() -> tuple[History, Plan]:
        history = history_of(study, workspace)
        return history, make_plan(study, history, workspace=workspace, parallel=parallel)

    history, plan = planned()
    if smoke:
        from harness.smoke import run_smoke

        made = _executor(executor, parallel, ray_address, workspace)
        return RunResult(run_smoke(plan, settings_of(plan), workspace, made, echo), plan)
    _refuse_stale(plan, accept_stale, rerun_stale)
    page = workspace.study(study.name) / "report.html"
    if not _to_run(plan, rerun_stale) and _is_current(page, plan, history):
        echo(f"nothing to run: {len(plan.trials)} trials are done. Report: {page}")
        return RunResult(0, plan, report=page)

    workspace.ensure_usable()
    with Interrupts() as stop, claims.claim_study(workspace, study.name):
        history, plan = planned()  # under the claim: nobody else changes it any more
        todo = _to_run(plan, rerun_stale)
        journal = Journal(workspace.journal)
        tell = GuardedTracker(tracker)
        tally, warnings = Tally(), list[str]()
        answer, report = None, None
        try:
            if todo:
                _announce(study, plan, journal, history, project, rerun_stale)
                tell.start(plan, history)
                with display.make(plan, len(todo), echo, live=live) as view:
                    driver = Driver(
                        settings_of(plan),
                        todo,
                        workspace=workspace,
                        journal=journal,
                        read_history=lambda: history_of(study, workspace),
                        tracker=tell,
                        display=view,
                        stop=stop,
                    )
                    tally = driver.tally
                    made = _executor(executor, parallel, ray_address, workspace)
                    try:
                        driver.run(made)
                    finally:
                        made.close()
            else:
                tell.start(plan, history)
            if not stop():
                answer, report, problems = _conclude(study, workspace, plan, tell)
                warnings += problems
        finally:
            warnings += tell.close()
    failed = tally.count("failed") + tally.count("killed")
    code = stop.exit_code if stop() else 1 if failed else 0
    return RunResult(code, plan, answer, report, tally, tuple(warnings))


class _Settings:
    def __init__(self, study: Study, project: Path) -> None:
        self._study, self._project = study, project

    def __call__(self, plan: Plan) -> Settings:
        study = self._study
        return Settings(
            study=study.name,
            subject=study.subject,
            measurement=Measurement(
                protocol=study.protocol, at=tuple(study.measure_at), select=study.select
            ),
            fingerprints=plan.fingerprints,
            gpus=study.resources.gpus,
            cpus=study.resources.cpus,
            python_path=(str(self._project),),
        )


def _refuse_stale(plan: Plan, accept: bool, rerun: bool) -> None:
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


def _to_run(plan: Plan, rerun_stale: bool) -> list[PlannedTrial]:
    states = {"new", "measure", "running"} | ({"stale"} if rerun_stale else set())
    return [t for t in plan.trials if t.state in states]


def _is_current(page: Path, plan: Plan, history: History) -> bool:
    """True if the report was written after the last attempt of the plan's trials ended."""
    if not page.is_file():
        return False
    known = (history.trials.get(t.trial.key) for t in plan.trials)
    ends = [a.closed.at for h in known if h for a in h.ordered if a.closed]
    return page.stat().st_mtime >= max(ends, default=0.0)


def _announce(
    study: Study, plan: Plan, journal: Journal, history: History, project: Path, rerun: bool
) -> None:
    """Record what is planned, and which results no longer count."""
    now = time.time()
    file = study.file.resolve()
    record = Planned(
        at=now,
        study=study.name,
        digest=plan.digest,
        study_json=study.model_dump(mode="json", exclude={"file"}),
        study_file=str(file.relative_to(project)) if file.is_relative_to(project) else file.name,
        trials=[t.trial for t in plan.trials],
    )
    journal.append(record)
    history.add(record)
    for stale in (t for t in plan.trials if rerun and t.state == "stale"):
        latest = history.trials[stale.trial.key].latest
        number = latest.opened.attempt if latest else 0
        superseded = Superseded(at=now, key=stale.trial.key, attempt=number, reason=stale.why)
        journal.append(superseded)
        history.add(superseded)


def _executor(
    wanted: ExecutorName | Executor, parallel: int | None, address: str | None, workspace: Workspace
) -> Executor:
    if wanted == "inline":
        from harness.executors.inline import InlineExecutor

        return InlineExecutor()
    if wanted == "ray":
        from harness.executors.ray_tune import RayExecutor

        scratch = workspace.cache / "ray" / secrets.token_hex(4)
        return RayExecutor(scratch, parallel=parallel, address=address)
    return wanted


def _conclude(
    study: Study, workspace: Workspace, plan: Plan, tracker: Tracker
) -> tuple[Answer | None, Path | None, list[str]]:
    """Answer and report. A failure here never loses the run: it becomes a warning."""
    found: Answer | None = None
    page: Path | None = None
    history = history_of(study, workspace)
    try:
        from harness.analyse.answers import answer as answer_of
        from harness.report.page import write_report

        found = answer_of(plan, study, history)
        page = write_report(found, plan, study, history, workspace)
    except Exception as error:  # analysis of odd results may fail in any way
        again = f"`stillhouse report {study.file}` tries again"
        text = f"the report could not be made ({type(error).__name__}: {error}); {again}"
        return found, None, [text]
    tracker.answer(found, page)
    return found, page, []
