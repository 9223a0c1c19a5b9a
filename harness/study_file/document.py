"""A YAML 1.2 document with its positions: plain data, and line and column for every path in it.

Read through ruamel.yaml's node graph, because YAML 1.1 readers take `9:1` for 541 and `1e-4` for a
string, and because a mistake is only useful with its place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from harness.errors import Problem

MAX_INTEGER = 2**53
MAX_BYTES = 2_000_000
"""Longest file read: 30,000 lines, which takes seconds."""
MAX_NODES = 200_000
"""Most values of one file, aliases counted every time: nine of nine of nine ... is a bomb."""
MAX_DEPTH = 60
Loc = tuple[str | int, ...]

_SCALARS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}


@dataclass
class Document:
    """Plain data of one file, with the place of every key and value."""

    file: Path
    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    """Mistakes of the text itself: syntax, duplicate keys, tags, numbers that are not finite."""
    root: Node | None = None

    def problem(self, message: str, loc: Iterable[str | int] = (), *, key: bool = False) -> Problem:
        """A problem placed at the value (or, with `key`, at the key) that `loc` names."""
        place = tuple(loc)
        line, column = self.position(place, key=key)
        dotted = ".".join(str(part) for part in place)
        return Problem(message, line, column, dotted, str(self.file))

    def fail(self, message: str, *loc: str | int, key: bool = False) -> None:
        """Note a problem at `loc`; see `problem`."""
        self.problems.append(self.problem(message, loc, key=key))

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
        said = f"{len(text)} characters; a file of at most {MAX_BYTES} is read"
        document.problems.append(Problem(said, 1, 1, "", str(file)))
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
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not UTF-8 ({error.reason})"
        problem = Problem(f"cannot be read: {reason}", 1, 1, "", str(file))
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
            name = str(key.value)
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
        if tag == "tag:yaml.org,2002:timestamp":
            return node.value  # a date is text here: JSON has no dates
        if tag not in _SCALARS:
            self._note(node, f"tag {tag} is not supported; use plain YAML values", loc)
            return None
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

    def _note(self, node: Node, message: str, loc: Loc) -> None:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        dotted = ".".join(str(part) for part in loc)
        self.document.problems.append(
            Problem(message, line, column, dotted, str(self.document.file))
        )
