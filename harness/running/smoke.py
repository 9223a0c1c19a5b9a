"""`run --smoke`: the baseline and two extreme arms for three steps; nothing is recorded."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Iterator

from harness.contract import Report
from harness.executors.base import Ended, Event, Executor, Job
from harness.executors.worker import SMOKE_OVER
from harness.journal.states import OVER
from harness.journal.workspace import Workspace
from harness.planning.plan import Plan, PlannedTrial
from harness.running.driver import RunSettings
from harness.running.interrupts import Interrupts

STEPS = 3


def run_smoke(
    plan: Plan,
    settings: RunSettings,
    workspace: Workspace,
    executor: Executor,
    echo: Callable[[str], None],
) -> int:
    """Try a few trials in a scratch folder and remove it. Nothing is recorded.

    Returns:
        exit code: 0 if all ran, 1 if one failed, died or never started, 130 or 143 if interrupted.
    """
    workspace.ensure_usable()
    scratch = workspace.cache / f"smoke-{secrets.token_hex(4)}"
    ended: dict[str, Ended] = {}
    arms = smoke_trials(plan)
    echo(
        f"smoke   {len(arms)} of {len(plan.arms)} arms, up to their first report from step {STEPS} "
        "on; nothing is recorded"
    )

    def jobs() -> Iterator[Job]:
        for planned in arms:
            trial = planned.trial
            folder = scratch / trial.key
            folder.mkdir(parents=True)
            yield Job.of(
                trial,
                folder,
                "smoke",
                subject=settings.subject,
                cache=workspace.cache,
                measurement=settings.measurement,
                gpus=settings.gpus,
                cpus=settings.cpus,
                stop_at_step=STEPS,
                project=settings.project,
            )

    def on_event(job: Job, event: Event, at: float) -> None:
        if isinstance(event, Ended):
            ended[job.key] = event
            outcome = "works" if event.state == "done" else event.state
            reason = "" if event.reason == SMOKE_OVER else event.reason
            echo(f"smoke   {job.short}  {outcome}  {event.seconds:.1f} s  {reason}".rstrip())
            if event.state == "failed":
                echo(job.log.read_text().rstrip())
        elif isinstance(event, Report):
            echo(f"smoke   {job.short}  step {event.step}")

    with Interrupts() as stop:
        try:
            executor.run(jobs(), on_event, stop)
        finally:
            executor.close()
            shutil.rmtree(scratch, ignore_errors=True)
        if stop():
            return stop.exit_code
    worked = [ended[k].state in OVER for a in arms if (k := a.trial.key) in ended]
    return 0 if len(worked) == len(arms) and all(worked) else 1


def smoke_trials(plan: Plan) -> list[PlannedTrial]:
    """First replicate there is of the baseline and of the first and last other arm of the design.

    References are no arms; they are made by the run itself, first.
    """
    by_arm: dict[str, PlannedTrial] = {}
    for planned in plan.trials:
        if planned.trial.kind == "trial":
            by_arm.setdefault(planned.trial.arm, planned)
    baseline = [arm.name for arm in plan.arms if arm.baseline and arm.name in by_arm]
    others = [arm.name for arm in plan.arms if not arm.baseline and arm.name in by_arm]
    return [by_arm[name] for name in dict.fromkeys([*baseline, *others[:1], *others[-1:]])]
