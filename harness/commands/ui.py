"""`stillhouse ui`: MLflow's pages for a workspace, with links to the saved views."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.commands.options import ProjectWorkspace


def command(
    workspace: ProjectWorkspace = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 5000,
) -> None:
    """Open the recorded studies in MLflow: starts its server and prints links to the views.

    Example: stillhouse ui --port 5000
    """
    from harness.journal.workspace import Workspace
    from harness.tracking.server import serve

    raise typer.Exit(serve(Workspace.find(given=workspace), port, typer.echo))
