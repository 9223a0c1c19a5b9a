"""What a subject's recipe model says: its fields by path, its mixtures, its refusals as faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from harness.study_file.nearest import nearest

Path = tuple[str, ...]


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a recipe: where, and what."""

    path: Path
    message: str


@dataclass(frozen=True)
class Simplex:
    """A field that holds shares."""

    path: Path
    components: tuple[str, ...]
    """Names the model declares; empty where any may be given."""
    closed: bool
    """Whether no other names than the declared ones may be given."""
    model: bool
    """Whether it is a model of its own, whose zeros stay; a map drops them."""


def faults_of(error: ValidationError, data: Any, model: type[BaseModel]) -> list[Fault]:
    """A pydantic error as faults: union branches merged, spellings suggested."""
    merged: dict[Path, list[str]] = {}
    for item in error.errors(include_url=False):
        path = _in_data(item["loc"], data, keep_last=item["type"] == "missing")
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            models = _models_at(model, list(path[:-1]))
            taken = [m for m in models if _tags(m) & {*item["loc"]}]  # the branch of a union
            fields = [name for m in taken or models for name in m.model_fields]
            message = f"unknown key {path[-1]!r}{nearest(path[-1], fields)}"
        elif item["type"] == "missing":
            message = f"required key {path[-1]!r} is missing"
            path = path[:-1]
        elif item["type"] == "string_pattern_mismatch":
            message = f"{item['input']!r} does not match {item['ctx']['pattern']}"
        elif item["type"] == "literal_error":
            message = _not_one_of(item["input"], item["ctx"]["expected"])
        elif item["type"] == "union_tag_invalid":
            path = (*path, item["ctx"]["discriminator"].strip("'"))
            message = _not_one_of(item["ctx"]["tag"], item["ctx"]["expected_tags"])
        elif not isinstance(item["input"], dict):
            message = f"{message}, given {_short(item['input'])}"
        merged.setdefault(path, []).append(message)
    return [Fault(path, " or ".join(dict.fromkeys(said))) for path, said in merged.items()]


def _not_one_of(given: Any, expected: str) -> str:
    parts = [part for chunk in expected.split(" or ") for part in chunk.split(", ")]
    choices = [part.strip("'") for part in parts]
    return f"{given!r} is not one of them{nearest(given, choices)}"


def _tags(model: type[BaseModel]) -> set[str]:
    """What pydantic calls a branch of a union: the model's name, or the value that tells it."""
    told = {str(v) for f in model.model_fields.values() for v in get_args(f.annotation)}
    return {model.__name__} | told


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _in_data(loc: tuple[str | int, ...], data: Any, *, keep_last: bool) -> Path:
    """`loc` without the names of union branches, which are not in the data."""
    kept: list[str] = []
    here = data
    for number, part in enumerate(loc):
        if _holds(here, part):
            here = here[part]
        elif not (keep_last and number == len(loc) - 1):
            continue
        kept.append(str(part))
    return tuple(kept)


def _holds(data: Any, part: str | int) -> bool:
    if isinstance(data, list):
        return isinstance(part, int) and part < len(data)
    return isinstance(data, dict) and part in data


def simplexes(model: type[BaseModel], data: Any, prefix: Path = ()) -> Iterator[Simplex]:
    """The mixtures that are present in `data`, nested ones included."""
    if not isinstance(data, dict):
        return
    for name, simplex, declared, parts, mapped in _fields_with_parts(model):
        if name not in data:
            continue
        path = (*prefix, name)
        if simplex:
            components = declared or (tuple(parts[0].model_fields) if parts else ())
            extra = model.model_fields[name].json_schema_extra
            may_grow = isinstance(extra, dict) and extra.get("open") is True
            yield Simplex(path, components, bool(components) and not may_grow, bool(parts))
        elif isinstance(data[name], dict):
            inside = data[name]
            for key, value in inside.items() if mapped else [("", inside)]:
                part = _fitting(parts, value)
                if part is not None:
                    yield from simplexes(part, value, (*path, key) if mapped else path)


@cache
def _fields_with_parts(
    model: type[BaseModel],
) -> list[tuple[str, bool, tuple[str, ...], tuple[type[BaseModel], ...], bool]]:
    """(field, is a mixture, its components, models inside, is a map of them), where one may be."""
    rows = []
    for name, info in model.model_fields.items():
        parts = _models_in(info.annotation)
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        simplex = extra.get("simplex") is True
        declared = extra.get("components")
        names = tuple(str(name) for name in declared) if isinstance(declared, list) else ()
        if simplex or parts:
            rows.append((name, simplex, names, parts, dict in _containers(info.annotation)))
    return rows


def _containers(annotation: Any) -> set[Any]:
    """Whether a field is a map or a list of what it holds, or may be."""
    return {get_origin(a) for a in (annotation, *get_args(annotation))} & {dict, list}


def _models_in(annotation: Any) -> tuple[type[BaseModel], ...]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    return tuple(m for arg in get_args(annotation) for m in _models_in(arg))


def _fitting(parts: tuple[type[BaseModel], ...], value: Any) -> type[BaseModel] | None:
    if not isinstance(value, dict):
        return None
    return next((p for p in parts if set(value) <= set(p.model_fields)), None)


def fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names the model knows below a path; empty where it is not a model."""
    return [name for m in _models_at(model, path) for name in m.model_fields]


def _models_at(model: type[BaseModel], path: list[str]) -> tuple[type[BaseModel], ...]:
    models: tuple[type[BaseModel], ...] = (model,)
    rest = list(path)
    while rest:
        part = rest.pop(0)
        infos = [m.model_fields[part] for m in models if part in m.model_fields]
        models = tuple(found for info in infos for found in _models_in(info.annotation))
        held = {kind for info in infos for kind in _containers(info.annotation)}
        if rest and (dict in held or (list in held and rest[0].isdigit())):
            rest.pop(0)
    return models
