"""Proof that a blind bundle holds none of some words: every byte of every member, unpacked too."""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import io
import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator

from harness.bundling.blinding import HOMES, SOURCE, Identity
from harness.bundling.contents import Members
from harness.errors import BundleError

_DATA_URI = re.compile(rb"data:[\w/+.-]*;base64,([A-Za-z0-9+/=]{16,})")
_PNG = b"\x89PNG\r\n\x1a\n"
_PACKED: dict[bytes, tuple[str, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": ("gz", gzip.decompress),
    b"BZh": ("bz2", bz2.decompress),
    b"\xfd7zXZ\x00": ("xz", lzma.decompress),
}
_OPAQUE = {
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"%PDF": "PDF",
    b"Rar!": "rar",
    b"ORC": "ORC",
}
_DEEPEST = 4
_MOST_LISTED = 20

Part = tuple[str, bytes]
"""Where it is, e.g. `trials/x/features.npz!words.npy`, and its bytes."""


def refuse(members: Members, who: Identity) -> None:
    """Refuse a bundle in which any of the words is left.

    Raises:
        BundleError: naming member and offset of each place, and what could not be looked into.
    """
    by_member: dict[str, list[str]] = {}
    for line in leftovers(members, who):
        by_member.setdefault(line.split(", ")[0].split("!")[0], []).append(line)
    if not by_member:
        return
    # Recipes first: what is in them is in the journal and the report too.
    order = sorted(by_member, key=lambda name: (not name.startswith("recipes/"), name))
    told = [f"{by_member[n][0]}{_more(len(by_member[n]) - 1)}" for n in order[:_MOST_LISTED]]
    left = len(order) - len(told)
    raise BundleError(
        "this bundle would not be blind, so nothing was written:\n  "
        + "\n  ".join(told)
        + (f"\n  and {left} more members" if left else "")
        + "\nTake it out there (a recipe's path may begin with $VARIABLE), or, where a word stands "
        "for something else, say --blind-skip WORD.",
        order[0],
    )


def _more(count: int) -> str:
    return f" (and {count} more in it)" if count else ""


def leftovers(members: Members, who: Identity) -> list[str]:
    """`member, byte n: 'word'` for every place where a word of the identity is left."""
    found = []
    for name, content in members.items():
        raw = content if isinstance(content, bytes) else content.read_bytes()
        record = not name.startswith(SOURCE)
        found += [f"{name}, its name: {_word(hit)}" for hit in who.hits(name.encode())]
        for place, data in parts(name, raw):
            if data is None:
                found.append(f"{place}: it cannot be looked into, so nothing proves it blind")
                continue
            hits = [*who.hits(data), *(HOMES.finditer(data) if record else ())]
            found += [f"{place}, byte {hit.start()}: {_word(hit)}" for hit in hits]
    return found


def _word(hit: re.Match[bytes]) -> str:
    return repr(hit.group().replace(b"\0", b"").decode("utf-8", "replace"))


def parts(place: str, data: bytes, depth: int = 0) -> Iterator[tuple[str, bytes | None]]:
    """A file's bytes, and what is packed in it: gz, zip (npz), PNG text, parquet, data URIs.

    None stands for what cannot be looked into.
    """
    yield place, data
    if any(data.startswith(magic) for magic in _OPAQUE) or depth > _DEEPEST:
        yield place, None
        return
    try:
        inside = list(_inside(place, data))
    except Exception:  # whatever a damaged file does to its reader
        yield place, None
        return
    for where, content in inside:
        yield from parts(where, content, depth + 1)


def _inside(place: str, data: bytes) -> Iterator[Part]:
    for magic, (kind, unpack) in _PACKED.items():
        if data.startswith(magic):
            yield f"{place}!{kind}", unpack(data)
    if data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            for info in packed.infolist():
                yield f"{place}!{info.filename}", packed.read(info)
    if data.startswith(_PNG):
        yield from _png_texts(place, data)
    if data.startswith(b"PAR1"):
        yield from _parquet(place, data)
    for number, found in enumerate(_DATA_URI.finditer(data)):
        try:
            yield f"{place}!data-uri-{number}", base64.b64decode(found.group(1), validate=True)
        except binascii.Error:  # an example in a text, not a file
            continue


def _png_texts(place: str, data: bytes) -> Iterator[Part]:
    """Compressed text chunks; plain ones are found among the file's own bytes."""
    at = len(_PNG)
    while at + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        name = f"{place}!{kind.decode('latin-1')}@{at}"
        if kind in (b"zTXt", b"iCCP"):
            yield name, zlib.decompress(body[body.index(0) + 2 :])
        elif kind == b"iTXt" and body[body.index(0) + 1] == 1:
            rest = body[body.index(0) + 3 :]
            yield name, zlib.decompress(rest.split(b"\0", 2)[2])
        at += 12 + length


def _parquet(place: str, data: bytes) -> Iterator[Part]:
    import pyarrow.parquet as parquet

    table = parquet.read_table(io.BytesIO(data))
    known = {**(table.schema.metadata or {})}
    yield f"{place}!schema", b"\n".join([str(table.schema).encode(), *known, *known.values()])
    for name in table.column_names:
        yield f"{place}!{name}", _column(table.column(name).to_pylist())


def _column(values: list[object]) -> bytes:
    return b"\n".join(v if isinstance(v, bytes) else str(v).encode() for v in values)
