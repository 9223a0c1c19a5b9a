"""Makes a bundle anonymous: takes out who made it, and proves that none of it is left."""

from __future__ import annotations

import base64
import binascii
import bz2
import getpass
import gzip
import html
import io
import json
import lzma
import os
import re
import socket
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from harness.bundle.contents import OWN, TRAINER, Members, digested, git
from harness.bundle.verify.looks import JOURNAL
from harness.bundle.withheld import is_packed, rewritten
from harness.errors import BundleError, WorkspaceError
from harness.journal.workspace import here, project_of

if TYPE_CHECKING:
    from harness.analysis.answered_study import AnsweredStudy


STAND_IN = "anonymous"
SHORT = 5
"""Shorter words count only where no letter stands beside them; below SHORT - 1 they are left."""
HOMES = re.compile(rb"(?:/home|/Users)/[^/\s\"'<>\\]+|[A-Za-z]:\\{1,2}Users\\{1,2}[^\\\s\"'<>]+")
"""Anybody's home folder, looked for in records and reports (source may give examples)."""
_COMMON = """
actions admin administrator authors bot build contact debian developers docker github guest info
jenkins localhost mail main maintainers nobody node noreply root runner student team test ubuntu
user users web-flow worker
"""
COMMON = frozenset(_COMMON.split())
_ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_S3_ENDPOINT_URL", "RAY_ADDRESS")
SOURCE = ("code/", "stillhouse/", f"{TRAINER}/")


@dataclass(frozen=True)
class Traces:
    """What must not be in a blind bundle."""

    words: tuple[str, ...]
    """Searched for in every member, whatever the case."""
    too_common: tuple[str, ...] = ()
    """Names that say too little to be searched for (`root`), or that were skipped on request."""
    as_it_ran: frozenset[str] = frozenset()
    """Source files whose bytes the code digest names: never changed, refused if a word is there."""

    def hits(self, data: bytes) -> list[re.Match[bytes]]:
        """Every place where a word is, in any of the forms in which files hold text."""
        needles, pattern = _search(self.words)
        low = data.lower()
        if not any(needle in low for needle in needles):  # far faster than the pattern
            return []
        return list(pattern.finditer(data))

    def cleaned(self, data: bytes) -> bytes:
        """The bytes with a stand-in at each of these places."""
        for hit in reversed(self.hits(data)):
            data = data[: hit.start()] + STAND_IN.encode() + data[hit.end() :]
        return data


@cache
def _search(words: tuple[str, ...]) -> tuple[list[bytes], re.Pattern[bytes]]:
    """What to find first, in lower case, and the pattern that decides."""
    plain = {form: word for word in words for form in _forms(word)}
    listed = sorted(plain, key=lambda f: (-len(f), f))
    patterns = [_bounded(re.escape(form), plain[form]) for form in listed]
    pattern = re.compile(b"|".join(patterns) if patterns else rb"(?!)", re.IGNORECASE)
    return sorted({form.lower() for form in listed}), pattern


def _bounded(form: bytes, word: str) -> bytes:
    return form if len(word) >= SHORT else rb"(?<![A-Za-z])" + form + rb"(?![A-Za-z])"


def traces_of(
    answered: AnsweredStudy, extra: Iterable[str] = (), skip: Iterable[str] = ()
) -> Traces:
    """User, hosts, paths, authors and addresses of a study, of this machine and of its journals.

    Args:
        answered: the study, answered.
        extra: words of the user's, always searched for.
        skip: words not to search for after all, since they stand for something else.
    """
    project = project_of(answered.study.file)
    names = [_user(), *(os.environ.get(v, "") for v in ("USER", "LOGNAME", "SUDO_USER"))]
    names += [part for name in _full_names() for part in _name_forms(name)]
    hosts = [socket.gethostname(), *_hosts(answered)]
    hosts += [host.split(".")[0] for host in hosts]
    for line in _authors(project):
        if "@" in line:
            names += [line, line.partition("@")[0].rpartition("+")[2]]
        else:
            names += _name_forms(line)
    places = [Path.home(), *_here(), project, answered.workspace.root, OWN, Path(sys.prefix)]
    paths = [p for place in places for p in (str(place), str(place.resolve()))]
    paths = [p if p.count("/") > 1 else f"{p}/" for p in paths if len(Path(p).parts) > 1]
    addresses = [a for v in _ADDRESSES for a in _address(os.environ.get(v, ""))]
    skipped = {word.casefold() for word in skip}
    own_words = [word for word in extra if word]
    if short := [word for word in own_words if len(word) < SHORT - 2]:
        raise BundleError(
            f"--blind-word {short[0]!r} is too short to search for: 3 letters or more"
        )
    words, common = dict.fromkeys(own_words), dict[str, None]()
    for word in [*names, *hosts, *_workspaces(answered), *paths, *addresses]:
        plain = word.strip().casefold()
        if not plain or word in words:
            continue
        if plain in skipped or plain in COMMON or len(plain) < SHORT - 1:
            common[word.strip()] = None
        else:
            words[word.strip()] = None
    return Traces(tuple(words), tuple(common), frozenset(digested(answered)))


def scrubbed(members: Members, who: Traces) -> Members:
    """Members with the words taken out of text; recipes and source that is digested stay."""
    cleaned: Members = {}
    for name, content in members.items():
        # What is hashed is never changed: a word in it is refused, not replaced, or keys and code
        # digests would be those of nothing that ran.
        if name in who.as_it_ran or name.startswith("recipes/") or name == "verify.py":
            cleaned[name] = content
            continue
        if is_packed(name):
            cleaned[name] = rewritten(content, lambda text: _cleaned(text, who, ""))
            continue
        raw = content if isinstance(content, bytes) else content.read_bytes()
        if b"\0" in raw or not _is_text(raw):
            cleaned[name] = content
        elif name.endswith(JOURNAL):
            cleaned[name] = b"".join(_record(line, who) for line in raw.splitlines(True))
        else:
            cleaned[name] = _cleaned(raw, who, name)
    return cleaned


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _cleaned(raw: bytes, who: Traces, name: str) -> bytes:
    text = who.cleaned(raw)
    return text if name.startswith(SOURCE) else HOMES.sub(f"/{STAND_IN}".encode(), text)


def _record(line: bytes, who: Traces) -> bytes:
    """A journal's line; trials stay as they are, since their recipes hash to their keys."""
    if not who.hits(line) and not HOMES.search(line):
        return line

    def clean(value: Any, key: str = "") -> Any:
        # Everything below these names is hashed into a trial's key.
        if key in ("trial", "trials", "is"):
            return value
        if isinstance(value, str):
            return _cleaned(value.encode(), who, "").decode()
        if isinstance(value, dict):
            return {k: clean(v, k) for k, v in value.items()}
        return [clean(v) for v in value] if isinstance(value, list) else value

    text = json.dumps(clean(json.loads(line)), separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n"


def _forms(word: str) -> set[bytes]:
    """A word as UTF-8, escaped for JSON, HTML and addresses, and in wide characters."""
    cases = {word, word.lower(), word.upper(), word.title()} if not word.isascii() else {word}
    texts = {f for w in cases for f in (w, json.dumps(w)[1:-1], html.escape(w), quote(w))}
    encoded = {text.encode() for text in texts}
    if len(word) < SHORT:
        return encoded
    return encoded | {w.encode(code) for w in cases for code in ("utf-16-le", "utf-32-le")}


def _here() -> list[Path]:
    """The current folder; nothing where it was deleted."""
    try:
        return [here()]
    except WorkspaceError:
        return []


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user in this container
        return ""


def _full_names() -> list[str]:
    try:
        import pwd

        return [pwd.getpwuid(os.getuid()).pw_gecos.split(",")[0]]
    except (ImportError, KeyError):
        return []


def _name_forms(name: str) -> list[str]:
    """A person's name joined in the usual ways, and the parts that are long enough to be one's."""
    parts = name.split()
    if len(parts) < 2:
        return [name]
    joined = [joint.join(parts) for joint in (" ", "", ".", "-", "_")]
    return [*joined, *(p for p in parts if len(p) >= SHORT)]


def _hosts(answered: AnsweredStudy) -> list[str]:
    records = answered.history.trials.values()
    return sorted({a.opened.host for r in records for a in r.ordered if a.opened.host})


def _workspaces(answered: AnsweredStudy) -> list[str]:
    """Ids of workspaces: random, but records that are public elsewhere carry the same."""
    records = answered.history.trials.values()
    ids = {a.opened.workspace for r in records for a in r.ordered}
    return sorted({*ids, answered.workspace.id} - {""})


def _authors(project: Path) -> list[str]:
    lines = [*git(project, "config", "user.name"), *git(project, "config", "user.email")]
    for root in dict.fromkeys((project, OWN)):
        lines += git(root, "log", "--format=%an%n%ae%n%cn%n%ce")
    return [line.strip() for line in dict.fromkeys(lines) if line.strip()]


def _address(text: str) -> list[str]:
    """An address and the host in it; files are paths, which are searched for as such."""
    if not text:
        return []
    host = urlsplit(text if "://" in text else f"//{text}").hostname
    return [text, host or ""]


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


def refuse_traces(members: Members, who: Traces) -> None:
    """Refuse a bundle in which any of the words is left.

    Raises:
        BundleError: naming member and offset of each place, and what could not be looked into.
    """
    by_member: dict[str, list[str]] = {}
    for line in traces_left(members, who):
        by_member.setdefault(line.split(", ")[0].split("!")[0], []).append(line)
    if not by_member:
        return
    # Recipes first: what is in them is in the journal and the report too.
    order = sorted(by_member, key=lambda name: (not name.startswith("recipes/"), name))
    listed = [f"{by_member[n][0]}{_more(len(by_member[n]) - 1)}" for n in order[:_MOST_LISTED]]
    unlisted = len(order) - len(listed)
    raise BundleError(
        "this bundle would not be blind, so nothing was written:\n  "
        + "\n  ".join(listed)
        + (f"\n  and {unlisted} more members" if unlisted else "")
        + "\nTake it out there (a recipe's path may begin with $VARIABLE), or, where a word stands "
        "for something else, say --blind-skip WORD.",
        order[0],
    )


def _more(count: int) -> str:
    return f" (and {count} more in it)" if count else ""


def traces_left(members: Members, who: Traces) -> list[str]:
    """`member, byte n: 'word'` for every place where a word of the identity is left."""
    places = []
    for name, content in members.items():
        raw = content if isinstance(content, bytes) else content.read_bytes()
        record = not name.startswith(SOURCE)
        places += [f"{name}, its name: {_word(hit)}" for hit in who.hits(name.encode())]
        for place, data in parts(name, raw):
            if data is None:
                places.append(f"{place}: it cannot be looked into, so nothing proves it blind")
                continue
            hits = [*who.hits(data), *(HOMES.finditer(data) if record else ())]
            places += [f"{place}, byte {hit.start()}: {_word(hit)}" for hit in hits]
    return places


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
    for number, match in enumerate(_DATA_URI.finditer(data)):
        try:
            yield f"{place}!data-uri-{number}", base64.b64decode(match.group(1), validate=True)
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
    metadata = {**(table.schema.metadata or {})}
    yield f"{place}!schema", b"\n".join([str(table.schema).encode(), *metadata, *metadata.values()])
    for name in table.column_names:
        yield f"{place}!{name}", _column(table.column(name).to_pylist())


def _column(values: list[object]) -> bytes:
    return b"\n".join(v if isinstance(v, bytes) else str(v).encode() for v in values)
