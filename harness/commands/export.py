"""`stillhouse export`: what git should keep of a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    study: Annotated[Path, typer.Argument(help="Study file or its folder.")],
    to: Annotated[
        Path | None, typer.Option(help="Where to; default `results` beside the study file.")
    ] = None,
    workspace: Annotated[
        Path | None, typer.Option(help="Workspace folder; default beside the study's project.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write a study's results for git: a compact journal, the answer and its tables.

    `plan` reads the journal as history: whoever clones the project sees these trials as done, and
    `reproduce` knows their keys.

    Example: stillhouse export studies/quickstart/study.yaml
    """
    from harness import study as studies
    from harness import subjects
    from harness.analyse.answers import answer
    from harness.plan import make_plan
    from harness.report.results import write_results
    from harness.run import RESULTS, history_of
    from harness.workspace import Workspace, project_of

    loaded = studies.load(study)
    place = Workspace.find(loaded.file, workspace)
    history = history_of(loaded, place)
    plan = make_plan(loaded, history, workspace=place)
    metrics = subjects.load(loaded.subject, project=project_of(loaded.file)).metrics
    found = answer(plan, loaded, history, metrics=metrics)
    written = write_results(found, plan, history, to or loaded.file.parent / RESULTS)
    done = sum(row.n_done for row in found.arms)
    total = sum(row.n_planned for row in found.arms)
    if as_json:
        files = {str(path): path.stat().st_size for path in written}
        typer.echo(json.dumps({"files": files, "done": done, "planned": total}))
        return
    for path in written:
        typer.echo(f"{path.stat().st_size / 1024:8.1f} KiB  {path}")
    typer.echo(f"{done} of {total} trials and reference rows have results")
