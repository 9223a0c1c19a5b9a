"""One file per study for reviewers: written here, and read here without trusting it."""

from __future__ import annotations

import ast
import hashlib
import inspect
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from harness import printable
from harness.bundling import archive as reading
from harness.bundling import (
    estimates,
    looks,
    prompt_rows,
    readings,
    recomputed,
    student,
    verifier,
)
from harness.bundling.archive import Archive, Bad
from harness.errors import BundleError, WorkspaceError

if TYPE_CHECKING:
    from harness.bundling.blinding import Identity
    from harness.bundling.contents import Members
    from harness.commands.answered import Answered
    from harness.contract import ArtifactKind

VERIFIER = "verify.py"
ALWAYS: tuple[ArtifactKind, ...] = ("items", "prompts")
STUDENTS: tuple[ArtifactKind, ...] = (*ALWAYS, "student")
WHOLE: tuple[ArtifactKind, ...] = (*ALWAYS, "features", "panel", "student")


@dataclass(frozen=True)
class Written:
    """A bundle that was written."""

    file: Path
    members: int
    bytes: int
    sha256: str
    searched: tuple[str, ...] = ()
    """What was searched for and is not in it; empty unless blind."""
    not_searched: tuple[str, ...] = ()
    """What says too little to be searched for, such as the user name `root`."""


def write(
    made: Answered,
    file: Path,
    *,
    kinds: Sequence[ArtifactKind] = ALWAYS,
    blind: Identity | None = None,
) -> Written:
    """Write a study's bundle; the same records and sources give the same bytes.

    Args:
        made: the study, answered.
        file: where to; an existing file is replaced once the new one is complete.
        kinds: kinds of artifacts that go along.
        blind: whom to take out; None leaves everything as it is.

    Raises:
        NotJudgedError: no trial of the study has a result yet.
        BundleError: with `blind`, if anything is left of it, naming member and offset.
    """
    from harness.bundling import blinding, scan
    from harness.bundling.withheld import withheld
    from harness.bundling.writing import digest, write_archive

    members = withheld(_members(made, kinds, blind is not None), made.study)
    if blind is not None:
        members = blinding.scrubbed(members, blind)
        scan.refuse(members, blind)
    write_archive(members, file)
    verify(file)
    told = (blind.words, blind.too_common) if blind else ((), ())
    return Written(file, len(members) + 1, file.stat().st_size, digest(file), *told)


def _members(made: Answered, kinds: Sequence[ArtifactKind], blind: bool) -> Members:
    from harness.bundling.contents import LOCK, recorded
    from harness.bundling.read_me import read_me
    from harness.bundling.source import compared, source, study_path

    found = recorded(made, kinds, compared(made))
    code = source(made)
    beside = f"code/{study_path(made)}".rpartition("/")[0] + "/results/"
    code = {name: content for name, content in code.items() if not name.startswith(beside)}
    again = {beside + n.removeprefix("results/"): found[n] for n in found if n[:8] == "results/"}
    for home in ("code", "stillhouse"):
        if f"{home}/{LOCK}" in code:
            found.setdefault(f"environment/{LOCK}", code[f"{home}/{LOCK}"])
    found |= code | again
    found["ARTIFACT.md"] = read_me(made, sorted(kinds), blind).encode()
    found[VERIFIER] = verifier_source().encode()
    return found


def verifier_source() -> str:
    """`verify.py`: the verifier's modules as one file that imports the standard library only."""
    judging = (student, estimates, prompt_rows, readings, looks, recomputed)
    modules = (printable, reading, *judging, verifier)
    parts = [_parts(inspect.getsource(module)) for module in modules]
    imports = sorted({line for _, listed, _ in parts for line in listed})
    future = "from __future__ import annotations"
    return "\n".join([parts[-1][0], future, "", *imports, "", *(body for *_, body in parts)])


def _parts(text: str) -> tuple[str, list[str], str]:
    """What stands before the imports, those of the standard library, and what follows them."""
    imports = [n for n in ast.parse(text).body if isinstance(n, ast.Import | ast.ImportFrom)]
    own = [n for n in imports if not isinstance(n, ast.ImportFrom) or not _is_left_out(n.module)]
    lines = text.split("\n")
    head = "\n".join(lines[: imports[0].lineno - 1])
    return head, [ast.unparse(node) for node in own], "\n".join(lines[imports[-1].end_lineno :])


def _is_left_out(module: str | None) -> bool:
    return module is None or module.split(".")[0] in ("harness", "__future__")


def verify(file: Path) -> list[str]:
    """Check a bundle from anybody; nothing is unpacked and nothing of it is run.

    Returns:
        a line for each kind of check.

    Raises:
        BundleError: at the first thing that is not as it must be, with member and line.
    """
    try:
        with Archive(_there(file)) as bundle:
            return _checked(bundle)
    except Bad as error:
        raise _refused(file, error) from error


def unpacked(file: Path, into: Path) -> Path:
    """Check a bundle and unpack it below a folder, once for each content.

    Args:
        file: a bundle, from anybody.
        into: made where missing; the bundle gets a folder in it that is named by its checksum.

    Returns:
        the folder, which looks like a study's: `results/`, `trials/<key>/`, `report/`, `code/`.

    Raises:
        BundleError: if the bundle is not as it must be; then nothing is left below `into`.
        WorkspaceError: if `into` cannot be written.
    """
    name = hashlib.sha256()
    try:
        with _there(file).open("rb") as stream:
            while piece := stream.read(2**20):
                name.update(piece)
    except OSError as error:
        raise BundleError(f"bundle {file} cannot be read: {error.strerror or error}") from error
    folder = into / name.hexdigest()[:32]
    if folder.is_dir():
        return folder
    extract(file, folder)
    return folder


def extract(file: Path, folder: Path) -> list[str]:
    """Check a bundle, then unpack it into a folder that does not exist yet; see `unpacked`."""
    if folder.exists():
        raise BundleError(f"{folder} is there already: give the name of a new folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise WorkspaceError(f"{folder} cannot be made: {error.strerror or error}") from error
    try:
        with Archive(_there(file)) as bundle:
            told = _checked(bundle)
            free = shutil.disk_usage(temporary).free
            need = sum(info.file_size for info in bundle.members.values())
            if need > free:
                raise WorkspaceError(f"{folder}: {need:,} bytes are needed, {free:,} are free")
            for name in bundle.members:
                target = temporary.joinpath(*name.split("/"))
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as out:
                    out.writelines(bundle.chunks(name))
        temporary.chmod(0o755)
        temporary.replace(folder)
        return told
    except Bad as error:
        raise _refused(file, error) from error
    except OSError as error:
        if folder.is_dir():  # another process unpacked the same meanwhile
            return []
        raise WorkspaceError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _there(file: Path) -> Path:
    if not file.is_file():
        raise BundleError(f"bundle {file} is not there: give a file that `bundle` made")
    return file


def _refused(file: Path, error: Bad) -> BundleError:
    return BundleError(
        f"{file}: {error}. It was changed or damaged; nothing of it was used. Ask for it again.",
        error.member,
        error.line,
    )


def _checked(bundle: Archive) -> list[str]:
    """The verifier's checks, then that every record is one that the journal knows."""
    from harness.analyse.answer import Answer
    from harness.record_lines import Reader

    told: list[str] = []
    verifier.check(bundle, told.append)
    reader = Reader()
    for number, line in bundle.lines(looks.JOURNAL):
        try:
            reader.take(line, str(number))
        except ValidationError as error:
            raise Bad(_first(error), looks.JOURNAL, number) from error
        except ValueError as error:
            raise Bad(str(error)[:300], looks.JOURNAL, number) from error
    for place, record in reader.waiting():
        if isinstance(record, ValueError):
            said = _first(record) if isinstance(record, ValidationError) else str(record)[:300]
            raise Bad(said, looks.JOURNAL, int(place))
    try:
        Answer.model_validate_json(bundle.read(recomputed.ANSWER))
    except ValidationError as error:
        raise Bad(_first(error), recomputed.ANSWER) from error
    return told


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:300]
