"""`stillhouse report`: answer a study from what is recorded, and draw its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    study: Annotated[Path, typer.Argument(help="Study file.")],
    workspace: Annotated[
        Path | None, typer.Option(help="Workspace folder; default beside the study's project.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole answer as one JSON object.")
    ] = False,
) -> None:
    """Answer a study from its records and draw report.html, report.md and tables. Trains nothing.

    Example: stillhouse report studies/quickstart/study.yaml
    """
    from harness import study as studies
    from harness import subjects
    from harness.analyse.answers import answer
    from harness.plan import make_plan
    from harness.report.page import write_report
    from harness.run import history_of
    from harness.workspace import Workspace, project_of

    loaded = studies.load(study)
    place = Workspace.find(loaded.file, workspace)
    history = history_of(loaded, place)
    plan = make_plan(loaded, history, workspace=place)
    metrics = subjects.load(loaded.subject, project=project_of(loaded.file)).metrics
    found = answer(plan, loaded, history, metrics=metrics)
    page = write_report(found, plan, loaded, history, place)
    if as_json:
        typer.echo(json.dumps({"report": str(page), **found.model_dump(mode="json")}))
        return
    typer.echo(found.headline)
    for verdict in found.verdicts:
        if verdict.planned:
            typer.echo(f"{verdict.id:<6} {verdict.words}")
            for note in verdict.notes:
                typer.echo(f"       - {note}")
    for warning in found.warnings:
        typer.echo(f"warning  {warning}")
    typer.echo(f"report   {page}")
