"""YAML 1.2 of others as plain data: bounded, and refused where it would be read in two ways."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MOST_BYTES = 1_000_000
MOST_NODES = 50_000
"""Aliases counted every time: nine of nine of nine ... is a bomb."""
DEEPEST = 40
_TAG = "tag:yaml.org,2002:"
_USUAL: dict[type[Node], set[str]] = {
    MappingNode: {f"{_TAG}map"},
    SequenceNode: {f"{_TAG}seq"},
    ScalarNode: {f"{_TAG}{kind}" for kind in ("str", "int", "float", "bool", "null")},
}
_ONCE_TRUTH = {w for word in ("on", "off", "yes", "no") for w in (word, word.title(), word.upper())}
"""Words that YAML 1.1 read as true and false, and YAML 1.2 reads as text."""


def plain_yaml(path: Path) -> Any:
    """What a file says.

    Raises:
        ValueError: it cannot be read, is too long, too deep or no YAML 1.2, or holds tags, merge
            keys, or words that were truth values once; with file and line.
    """
    text = _text(path)
    yaml = YAML(typ="safe", pure=True)
    # ruamel.yaml reads what says so by the rules of 1.1, where 9:1 is 541.
    head = text.split("\n---", 1)[0].split("\n")
    if any(line.startswith("%YAML") and "1.2" not in line for line in head):
        raise ValueError(f"{path}: protocols are YAML 1.2; take the %YAML line out")
    try:
        # On nodes, before values are made of them: those no longer show tags, merge keys, or how a
        # word was written.
        root = yaml.compose(text)
        if root is not None:
            _check(path, root, [], [0])
        return yaml.load(text)
    except RecursionError as error:
        raise ValueError(f"{path}: nested more than {DEEPEST} deep") from error
    except YAMLError as error:
        raise ValueError(f"{path}: {error}") from error


def _text(path: Path) -> str:
    """Text of a regular file; never waits for a pipe, never reads without end."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError(f"{path} cannot be read: not a regular file")
            content = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(content) > MOST_BYTES:
        raise ValueError(f"{path} cannot be read: over {MOST_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        said = f"not UTF-8 ({error.reason} at byte {error.start})"
        raise ValueError(f"{path} cannot be read: {said}") from error


def _check(path: Path, node: Node, above: list[int], count: list[int]) -> None:
    count[0] += 1
    at = f"{path}, line {node.start_mark.line + 1}"
    if count[0] > MOST_NODES:
        raise ValueError(f"{path}: more than {MOST_NODES} values, aliases counted every time")
    if len(above) > DEEPEST:
        raise ValueError(f"{at}: nested more than {DEEPEST} deep")
    if id(node) in above:
        raise ValueError(f"{at}: an alias may not contain itself")
    if str(node.tag) not in _USUAL[type(node)]:
        what = "merge keys (<<) are" if str(node.tag) == f"{_TAG}merge" else f"tag {node.tag} is"
        raise ValueError(f"{at}: {what} not supported; use plain YAML values")
    inside = [*above, id(node)]
    if isinstance(node, MappingNode):
        for key, value in node.value:
            _check(path, key, inside, count)
            _check(path, value, inside, count)
    elif isinstance(node, SequenceNode):
        for value in node.value:
            _check(path, value, inside, count)
    elif isinstance(node, ScalarNode) and node.style is None and node.value in _ONCE_TRUTH:
        raise ValueError(
            f'{at}: {node.value} is text in YAML 1.2: write true or false, or "{node.value}"'
        )
