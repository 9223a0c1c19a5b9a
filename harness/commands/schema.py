"""`stillhouse schema`: the JSON Schema of study files, for editors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def command(
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; default the screen.")
    ] = None,
) -> None:
    """Write the JSON Schema of study files, so that an editor completes and checks them.

    Example: stillhouse schema -o study.schema.json
    (then start a study with `# yaml-language-server: $schema=../../study.schema.json`)
    """
    from harness.errors import HarnessError
    from harness.study.model import StudyFile

    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **StudyFile.model_json_schema(),
    }
    text = json.dumps(schema, indent=2) + "\n"
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HarnessError(f"cannot write {output}: {error.strerror or error}") from error
    typer.echo(f"wrote {output}")
