"""The shape of a study file: keys, types and bounds. Wrong parts are reported and set aside."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError

from harness.study.kinds import KEYS
from harness.study.model import StudyFile
from harness.study.resolver import Fault, faults_of
from harness.study.yaml_file import Document

T = TypeVar("T")
_LISTS = ("contrasts", "arms", "where")
_STAND_INS: dict[str, Any] = {
    "name": "unnamed",
    "question": "?",
    "recipe": {},
    "factors": {"unnamed": [0]},
}
_ROUNDS = 20
_WHOLE = {"id", "b", *KEYS}
"""Parts of a contrast without which nothing of it is judged."""


@dataclass
class Shape:
    """What could be read of a study file, so that the other checks can go on."""

    study: StudyFile
    broken: set[str] = field(default_factory=set)
    """Factors that were set aside: known names whose levels are not judged."""
    lost: set[str] = field(default_factory=set)
    """Fields of the file that were set aside: what depends on them is not judged."""
    has_factors: bool = True
    origin: dict[str, list[int]] = field(default_factory=dict)
    """For each list of the file: original index of each item that is left."""

    def numbered(self, name: str, items: list[T]) -> Iterator[tuple[int, T]]:
        """Items of a list with their position in the file."""
        return zip(self.origin[name], items, strict=True)


def shape_of(document: Document) -> Shape | None:
    """Validate a document against `StudyFile`; problems go to the document.

    Returns None if the text is not YAML or not a mapping: then nothing else can be checked.
    """
    data = document.data
    if document.root is None or not isinstance(data, dict):
        if not document.problems:
            said = "is empty" if document.root is None else "must be a mapping of keys"
            document.problems.append(document.problem(f"a study file {said}"))
        return None
    data = copy.deepcopy(data)
    origin = {
        name: list(range(len(data[name]))) if isinstance(data.get(name), list) else []
        for name in _LISTS
    }
    if isinstance(data.get("where"), str):
        origin["where"] = [0]
    broken: set[str] = set()
    lost: set[str] = set()
    has_factors = True
    for _ in range(_ROUNDS):
        try:
            study = StudyFile.model_validate(data)
        except ValidationError as error:
            gone: set[tuple[str, int]] = set()
            for fault in faults_of(error, data, StudyFile):
                misnamed = fault.path[:1] == ("factors",) and fault.kind == "pattern"
                at_key = fault.kind == "unknown key" or misnamed
                place = _place(fault.path, origin)
                document.problems.append(document.problem(_worded(fault), place, key=at_key))
                _set_aside(data, fault.path, broken, lost, gone)
            for name, index in sorted(gone, reverse=True):
                del data[name][index]
                del origin[name][index]
            if not data.get("factors"):
                has_factors = False
            # A missing key must not keep the other mistakes from being told in the same go.
            for name, stand_in in _STAND_INS.items():
                if name not in data or (name == "factors" and not has_factors):
                    data[name] = copy.deepcopy(stand_in)
                    lost.add(name)
        else:
            return Shape(study, broken, lost, has_factors, origin)
    return None


def _place(path: tuple[str, ...], origin: dict[str, list[int]]) -> tuple[str | int, ...]:
    """The path in the file as it was before items were set aside."""
    if len(path) > 1 and path[0] in _LISTS and path[1].isdigit() and origin[path[0]]:
        return (path[0], origin[path[0]][int(path[1])], *path[2:])
    return tuple(int(part) if part.isdigit() else part for part in path)


def _worded(fault: Fault) -> str:
    path, message = fault.path, fault.message
    if fault.kind in ("unknown key", "missing key"):
        inside = ".".join(path[:-1] if fault.kind == "unknown key" else path)
        return f"{message} (in {inside})" if inside else message
    return f"{'.'.join(path)}: {message}" if path else message


def _set_aside(
    data: dict[str, Any],
    path: tuple[str, ...],
    broken: set[str],
    lost: set[str],
    gone: set[tuple[str, int]],
) -> None:
    """Remove the smallest part that lets the rest be checked."""
    if not path:
        return  # a required key is missing; a stand-in takes its place
    top = path[0]
    if top == "factors" and len(path) > 1 and isinstance(data.get(top), dict):
        broken.add(path[1])
        data[top].pop(path[1], None)
        return
    if top in _LISTS and len(path) > 1 and isinstance(data.get(top), list):
        item = data[top][int(path[1])]
        optional = top == "contrasts" and len(path) > 2 and path[2] not in _WHOLE
        if optional:
            item.pop(path[2], None)
            optional = not KEYS.keys().isdisjoint(item)  # else the key may have been its kind
        if not optional:
            gone.add((top, int(path[1])))
        return
    if len(path) > 1 and isinstance(data.get(top), dict) and top != "subject":
        data[top].pop(path[1], None)
        return
    data.pop(top, None)
    lost.add(top)
