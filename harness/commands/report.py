"""`stillhouse report`: answer a study from what is recorded, and draw its page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import StudyWorkspace

if TYPE_CHECKING:
    from harness.analysis.model import Answer


def command(
    study: Annotated[Path, typer.Argument(help="Study file.")],
    workspace: StudyWorkspace = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole answer as one JSON object.")
    ] = False,
) -> None:
    """Answer a study from its records and draw report.html, report.md and tables. Trains nothing.

    Example: stillhouse report studies/quickstart/study.yaml
    """
    from harness.commands.opening import answered
    from harness.errors import HarnessError, WorkspaceError
    from harness.report.page import write_report

    made = answered(study, workspace)
    if workspace is not None and not workspace.is_dir() and not made.history.planned:
        raise HarnessError(
            f"no workspace {workspace}, and nothing is recorded beside {made.study.file}: "
            "there is nothing to answer from"
        )
    found = made.answer
    page, unwritten = None, None
    try:
        page = write_report(made)
    except WorkspaceError as error:  # a workspace that is read-only answers all the same
        unwritten = error
    if as_json:
        said = {"report": str(page) if page else None, **found.model_dump(mode="json")}
        typer.echo(json.dumps(said))
    else:
        _tell(found)
    if unwritten is not None:
        raise unwritten
    if not as_json:
        typer.echo(f"report   {page}")


def _tell(found: Answer) -> None:
    from harness.analysis.sentences import narrower

    typer.echo(found.headline)
    for verdict in found.verdicts:
        if verdict.declared:
            typer.echo(f"{verdict.id:<6} {verdict.words}")
            if told := narrower(verdict, found.scope):
                typer.echo(f"       {told}")
            for note in verdict.notes:
                typer.echo(f"       - {note}")
    for amendment in found.amendments:
        typer.echo(f"amended  {amendment.words}")
    for warning in found.warnings:
        typer.echo(f"warning  {warning}")
