"""`stillhouse reproduce`: run one reported trial again and say whether it reproduced."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    key: Annotated[str, typer.Argument(help="Trial key, its first digits, or its short name.")],
    level: Annotated[
        str,
        typer.Option(
            help="measure: the kept student is measured again; train: everything is run again; "
            "auto: measure if a student is kept, else train."
        ),
    ] = "auto",
    workspace: Annotated[
        Path | None, typer.Option(help="Workspace folder; default that of the project one is in.")
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(help="Study file or folder whose recorded results hold the key, too."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, progress to stderr.")
    ] = False,
) -> None:
    """Re-run a trial from its key and compare every number. Exit 0 identical, 1 not, 3 not judged.

    Example: stillhouse reproduce 1f9c2a7b --level train
    """
    from harness import reproduce
    from harness.errors import HarnessError
    from harness.workspace import Workspace

    if level not in reproduce.LEVELS:
        raise HarnessError(f"--level {level!r} must be one of {', '.join(reproduce.LEVELS)}")
    if study is not None and not study.exists():
        raise HarnessError(f"--study {study} does not exist: give a study file or its folder")
    anchor = study if study is not None and study.is_file() else None
    place = Workspace.find(anchor, workspace)

    def echo(text: str) -> None:
        typer.echo(text, err=as_json)

    chosen = next(known for known in reproduce.LEVELS if known == level)
    try:
        found = reproduce.reproduction(key, workspace=place, level=chosen, study=study, echo=echo)
    except KeyboardInterrupt:
        echo("interrupted; nothing of the trial was touched")
        raise typer.Exit(130) from None
    for line in reproduce.lines(found):
        echo(line)
    if as_json:
        typer.echo(reproduce.to_json(found))
    raise typer.Exit(found.exit_code)
