"""Says which installation runs a study that stands in another checkout of Stillhouse."""

from __future__ import annotations

from pathlib import Path

import typer


def tell_runner(study: Path | None) -> None:
    """Print a line to stderr where somebody may think that his checkout runs.

    Args:
        study: study file or its folder; None: what stands in the current folder.
    """
    from harness.installation import notice
    from harness.study_file.name import file_of
    from harness.workspace import here

    line = notice(file_of(study) if study is not None else here() / "x")
    if line:
        typer.echo(f"note      {line}", err=True)
