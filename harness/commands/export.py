"""`stillhouse export`: what git should keep of a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import AsJson, StudyWorkspace


def command(
    study: Annotated[Path, typer.Argument(help="Study file or its folder.")],
    to: Annotated[
        Path | None, typer.Option(help="Where to; default `results` beside the study file.")
    ] = None,
    workspace: StudyWorkspace = None,
    as_json: AsJson = False,
) -> None:
    """Write a study's results for git: a compact journal, the answer and its tables.

    `plan` reads the journal as history: whoever clones the project sees these trials as done, and
    `reproduce` knows their keys.

    Example: stillhouse export studies/quickstart/study.yaml
    """
    from harness.commands.answered import answered
    from harness.report.results import write_results
    from harness.run import RESULTS

    made = answered(study, workspace)
    found = made.answer
    folder = to or made.study.file.parent / RESULTS
    written = write_results(found, made.plan, made.history, folder)
    done = sum(row.n_done for row in found.arms)
    total = sum(row.n_planned for row in found.arms)
    if as_json:
        files = {str(path): path.stat().st_size for path in written}
        typer.echo(json.dumps({"files": files, "done": done, "planned": total}))
        return
    for path in written:
        typer.echo(f"{path.stat().st_size / 1024:8.1f} KiB  {path}")
    typer.echo(f"{done} of {total} trials and reference rows have results")
