"""`stillhouse reproduce`: a reported trial or claim again, and on which scale it came out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import ProjectWorkspace


def command(
    key: Annotated[
        str,
        typer.Argument(
            help="Trial key, its first digits, or its short name; may be left out with --contrast."
        ),
    ] = "",
    level: Annotated[
        str,
        typer.Option(
            help="How much is done again, cheapest first. record: hashes, digests, versions, "
            "device; tables: numbers and verdicts worked out from what is stored; measure: the "
            "kept student is measured again; train: everything is run again; auto: measure if a "
            "student is kept, else train. The price of each is printed first."
        ),
    ] = "auto",
    contrast: Annotated[
        str,
        typer.Option(help="Id of a contrast: the smallest set of trials that decides it."),
    ] = "",
    fresh_seeds: Annotated[
        int,
        typer.Option(
            help="Train so many new replicates of the arm (with --contrast: of both sides) "
            "instead, and judge their mean by the recorded replicates."
        ),
    ] = 0,
    source: Annotated[
        str,
        typer.Option(
            "--from",
            help="Look here instead: a folder with records (workspace, results, unpacked bundle), "
            "a bundle file, or an MLflow address.",
        ),
    ] = "",
    workspace: ProjectWorkspace = None,
    study: Annotated[
        Path | None,
        typer.Option(
            help="Study file or folder whose recorded results hold the key, too; with --from, one "
            "of yours that names the subject of the record."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, progress to stderr.")
    ] = False,
) -> None:
    """Reproduce a trial from its key and judge every reported number.

    Decisions: bit-equal; as recorded (nothing was computed); within rerun noise; consistent with a
    new replicate (weak, its width is printed); not reproduced, naming what differs; not judged,
    naming what is missing. Exit 0 for all but the last two, 1, 3.

    Example: stillhouse reproduce k1f9c2a7b --level train

    Example: stillhouse reproduce --contrast H12 --study studies/task-mixture --level measure
    """
    from harness.commands.opening import tell_runner
    from harness.errors import HarnessError
    from harness.journal.workspace import Workspace
    from harness.reproduce import depths, entry, reproduction

    if level not in depths.DEPTH_OPTIONS:
        raise HarnessError(f"--level {level!r} must be one of {', '.join(depths.DEPTH_OPTIONS)}")
    if study is not None and not study.exists():
        raise HarnessError(f"--study {study} does not exist: give a study file or its folder")
    # `find` takes a study file and looks from its folder: any name in it will do.
    anchor = study / "x" if study is not None and study.is_dir() else study
    place = Workspace.find(anchor, workspace)
    tell_runner(anchor)

    def echo(text: str) -> None:
        typer.echo(text, err=as_json)

    try:
        result = entry.reproduction(
            key,
            workspace=place,
            depth=next(option for option in depths.DEPTH_OPTIONS if option == level),
            study=study,
            source=source,
            contrast=contrast,
            fresh_seeds=fresh_seeds,
            echo=echo,
        )
    except KeyboardInterrupt:
        echo("interrupted; nothing of the record was touched")
        raise typer.Exit(130) from None
    for line in reproduction.lines(result):
        echo(line)
    if as_json:
        typer.echo(reproduction.to_json(result))
    raise typer.Exit(result.exit_code)
