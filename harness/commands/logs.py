"""`stillhouse logs`: how a trial's attempts went, with what their workers printed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import typer

from harness.commands.options import AnyWorkspace

POLL_SECONDS = 0.5


def command(
    key: Annotated[str, typer.Argument(help="Trial key, or its first digits.")],
    workspace: AnyWorkspace = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Last lines; 0 for all.")] = 0,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the trial ends, or Ctrl-C.")
    ] = False,
) -> None:
    """Print the log of a trial: progress, output, tracebacks and endings of all its attempts.

    Example: stillhouse logs k1f9c2a7b --follow
    """
    from harness.errors import HarnessError
    from harness.journal import claims
    from harness.journal.attempts import LOG
    from harness.journal.history import History
    from harness.running.study_status import only_key, recorded_workspace

    place = recorded_workspace(workspace)
    folder = place.trial(only_key(History.read([place.journal]), key, place))
    file = folder / LOG
    if not file.is_file():
        raise HarnessError(f"trial {key} has no log yet: {file} does not exist")
    # Workers write whatever their libraries print.
    with file.open(encoding="utf-8", errors="replace") as log:
        for line in log.read().splitlines()[-lines:]:
            typer.echo(line)
        if follow:
            _follow(log.read, lambda: claims.is_claimed(folder))


def _follow(read: Callable[[], str], running: Callable[[], bool]) -> None:
    """Print what is appended while the trial runs."""
    while True:
        last = not running()  # asked first: what it wrote before it ended is read below
        typer.echo(read(), nl=False)
        if last:
            return
        time.sleep(POLL_SECONDS)
