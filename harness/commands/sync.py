"""`stillhouse sync`: replays the journal into MLflow."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.commands.options import Adopt, Beside, ProjectWorkspace


def command(
    study: Annotated[
        str | None, typer.Argument(help="Name of the study; default: every study recorded.")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(help="MLflow address; default: the workspace's own database.")
    ] = None,
    beside: Beside = None,
    adopt: Adopt = False,
    workspace: ProjectWorkspace = None,
) -> None:
    """Bring MLflow up to date with the journal; what is there already is not written again.

    Example: stillhouse sync task-mixture --mlflow http://tracking.lab:5000
    """
    from harness.journal.workspace import Workspace
    from harness.tracking.sync import sync

    place = Workspace.find(given=workspace)
    warnings = sync(place, study=study, uri=mlflow, beside=beside, adopt=adopt, echo=typer.echo)
    for warning in warnings:
        typer.echo(warning, err=True)
    raise typer.Exit(1 if warnings else 0)
