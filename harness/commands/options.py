"""Options that several commands share, so that one name means one thing and says it in one way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AnyWorkspace = Annotated[Path | None, typer.Option(help="Workspace folder.")]
StudyWorkspace = Annotated[
    Path | None, typer.Option(help="Workspace folder; default beside the study's project.")
]
ProjectWorkspace = Annotated[
    Path | None, typer.Option(help="Workspace folder; default that of the project one is in.")
]
Mlflow = Annotated[
    str | None, typer.Option(help="MLflow address; default SQLite in the workspace.")
]
Beside = Annotated[
    str | None,
    typer.Option(
        "--as",
        help="Name of the study's experiment in MLflow, remembered; where others write one of "
        "the study's name. Default STILLHOUSE_AS, else the study's name.",
    ),
]
Adopt = Annotated[
    bool,
    typer.Option(
        "--adopt",
        help="Go on with an experiment that was written from elsewhere, if all of it is recorded "
        "here.",
    ),
]
NoMlflow = Annotated[bool, typer.Option("--no-mlflow", help="Do not fill MLflow.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
AsJsonAtEnd = Annotated[
    bool, typer.Option("--json", help="Print one JSON object at the end, progress to stderr.")
]
