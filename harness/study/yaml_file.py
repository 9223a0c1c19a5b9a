"""A YAML 1.2 document with its positions: plain data, and line and column for every path in it.

Read through ruamel.yaml's node graph, because YAML 1.1 readers take `9:1` for 541 and `1e-4` for a
string, and because a mistake is only useful with its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from harness.errors import Problem
from harness.text.bounded_file import MAX_BYTES, UnreadableError, limited_text

MAX_INTEGER = 2**53
MAX_NODES = 200_000
"""Most values of one file, aliases counted every time: nine of nine of nine ... is a bomb."""
MAX_DEPTH = 60
Loc = tuple[str | int, ...]

_MERGE, _DATE = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:timestamp"
_SCALARS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}
_PLAIN: dict[type[Node], str] = {
    MappingNode: "tag:yaml.org,2002:map",
    SequenceNode: "tag:yaml.org,2002:seq",
}
_ONCE_TRUTH = {w for word in ("on", "off", "yes", "no") for w in (word, word.title(), word.upper())}
"""Words that YAML 1.1 read as true and false, and YAML 1.2 reads as text."""


@dataclass
class Document:
    """Plain data of one file, with the place of every key and value."""

    file: Path
    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    """Mistakes of the text itself: syntax, duplicate keys, tags, numbers that are not finite."""
    root: Node | None = None
    once_truth: list[tuple[Loc, str]] = field(default_factory=list)
    """Where words such as `on` stand without quotes, which earlier YAML took for true or false."""

    def problem(self, message: str, loc: Iterable[str | int] = (), *, key: bool = False) -> Problem:
        """A problem placed at the value (or, with `key`, at the key) that `loc` names."""
        place = tuple(loc)
        line, column = self.position(place, key=key)
        dotted = ".".join(str(part) for part in place)
        return Problem(message, line, column, dotted, str(self.file))

    def fail(self, message: str, *loc: str | int, key: bool = False) -> None:
        """Note a problem at `loc`; see `problem`."""
        self.problems.append(self.problem(message, loc, key=key))

    def refuse_words(self, *below: str) -> None:
        """Refuse words that were true or false once: nothing below these keys says what is meant.

        Without a key, nothing in the whole file does.
        """
        for loc, word in self.once_truth:
            if not below or loc[:1] in {(key,) for key in below}:
                said = f'{word} is text in YAML 1.2: write true or false, or "{word}" for the text'
                self.problems.append(replace(self.problem(said, loc), of_text=True))

    def position(self, loc: Loc, *, key: bool = False) -> tuple[int, int]:
        """1-based line and column. Parts that are not in the text are skipped.

        So `factors/x/levels/0` still finds the first item of the shorthand `x: [1, 2]`.
        """
        here, at = self.root, self.root
        for number, part in enumerate(loc):
            last = number == len(loc) - 1
            if isinstance(here, MappingNode):
                pair = next(((k, v) for k, v in here.value if k.value == str(part)), None)
                if pair is not None:
                    here, at = pair[1], pair[0] if key and last else pair[1]
            elif isinstance(here, SequenceNode) and _holds(here, part):
                here = at = here.value[part]
        if at is None:
            return 1, 1
        return at.start_mark.line + 1, at.start_mark.column + 1


def read_text(file: Path, text: str) -> Document:
    """Parse YAML 1.2; mistakes are collected in `problems`, the rest of the data is still there."""
    document = Document(file)
    yaml = YAML(typ="safe", pure=True)
    if len(text) > MAX_BYTES:
        said = f"{len(text)} characters; a text of at most {MAX_BYTES} is read"
        document.problems.append(Problem(said, 1, 1, "", str(file)))
        return document
    for at, head in enumerate(text.split("\n---", 1)[0].split("\n"), 1):
        if head.startswith("%YAML") and head.split()[1:2] != ["1.2"]:
            said = f"{head[:20]!r}: study files are YAML 1.2, in which 9:1 is no number"
            document.problems.append(Problem(said, at, 1, "", str(file)))
            return document
    try:
        document.root = yaml.compose(text)
    except RecursionError:
        said = f"nested more than {MAX_DEPTH} deep"
        document.problems.append(Problem(said, 1, 1, "", str(file)))
        return document
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        said = " ".join(str(part) for part in (error.context, error.problem) if part)
        document.problems.append(Problem(f"not YAML: {said}", line, column, "", str(file)))
        return document
    except YAMLError as error:
        first = str(error).strip().splitlines()[0]
        document.problems.append(Problem(f"not YAML: {first}", 1, 1, "", str(file)))
        return document
    if document.root is not None:
        document.data = _Reader(document, yaml.constructor).plain(document.root, ())
    return document


def read(file: Path) -> Document:
    """Read a file. A missing or unreadable file is a problem of the document, not an exception."""
    try:
        text = limited_text(file)
    except UnreadableError as error:
        problem = Problem(f"cannot be read: {error}", 1, 1, "", str(file))
        return Document(file, problems=[problem])
    return read_text(file, text)


def is_file(path: Path) -> bool:
    """Whether there is such a file; false for names that no file can have."""
    try:
        return path.is_file()
    except OSError:
        return False


def _holds(node: SequenceNode, part: str | int) -> bool:
    return isinstance(part, int) and part < len(node.value)


class _Reader:
    """Nodes to plain data, noting what JSON and the key cannot hold."""

    def __init__(self, document: Document, constructor: SafeConstructor) -> None:
        self.document = document
        self.constructor = constructor
        self.open: set[int] = set()
        self.nodes = 0

    def plain(self, node: Node, loc: Loc) -> Any:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            if self.nodes == MAX_NODES + 1:
                self._note(node, f"more than {MAX_NODES} nodes, aliases counted every time", loc)
            return None
        if len(loc) > MAX_DEPTH:
            self._note(node, f"nested more than {MAX_DEPTH} deep", loc)
            return None
        if id(node) in self.open:
            self._note(node, "an alias may not contain itself", loc)
            return None
        if str(node.tag) != _PLAIN.get(type(node), str(node.tag)):
            self._tagged(node, loc)  # what it holds is read all the same: it has mistakes, too
        self.open.add(id(node))
        try:
            if isinstance(node, MappingNode):
                return self._mapping(node, loc)
            if isinstance(node, SequenceNode):
                return [self.plain(child, (*loc, i)) for i, child in enumerate(node.value)]
            assert isinstance(node, ScalarNode)
            return self._scalar(node, loc)
        finally:
            self.open.discard(id(node))

    def _mapping(self, node: MappingNode, loc: Loc) -> dict[str, Any]:
        found: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._note(key, "a key must be a word, not a list or a mapping", loc)
                continue
            if str(key.tag) not in {*_SCALARS, _MERGE, _DATE}:
                self._tagged(key, loc)
                continue
            name = self._letters(key, loc)
            if name is None:
                continue
            if name == "<<":
                self._note(key, "merge keys (<<) are not supported; write the keys out", loc)
            elif name in found:
                self._note(key, f"duplicate key {name!r}, first on line {first[name]}", loc)
            else:
                first[name] = key.start_mark.line + 1
                found[name] = self.plain(value, (*loc, name))
        return found

    def _scalar(self, node: ScalarNode, loc: Loc) -> Any:
        tag = str(node.tag)
        if tag == _DATE:
            return node.value  # a date is text here: JSON has no dates
        if tag not in _SCALARS:
            self._tagged(node, loc)
            return None
        if tag == "tag:yaml.org,2002:str":
            return self._text(node, loc)
        try:
            value = self.constructor.construct_object(node)
        except ValueError:  # more digits than Python converts, or none
            self._note(node, f"{node.value[:20]}... is not a number", loc)
            return None
        if isinstance(value, float) and not math.isfinite(value):
            self._note(node, f"{node.value} is not finite; give a number", loc)
            return None
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            self._note(node, f"{node.value} is beyond 2**53; JSON cannot hold it exactly", loc)
            return None
        return value

    def _text(self, node: ScalarNode, loc: Loc) -> str | None:
        if node.style is None and node.value in _ONCE_TRUTH:
            self.document.once_truth.append((loc, str(node.value)))
        return self._letters(node, loc)

    def _letters(self, node: ScalarNode, loc: Loc) -> str | None:
        """The text, escaped pairs (`\\ud83d\\ude00`) as the letters they stand for."""
        text = str(node.value)
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            said = "half of a surrogate pair is no letter; write both halves, or the letter"
            self._note(node, f"{text[:60]!a}: {said}", loc)
            return None

    def _tagged(self, node: Node, loc: Loc) -> None:
        self._note(node, f"tag {node.tag} is not supported; use plain YAML values", loc)

    def _note(self, node: Node, message: str, loc: Loc) -> None:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        dotted = ".".join(str(part) for part in loc)
        self.document.problems.append(
            Problem(message, line, column, dotted, str(self.document.file), of_text=True)
        )


def name_in(file: Path) -> str:
    """The study's name; the file's own where it gives none or is no YAML."""
    content = read(file).data
    name = content.get("name") if isinstance(content, dict) else None
    return name if isinstance(name, str) else file.stem
