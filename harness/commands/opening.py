"""Opens studies for commands: checked, their workspace found, and told which installation runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from harness.analysis.answered_study import AnsweredStudy
    from harness.study.opened_study import OpenedStudy


def opened(file: Path, workspace: Path | None) -> OpenedStudy:
    """Read and check a study file; see `open_study`."""
    from harness.study.load import open_study

    opened_study = open_study(file, workspace)
    tell_runner(opened_study.study.file)
    return opened_study


def answered(file: Path, workspace: Path | None) -> AnsweredStudy:
    """A study with what its workspace and its recorded results answer."""
    from harness.analysis.answered_study import AnsweredStudy

    return AnsweredStudy.of(opened(file, workspace))


def tell_runner(study: Path | None) -> None:
    """Print a line to stderr where somebody may think that his checkout runs.

    Args:
        study: study file or its folder; None: what stands in the current folder.
    """
    from harness.installation import notice
    from harness.journal.workspace import file_of, here

    line = notice(file_of(study) if study is not None else here() / "x")
    if line:
        typer.echo(f"note      {line}", err=True)
