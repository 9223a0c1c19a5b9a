"""A zip archive that depends on its content alone: fixed order, times and modes."""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from harness.bundling.archive import MOST_RATIO, Archive, Bad, name_problem
from harness.bundling.contents import Members
from harness.bundling.verifier import CHECKSUMS
from harness.errors import BundleError

LONG_AGO = (1980, 1, 1, 0, 0, 0)
FIRST = ("ARTIFACT.md", CHECKSUMS, "verify.py")
_PACKED = (".png", ".npz", ".gz", ".zip", ".parquet", ".safetensors", ".jpg", ".webp")
_CHUNK = 2**20


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


def digest(content: bytes | Path) -> str:
    """sha256 in hex."""
    found = hashlib.sha256()
    for piece in pieces(content):
        found.update(piece)
    return found.hexdigest()


def pieces(content: bytes | Path) -> Iterator[bytes]:
    """The content in pieces of at most a mebibyte."""
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            yield piece


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
