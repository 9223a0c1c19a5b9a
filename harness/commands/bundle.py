"""`stillhouse bundle`: one file that a reviewer can check, read and re-run; also reads one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options import AsJson, StudyWorkspace

if TYPE_CHECKING:
    from harness.bundle.write import Written


def command(
    study: Annotated[Path | None, typer.Argument(help="Study file or its folder.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; default NAME-bundle.zip.")
    ] = None,
    blind: Annotated[
        bool,
        typer.Option(
            "--blind",
            help="Take out user, host, paths, authors, addresses; a scan proves it.",
        ),
    ] = False,
    blind_word: Annotated[
        list[str] | None, typer.Option(help="One more word to take out; may be given repeatedly.")
    ] = None,
    blind_skip: Annotated[
        list[str] | None, typer.Option(help="A word not to search for, as it means something else.")
    ] = None,
    students: Annotated[
        bool, typer.Option("--students", help="With the kept students, to measure them again.")
    ] = False,
    whole: Annotated[
        bool, typer.Option("--whole", help="With students, features and pictures of every trial.")
    ] = False,
    verify: Annotated[
        Path | None, typer.Option(help="Check a bundle from anybody instead; nothing of it is run.")
    ] = None,
    unpack: Annotated[
        Path | None, typer.Option(help="Check a bundle and unpack it into the new folder -o.")
    ] = None,
    workspace: StudyWorkspace = None,
    as_json: AsJson = False,
) -> None:
    """Put a study into one file: recipes, journal, items, report, tables, source, ARTIFACT.md.

    A verifier that needs only Python goes along. The same records and sources give the same bytes.

    Example: stillhouse bundle studies/quickstart/study.yaml --blind -o supplement.zip
    """
    from harness.bundle.read import ALWAYS, STUDENTS, WHOLE, extract_bundle, verify_bundle
    from harness.errors import HarnessError

    if sum(given is not None for given in (study, verify, unpack)) != 1:
        raise HarnessError("give one of: a study to bundle, --verify FILE, --unpack FILE -o FOLDER")
    if (blind_word or blind_skip) and not blind:
        raise HarnessError("--blind-word and --blind-skip need --blind")
    if study is not None:
        words = (blind_word or [], blind_skip or []) if blind else None
        kinds = WHOLE if whole else STUDENTS if students else ALWAYS
        _tell(_written(study, workspace, output, kinds, words), as_json)
        return
    if verify is not None:
        checks, file = verify_bundle(verify), verify
    else:
        assert unpack is not None
        if output is None:
            raise HarnessError("--unpack needs -o FOLDER, a folder that does not exist yet")
        checks, file = extract_bundle(unpack, output), unpack
    if as_json:
        typer.echo(json.dumps({"file": str(file), "verified": True, "checks": checks}))
        return
    for line in checks:
        typer.echo(line)
    but = ", its verdicts apart" if any("not worked out here" in line for line in checks) else ""
    typer.echo(
        f"verified   {file}{but}" + (f", unpacked into {output}" if unpack is not None else "")
    )


def _written(
    study: Path,
    workspace: Path | None,
    output: Path | None,
    kinds: tuple[str, ...],
    words: tuple[list[str], list[str]] | None,
) -> Written:
    from harness.bundle.blind import traces_of
    from harness.bundle.write import write_bundle
    from harness.commands.opening import answered

    answered_study = answered(study, workspace)
    traces = traces_of(answered_study, *words) if words is not None else None
    file = output or Path(f"{answered_study.study.name}{'-blind' if traces else ''}-bundle.zip")
    return write_bundle(answered_study, file, kinds=kinds, blind=traces)  # type: ignore[arg-type]


def _tell(written: Written, as_json: bool) -> None:
    from harness.journal.command_line import path_word, typed

    if as_json:
        content = {
            "file": str(written.file),
            "members": written.members,
            "bytes": written.bytes,
            "sha256": written.sha256,
            "searched": written.searched,
            "not_searched": written.not_searched,
        }
        typer.echo(json.dumps(content))
        return
    if written.searched:
        typer.echo(f"blind    none of these is left: {', '.join(written.searched)}")
    if written.not_searched:
        typer.echo(
            f"         not searched for: {', '.join(written.not_searched)} (--blind-word does)"
        )
    typer.echo(f"{written.bytes / 2**20:8.2f} MiB  {written.file}  {written.members} members")
    typer.echo(f"sha256   {written.sha256}")
    typer.echo(f"check    {typed('bundle', '--verify', path_word(written.file))}")
