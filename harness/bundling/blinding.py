"""Who made a study, as words to take out of its bundle; and taking them out of what is text."""

from __future__ import annotations

import getpass
import html
import json
import os
import re
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from harness.bundling.contents import Members
from harness.bundling.looks import JOURNAL
from harness.bundling.packed import is_packed, rewritten
from harness.bundling.source import OWN, TRAINER, digested, git
from harness.errors import BundleError, WorkspaceError
from harness.workspace import here, project_of

if TYPE_CHECKING:
    from harness.commands.answered import Answered

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
class Identity:
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
    made = [_bounded(re.escape(form), plain[form]) for form in listed]
    pattern = re.compile(b"|".join(made) if made else rb"(?!)", re.IGNORECASE)
    return sorted({form.lower() for form in listed}), pattern


def _bounded(form: bytes, word: str) -> bytes:
    return form if len(word) >= SHORT else rb"(?<![A-Za-z])" + form + rb"(?![A-Za-z])"


def identity_of(made: Answered, extra: Iterable[str] = (), skip: Iterable[str] = ()) -> Identity:
    """User, hosts, paths, authors and addresses of a study, of this machine and of its journals.

    Args:
        made: the study, answered.
        extra: words of the user's, always searched for.
        skip: words not to search for after all, since they stand for something else.
    """
    project = project_of(made.study.file)
    names = [_user(), *(os.environ.get(v, "") for v in ("USER", "LOGNAME", "SUDO_USER"))]
    names += [part for name in _full_names() for part in _name_forms(name)]
    hosts = [socket.gethostname(), *_hosts(made)]
    hosts += [host.split(".")[0] for host in hosts]
    for line in _authors(project):
        if "@" in line:
            names += [line, line.partition("@")[0].rpartition("+")[2]]
        else:
            names += _name_forms(line)
    places = [Path.home(), *_here(), project, made.workspace.root, OWN, Path(sys.prefix)]
    paths = [p for place in places for p in (str(place), str(place.resolve()))]
    paths = [p if p.count("/") > 1 else f"{p}/" for p in paths if len(Path(p).parts) > 1]
    addresses = [a for v in _ADDRESSES for a in _address(os.environ.get(v, ""))]
    skipped = {word.casefold() for word in skip}
    asked = [word for word in extra if word]
    if short := [word for word in asked if len(word) < SHORT - 2]:
        raise BundleError(
            f"--blind-word {short[0]!r} is too short to search for: 3 letters or more"
        )
    found, common = dict.fromkeys(asked), dict[str, None]()
    for word in [*names, *hosts, *_workspaces(made), *paths, *addresses]:
        plain = word.strip().casefold()
        if not plain or word in found:
            continue
        if plain in skipped or plain in COMMON or len(plain) < SHORT - 1:
            common[word.strip()] = None
        else:
            found[word.strip()] = None
    return Identity(tuple(found), tuple(common), frozenset(digested(made)))


def scrubbed(members: Members, who: Identity) -> Members:
    """Members with the words taken out of text; recipes and source that is digested stay."""
    found: Members = {}
    for name, content in members.items():
        if name in who.as_it_ran or name.startswith("recipes/") or name == "verify.py":
            found[name] = content
            continue
        if is_packed(name):
            found[name] = rewritten(content, lambda text: _cleaned(text, who, ""))
            continue
        raw = content if isinstance(content, bytes) else content.read_bytes()
        if b"\0" in raw or not _is_text(raw):
            found[name] = content
        elif name.endswith(JOURNAL):
            found[name] = b"".join(_record(line, who) for line in raw.splitlines(True))
        else:
            found[name] = _cleaned(raw, who, name)
    return found


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _cleaned(raw: bytes, who: Identity, name: str) -> bytes:
    found = who.cleaned(raw)
    return found if name.startswith(SOURCE) else HOMES.sub(f"/{STAND_IN}".encode(), found)


def _record(line: bytes, who: Identity) -> bytes:
    """A journal's line; trials stay as they are, since their recipes hash to their keys."""
    if not who.hits(line) and not HOMES.search(line):
        return line

    def clean(value: Any, key: str = "") -> Any:
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
    found = {text.encode() for text in texts}
    if len(word) < SHORT:
        return found
    return found | {w.encode(code) for w in cases for code in ("utf-16-le", "utf-32-le")}


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


def _hosts(made: Answered) -> list[str]:
    records = made.history.trials.values()
    return sorted({a.opened.host for r in records for a in r.ordered if a.opened.host})


def _workspaces(made: Answered) -> list[str]:
    """Ids of workspaces: random, but records that are public elsewhere carry the same."""
    records = made.history.trials.values()
    found = {a.opened.workspace for r in records for a in r.ordered}
    return sorted({*found, made.workspace.id} - {""})


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
