"""`stillhouse logs`: what a trial's worker printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    key: Annotated[str, typer.Argument(help="Trial key, or its first digits.")],
    workspace: Annotated[Path | None, typer.Option(help="Workspace folder.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines; 0 for all.")] = 0,
) -> None:
    """Print the log of a trial: output, tracebacks and endings of all its attempts.

    Example: stillhouse logs 1f9c2a7b
    """
    from harness.errors import HarnessError
    from harness.journal import History
    from harness.running.standing import only_key, place

    found = place(workspace)
    file = found.trial(only_key(History.read([found.journal]), key, found)) / "log.txt"
    if not file.is_file():
        raise HarnessError(f"trial {key} has no log yet: {file} does not exist")
    text = file.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in text[-lines:]:
        typer.echo(line)
