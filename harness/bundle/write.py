"""Writes the bundle of a study: one file for reviewers that depends on its content alone."""

from __future__ import annotations

import ast
import inspect
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.bundle.contents import _CHUNK, Members, digest, pieces
from harness.bundle.read import ALWAYS, verify_bundle
from harness.bundle.verify import (
    check,
    estimates,
    looks,
    prompt_rows,
    readings,
    recomputed,
    student,
)
from harness.bundle.verify.check import CHECKSUMS
from harness.errors import BundleError
from harness.text import archive as reading
from harness.text import printable
from harness.text.archive import MOST_RATIO, Archive, Bad, name_problem

if TYPE_CHECKING:
    from harness.analysis.answered_study import AnsweredStudy
    from harness.bundle.blind import Traces
    from harness.contract import ArtifactKind


VERIFIER = "verify.py"


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


def write_bundle(
    answered: AnsweredStudy,
    file: Path,
    *,
    kinds: Sequence[ArtifactKind] = ALWAYS,
    blind: Traces | None = None,
) -> Written:
    """Write a study's bundle; the same records and sources give the same bytes.

    Args:
        answered: the study, answered.
        file: where to; an existing file is replaced once the new one is complete.
        kinds: kinds of artifacts that go along.
        blind: whom to take out; None leaves everything as it is.

    Raises:
        NotJudgedError: no trial of the study has a result yet.
        BundleError: with `blind`, if anything is left of it, naming member and offset.
    """
    from harness.bundle.blind import refuse_traces, scrubbed
    from harness.bundle.contents import digest
    from harness.bundle.withheld import withheld

    members = withheld(_members(answered, kinds, blind is not None), answered.study)
    if blind is not None:
        members = scrubbed(members, blind)
        refuse_traces(members, blind)
    write_archive(members, file)
    verify_bundle(file)
    searched = (blind.words, blind.too_common) if blind else ((), ())
    return Written(file, len(members) + 1, file.stat().st_size, digest(file), *searched)


def _members(answered: AnsweredStudy, kinds: Sequence[ArtifactKind], blind: bool) -> Members:
    from harness.bundle.artifact_page import read_me
    from harness.bundle.contents import LOCK, compared, recorded, source, study_path

    members = recorded(answered, kinds, compared(answered))
    code = source(answered)
    beside = f"code/{study_path(answered)}".rpartition("/")[0] + "/results/"
    code = {name: content for name, content in code.items() if not name.startswith(beside)}
    again = {
        beside + n.removeprefix("results/"): members[n] for n in members if n[:8] == "results/"
    }
    for home in ("code", "stillhouse"):
        if f"{home}/{LOCK}" in code:
            members.setdefault(f"environment/{LOCK}", code[f"{home}/{LOCK}"])
    members |= code | again
    members["ARTIFACT.md"] = read_me(answered, sorted(kinds), blind).encode()
    members[VERIFIER] = verifier_source().encode()
    return members


def verifier_source() -> str:
    """`verify.py`: the verifier's modules as one file that imports the standard library only."""
    judging = (student, estimates, prompt_rows, readings, looks, recomputed)
    # In the order in which they need each other as they are run, from top to bottom of one file.
    modules = (printable, reading, *judging, check)
    parts = [_parts(inspect.getsource(module)) for module in modules]
    imports = sorted({line for _, listed, _ in parts for line in listed})
    future = "from __future__ import annotations"
    return "\n".join([parts[-1][0], future, "", *imports, "", *(body for *_, body in parts)])


def _parts(text: str) -> tuple[str, list[str], str]:
    """What stands before the imports, those of the standard library, and what follows them."""
    imports = [n for n in ast.parse(text).body if isinstance(n, ast.Import | ast.ImportFrom)]
    # What one part imports from another stands in the same file already.
    own = [n for n in imports if not isinstance(n, ast.ImportFrom) or not _is_left_out(n.module)]
    lines = text.split("\n")
    head = "\n".join(lines[: imports[0].lineno - 1])
    return head, [ast.unparse(node) for node in own], "\n".join(lines[imports[-1].end_lineno :])


def _is_left_out(module: str | None) -> bool:
    return module is None or module.split(".")[0] in ("harness", "__future__")


# The earliest date that a zip can hold, for every member: the same content gives the same bytes.
LONG_AGO = (1980, 1, 1, 0, 0, 0)
FIRST = ("ARTIFACT.md", CHECKSUMS, "verify.py")
_PACKED = (".png", ".npz", ".gz", ".zip", ".parquet", ".safetensors", ".jpg", ".webp")


def write_archive(members: Members, file: Path) -> None:
    """Write members and their CHECKSUMS; the same content gives the same bytes.

    Args:
        members: name to content, without CHECKSUMS.
        file: replaced only once the whole archive is there and can be opened by the reader.

    Raises:
        BundleError: if a name or a size is one that the reader would refuse.
    """
    for name in members:
        if why := name_problem(name):
            raise BundleError(f"{name!r} cannot go into a bundle: {why}; rename it", name)
    sums = "".join(f"{digest(members[name])}  {name}\n" for name in sorted(members))
    whole: Members = {**members, CHECKSUMS: sums.encode()}
    file.parent.mkdir(parents=True, exist_ok=True)
    # Whole under another name first: a bundle that is cut off must not lie where one is looked for.
    temporary = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        with zipfile.ZipFile(temporary, "w") as archive:
            for name in sorted(whole, key=lambda n: (n not in FIRST, n)):
                _add(archive, name, whole[name])
        with Archive(temporary):  # the reader takes what the writer makes
            pass
        temporary.replace(file)
    except Bad as error:
        raise BundleError(f"this cannot be a bundle: {error}", error.member) from error
    finally:
        temporary.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, name: str, content: bytes | Path) -> None:
    info = zipfile.ZipInfo(name, LONG_AGO)
    info.create_system = 3  # not the system it was written on
    info.external_attr = 0o100644 << 16
    info.file_size = len(content) if isinstance(content, bytes) else content.stat().st_size
    packed = name.endswith(_PACKED) or _ratio(content) > MOST_RATIO / 2
    info.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
    with archive.open(info, "w") as out:
        for piece in pieces(content):
            out.write(piece)


def _ratio(content: bytes | Path) -> float:
    """How much its first mebibytes shrink: what shrinks too well would look like a zip bomb."""
    first = b""
    for piece in pieces(content):
        first += piece
        if len(first) >= 4 * _CHUNK:
            break
    return len(first) / len(zlib.compress(first, 1)) if first else 1.0
