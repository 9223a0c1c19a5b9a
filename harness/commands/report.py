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

    answered_study = answered(study, workspace)
    if workspace is not None and not workspace.is_dir() and not answered_study.history.planned:
        raise HarnessError(
            f"no workspace {workspace}, and nothing is recorded beside "
            f"{answered_study.study.file}: there is nothing to answer from"
        )
    answer = answered_study.answer
    page, unwritten = None, None
    try:
        page = write_report(answered_study)
    except WorkspaceError as error:  # a workspace that is read-only answers all the same
        unwritten = error
    if as_json:
        content = {"report": str(page) if page else None, **answer.model_dump(mode="json")}
        typer.echo(json.dumps(content))
    else:
        _tell(answer)
    if unwritten is not None:
        raise unwritten
    if not as_json:
        typer.echo(f"report   {page}")


def _tell(answer: Answer) -> None:
    from harness.analysis.sentences import narrower

    typer.echo(answer.headline)
    for verdict in answer.verdicts:
        if verdict.declared:
            typer.echo(f"{verdict.id:<6} {verdict.words}")
            if claim := narrower(verdict, answer.scope):
                typer.echo(f"       {claim}")
            for note in verdict.notes:
                typer.echo(f"       - {note}")
    for amendment in answer.amendments:
        typer.echo(f"amended  {amendment.words}")
    for warning in answer.warnings:
        typer.echo(f"warning  {warning}")
