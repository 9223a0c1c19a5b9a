"""`stillhouse export`: what git should keep of a study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import AsJson, StudyWorkspace

if TYPE_CHECKING:
    from harness.analysis.answered_study import AnsweredStudy


def command(
    study: Annotated[Path, typer.Argument(help="Study file or its folder.")],
    to: Annotated[
        Path | None, typer.Option(help="Where to; default `results` beside the study file.")
    ] = None,
    workspace: StudyWorkspace = None,
    as_json: AsJson = False,
) -> None:
    """Write a study's results for git: a compact journal, the answer, its tables, prompt values.

    `plan` reads the journal as history: whoever clones the project sees these trials as done, and
    `reproduce` knows their keys. Values by prompt, over which claims are made, go along packed;
    where a measurement was recorded without them, its stored items are read again.

    Example: stillhouse export studies/quickstart/study.yaml
    """
    from harness.commands.opening import answered
    from harness.journal.workspace import RESULTS
    from harness.report.results import write_results

    answered_study = answered(study, workspace)
    if _filled_in(answered_study):
        # Claims reach over prompts now, so the answer is another.
        answered_study = answered(study, workspace)
    answer = answered_study.answer
    folder = to or answered_study.study.file.parent / RESULTS
    written = write_results(answered_study, folder)
    done = sum(row.n_done for row in answer.arms)
    total = sum(row.n_planned for row in answer.arms)
    if as_json:
        files = {str(path): path.stat().st_size for path in written}
        typer.echo(json.dumps({"files": files, "done": done, "planned": total}))
        return
    for path in written:
        typer.echo(f"{path.stat().st_size / 1024:8.1f} KiB  {path}")
    typer.echo(f"{done} of {total} trials and reference rows have results")


def _filled_in(answered_study: AnsweredStudy) -> bool:
    """Whether values by prompt were made of measurements that had none."""
    from harness.report.results import kept_metrics
    from harness.report.stored_items import fill_in_prompt_values
    from harness.text.printable import printable

    filled = fill_in_prompt_values(answered_study, kept_metrics(answered_study), _to_stderr)
    for line in filled.left[:3]:
        _to_stderr(f"none of {printable(line)}")
    if len(filled.left) > 3:
        _to_stderr(f"none of {len(filled.left) - 3} more")
    return filled.made > 0


def _to_stderr(line: str) -> None:
    typer.echo(line, err=True)
