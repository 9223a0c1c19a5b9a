"""Levels of a factor: a short label, what it assigns, and the value that expressions compare."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.trial import canonical

if TYPE_CHECKING:
    from harness.study import Factor


@dataclass(frozen=True)
class Level:
    """One level of one factor."""

    label: str
    """Short and stable: depends on the level alone, not on its place."""
    value: Any
    """What `where`, `baseline` and contrasts compare: the value, or the name of a named level."""
    assignments: dict[str, Any]
    """Recipe path -> value."""
    named: bool
    index: int | str
    """Its place in the file: position in the list, or name."""


def levels_of(name: str, factor: Factor) -> dict[str, Level]:
    """Label -> level of one factor. Levels of the same label collapse; the checks refuse them."""
    found: dict[str, Level] = {}
    if isinstance(factor.levels, dict):
        for label, value in factor.levels.items():
            sets = {factor.path: value} if factor.path else dict(value)
            found.setdefault(label, Level(label, label, sets, True, label))
    else:
        path = factor.path or name
        for index, value in enumerate(factor.levels):
            label = label_of(value)
            plain = label if isinstance(value, dict) else value
            found.setdefault(label, Level(label, plain, {path: value}, False, index))
    return found


def label_of(value: Any) -> str:
    """Short label of a value: `0.5`, `2`, `on`, `none`, `portrait`, `portrait+0.5text`.

    Mappings of numbers read as mixtures; other mappings go by their `kind`, `type` or `name`, or by
    a digest.
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return canonical(value).decode()  # 1 and 1.0 are the same level
    if isinstance(value, str):
        return value or "empty"
    if isinstance(value, Mapping):
        return _mapping(value)
    return "+".join(label_of(item) for item in value) or "empty"


def find(levels: Mapping[str, Level], value: Any) -> Level | None:
    """The level that a baseline, a contrast or an arm means: by value, else by label."""
    for level in levels.values():
        if isinstance(level.value, bool) == isinstance(value, bool) and level.value == value:
            return level
        if value in level.assignments.values() and not level.named and isinstance(value, dict):
            return level
    return levels.get(value) if isinstance(value, str) else None


def _mapping(value: Mapping[str, Any]) -> str:
    numbers = {k: v for k, v in value.items() if not isinstance(v, bool)}
    if numbers and all(isinstance(v, int | float) for v in numbers.values()):
        parts = [k if v == 1 else f"{label_of(v)}{k}" for k, v in numbers.items() if v != 0]
        if 0 < len("+".join(parts)) <= 40:
            return "+".join(parts)
    for key in ("kind", "type", "name"):
        if isinstance(value.get(key), str) and len(value) == 1:
            return str(value[key])
    digest = hashlib.sha256(canonical(dict(value))).hexdigest()[:6]
    named = next((str(value[k]) for k in ("kind", "type", "name") if k in value), "map")
    return f"{named}-{digest}"
