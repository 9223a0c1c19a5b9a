"""A zip archive from anybody, read without trusting it. Standard library only, Python 3.9 or later.

Nothing is unpacked and nothing is run here. `Archive(file)` refuses names that could leave a folder
or collide in it, links, encryption, overlapping members, and sizes that are out of proportion;
`parsed` reads JSON without duplicate keys, infinities or depth that overflows a stack.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_MEMBERS = 100_000
MOST_BYTES = 64 * 2**30
MOST_TEXT_BYTES = 512 * 2**20
MOST_RATIO = 250
"""Members that unpack to more than this many times their size, above a mebibyte, are refused."""
MOST_DEPTH = 60
_CHUNK = 2**20
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?$", re.IGNORECASE)
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]')
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    MemoryError,
    LookupError,
    ArithmeticError,
)
"""What Python's reader raises on broken archives, `struct.error` apart."""


class Bad(Exception):
    """Something in the bundle is not as it must be: which member, which line, what."""

    def __init__(self, message: str, member: str = "", line: int = 0) -> None:
        self.member, self.line = member, line
        place = "".join([member, f":{line}" if line else "", ": " if member else ""])
        text = "".join(c if c.isprintable() else "?" for c in place + message)
        super().__init__(text[:600])  # a stranger's words reach a terminal


def name_problem(name: str) -> str:
    """Why a member may not be called so; empty if it may."""
    if not name or not name.isprintable() or unicodedata.normalize("NFC", name) != name:
        return "its name is empty, not printable or not in normal form"
    if len(name.encode("utf-8", "replace")) > 900 or set(name) & set('\\:*?"<>|'):
        return 'its name is too long or has one of \\ : * ? " < > |'
    for part in name.split("/"):
        if part.strip(" .") == "" or part[-1] in " ." or part[0] == " ":
            return "its path is absolute, leaves its folder, or has an odd part"
        if _RESERVED.match(part) or len(part.encode("utf-8", "replace")) > 250:
            return "a part of its path is reserved or too long"
    return ""


class Archive:
    """Members of a zip file by name, none of them read yet.

    Raises:
        Bad: if the file, a name or a size is not acceptable.
    """

    def __init__(self, file: Path | str) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
            infos = self._zip.infolist()
        except Exception as error:
            raise _bad(error, "it is no readable zip archive") from error
        self.members: dict[str, zipfile.ZipInfo] = {}
        try:
            self._check(infos)
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def _check(self, infos: list[zipfile.ZipInfo]) -> None:
        if self._zip.comment or not infos or len(infos) > MOST_MEMBERS:
            raise Bad(f"it has a comment, no members, or more than {MOST_MEMBERS:,}")
        if sum(info.file_size for info in infos) > MOST_BYTES:
            raise Bad(f"it unpacks to more than {MOST_BYTES // 2**30} GiB")
        for info in infos:
            name = info.orig_filename
            why = name_problem(name) or _oddity(info)
            if why:
                raise Bad(why, ascii(name)[:200])
            self.members[name] = info
        _refuse_collisions([info.orig_filename for info in infos])
        end = 0
        for info in sorted(infos, key=lambda i: i.header_offset):
            if info.header_offset < end or (end == 0 and info.header_offset != 0):
                raise Bad("it overlaps another member, or bytes stand before it", info.filename)
            # 30 bytes are the fixed part of a local header; the name behind it only makes members
            # longer.
            end = info.header_offset + 30 + info.compress_size
        if end > getattr(self._zip, "start_dir", end):
            raise Bad("its members reach beyond the listing of members")

    def chunks(self, name: str) -> Iterator[bytes]:
        """Bytes of a member, piece by piece, at most as many as it declares."""
        try:
            with self._zip.open(self.members[name]) as stream:
                while True:
                    piece = stream.read(_CHUNK)
                    if not piece:
                        return
                    yield piece
        except Exception as error:
            raise _bad(error, "it cannot be unpacked", name) from error

    def read(self, name: str) -> bytes:
        """A whole member of text."""
        if name not in self.members:
            raise Bad("it is missing", name)
        if self.members[name].file_size > MOST_TEXT_BYTES:
            raise Bad(f"it is larger than {MOST_TEXT_BYTES // 2**20} MiB", name)
        return b"".join(self.chunks(name))

    def text(self, name: str) -> str:
        """A whole member as UTF-8."""
        try:
            return self.read(name).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Bad(f"it is not UTF-8 ({error})", name) from error

    def json(self, name: str) -> Any:
        """A whole member as JSON."""
        return parsed(self.read(name), name)

    def lines(self, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number and content of every line of a JSON-lines member; all must be objects."""
        content = self.read(name)
        if content and not content.endswith(b"\n"):
            raise Bad("its last line is cut off", name, content.count(b"\n") + 1)
        for number, line in enumerate(content.split(b"\n")[:-1], 1):
            value = parsed(line, name, number)
            if not isinstance(value, dict):
                raise Bad("an object is needed", name, number)
            yield number, value

    def digest(self, name: str) -> str:
        """sha256 of a member in hex."""
        found = hashlib.sha256()
        for piece in self.chunks(name):
            found.update(piece)
        return found.hexdigest()


def _bad(error: Exception, what: str, member: str = "") -> Exception:
    """The error as `Bad`, if it is one that a broken archive causes."""
    broken = isinstance(error, _BROKEN) or type(error).__module__ == "struct"
    return Bad(f"{what} ({type(error).__name__}: {error})"[:300], member) if broken else error


def _oddity(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or info.is_dir() or info.filename != info.orig_filename:
        return "it is a link, a folder or a device"
    if info.flag_bits & 0x1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "it is encrypted, or compressed in another way than deflate"
    if info.file_size > 2**20 and info.file_size > MOST_RATIO * info.compress_size:
        return f"it unpacks to more than {MOST_RATIO} times its size"
    return ""


def _refuse_collisions(names: list[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        folded = unicodedata.normalize("NFC", name.casefold())
        if folded in seen:
            raise Bad(f"it is there twice, or differs in case only from {seen[folded]!r}", name)
        seen[folded] = name
    spelt: dict[str, str] = {}
    for name in names:
        parts = name.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            folded = unicodedata.normalize("NFC", folder.casefold())
            if folded in seen or spelt.setdefault(folded, folder) != folder:
                raise Bad(f"its folder {folder!r} is a member too, or is spelt in two ways", name)


def parsed(content: bytes, member: str, line: int = 0) -> Any:
    """JSON of a stranger: no duplicate keys, no infinities, no depth above `MOST_DEPTH`.

    Raises:
        Bad: with member and line.
    """
    depth = 0
    for found in _BRACKETS.finditer(content):
        token = found.group()
        depth += (token in (b"[", b"{")) - (token in (b"]", b"}"))
        if depth > MOST_DEPTH:
            raise Bad(f"its JSON is nested deeper than {MOST_DEPTH}", member, line)
    try:
        value = json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_float,
            parse_int=_int,
            parse_constant=_float,
        )
        if b"\\u" in content:  # half a character cannot be printed or hashed
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except (ValueError, RecursionError, MemoryError) as error:
        at = line or getattr(error, "lineno", 0)
        raise Bad(f"it is no JSON that is read here ({error})"[:300], member, at) from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return made


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:30]} is not finite")
    return value


def _int(text: str) -> int:
    if len(text) > 40:
        raise ValueError(f"the integer {text[:20]}... is too long")
    return int(text)
