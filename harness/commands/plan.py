"""`stillhouse plan`: what a study will run, cost and detect. Writes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.commands.options import AnyWorkspace, AsJson

if TYPE_CHECKING:
    from harness.planning.plan import Plan
    from harness.study.opened_study import OpenedStudy


def command(
    study: Annotated[Path, typer.Argument(help="Study file.")],
    workspace: AnyWorkspace = None,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Trials at once; default what fits here.")
    ] = None,
    arms: Annotated[bool, typer.Option("--arms", help="List every arm.")] = False,
    elsewhere: Annotated[
        bool, typer.Option("--elsewhere", help="The GPUs are on other machines: do not look here.")
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, help="GPUs of the cluster to plan for; those here do not count."),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(help="List the designs that fit gpu_hours=N or hours=N from now on."),
    ] = None,
    until_decided: Annotated[
        bool,
        typer.Option("--until-decided", help="Plan a run that stops when all is decided."),
    ] = False,
    at_most: Annotated[
        int | None, typer.Option(min=1, help="Replicates that --until-decided may come to.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a study will run, what it costs and what it can detect, before anything is spent.

    Example: stillhouse plan studies/quickstart/study.yaml

    For a cluster: stillhouse plan studies/task-mixture/full-scale.yaml --gpus 64
    """
    from harness.commands.opening import tell_runner
    from harness.journal.gc_pauses import paused
    from harness.planning.make import make_plan
    from harness.planning.printed import lines_of
    from harness.study.load import open_study

    tell_runner(study)
    # A large plan is objects that all stay: collecting among them would double the time it takes.
    with paused():
        opened = open_study(study, workspace)
        place = opened.workspace
        plan = make_plan(
            opened,
            parallel=parallel,
            check_devices=not elsewhere,
            gpus=gpus,
            until_decided=until_decided,
            at_most=at_most,
        )
        expectation = None
        if until_decided:  # brings numpy, which no other plan needs
            from harness.analysis.expectation import expected

            expectation = expected(plan)
        if fit is not None:
            _fitting(opened, plan, fit, as_json)
            return
        if as_json:
            content = as_object(plan, str(place.root))
            content["expected"] = expectation.model_dump() if expectation is not None else None
            typer.echo(json.dumps(content, allow_nan=False))
            return
        lines = lines_of(plan, str(study), arms=arms, workspace=place, expected=expectation)
        typer.echo("\n".join(lines))


def _fitting(opened: OpenedStudy, plan: Plan, text: str, as_json: bool) -> None:
    from harness.planning.fit import Limit, fit_lines, fitting_designs

    limit = Limit.read(text)
    fits = fitting_designs(opened, plan, limit)
    if as_json:
        designs = [design.model_dump(mode="json") for design in fits]
        typer.echo(json.dumps({limit.unit: limit.amount, "designs": designs}, allow_nan=False))
        return
    typer.echo("\n".join(fit_lines(fits, limit)))


def as_object(plan: Plan, workspace: str) -> dict[str, Any]:
    """The plan as one JSON object; trials are flat and leave out the recipe their arm holds."""
    whole = plan.model_dump(mode="json", exclude={"trials"})
    whole["workspace"] = workspace
    whole["counts"] = {s: plan.count(s) for s in ("new", "measure", "reuse", "stale", "running")}
    whole["trials"] = [
        {
            "key": planned.trial.key,
            "short": planned.trial.short,
            "arm": planned.trial.arm,
            "replicate": planned.trial.replicate,
            "kind": planned.trial.kind,
            "state": planned.state,
            "why": planned.why,
        }
        for planned in plan.trials
    ]
    return whole
