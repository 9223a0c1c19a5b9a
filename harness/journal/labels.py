"""Short labels of values: `0.5`, `on`, `portrait+0.5text`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from harness.journal.trial import canonical


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
    name = next((str(value[k]) for k in ("kind", "type", "name") if k in value), "map")
    return f"{name}-{digest}"
