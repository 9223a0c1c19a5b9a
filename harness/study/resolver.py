"""Recipes: the subject's model of them, and base recipe + assignments -> a resolved one.

An assignment replaces the value at its dotted path. Mixtures, which are fields with
`{"simplex": True}` in their JSON schema extra, are the exception that
`mixture.py` describes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError

from harness.study.simplex import MixtureError, normalise, with_components, without_zeros
from harness.text.spelling import nearest

Path = tuple[str, ...]
FaultKind = Literal["unknown key", "missing key", "pattern", "value"]


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a recipe or a study file: where, and what."""

    path: Path
    message: str
    kind: FaultKind = "value"
    """Of several things wrong at one place, that of the first."""


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
    kinds: dict[Path, FaultKind] = {}
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
        kinds.setdefault(path, _KINDS.get(item["type"], "value"))
    return [
        Fault(path, " or ".join(dict.fromkeys(said)), kinds[path]) for path, said in merged.items()
    ]


_KINDS: dict[str, FaultKind] = {
    "extra_forbidden": "unknown key",
    "missing": "missing key",
    "string_pattern_mismatch": "pattern",
}
"""What pydantic calls an error -> the kind of fault that it is."""


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


class RecipeError(ValueError):
    """A recipe that the subject's model refuses, with every fault."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{'.'.join(f.path) or 'recipe'}: {f.message}" for f in faults))


class Resolver:
    """Resolves assignments on one base recipe.

    Args:
        model: the subject's `Recipe`.
        base: what the base recipe file says; defaults are filled in.

    Raises:
        RecipeError: if the base itself is refused.
    """

    def __init__(self, model: type[BaseModel], base: Mapping[str, Any]) -> None:
        self.model = model
        written, order = self._normalised(dict(base), {})
        filled = _overlaid(self._checked(written), written, order)
        self.base, self._order = self._normalised(filled, order)

    def resolve(self, assignments: Mapping[str, Any]) -> dict[str, Any]:
        """The resolved recipe, defaults included and zero shares dropped, as plain JSON data.

        Raises:
            RecipeError: with every fault the model or a mixture finds.
        """
        return self._checked(self._assigned(assignments))

    def after(self, assignments: Mapping[str, Any]) -> Resolver:
        """A resolver whose base has these assignments (the study's `set`).

        Raises:
            RecipeError: as `resolve`.
        """
        return Resolver(self.model, self._assigned(assignments))

    def unknown(self, path: str) -> str | None:
        """Why a dotted path cannot be assigned to: a message with the nearest spelling, or None."""
        declares = getattr(self.model, "declares", None)
        if declares is not None and declares(path):
            return None  # a JSON Schema knows it, though the base recipe does not set it
        parts = path.split(".")
        here: Any = self.base
        for depth, part in enumerate(parts):
            before = ".".join(parts[:depth])
            if isinstance(here, dict) and part in here:
                here = here[part]
                continue
            optional = fields_at(self.model, parts[:depth])
            if here is None and part in optional:
                return self._unknown_in_model(parts, depth)
            known = list(here) if isinstance(here, dict) else list(optional)
            if before and isinstance(here, dict):
                return f"no field {part!r} in {before!r}{nearest(part, known)}"
            if before and not known:
                return f"{before!r} is a plain value and has no field {part!r}"
            every = known if depth or "." not in path else [".".join(p) for p in _paths(self.base)]
            return f"no recipe field {path!r}{nearest(path, every)}"
        return None

    def _unknown_in_model(self, parts: list[str], depth: int) -> str | None:
        for end in range(depth, len(parts)):
            fields = fields_at(self.model, parts[:end])
            if parts[end] not in fields:
                return f"no field {parts[end]!r} in {'.'.join(parts[:end])!r}" + nearest(
                    parts[end], fields
                )
        return None

    def _assigned(self, assignments: Mapping[str, Any]) -> dict[str, Any]:
        shares: dict[Path, dict[str, Any]] = {}
        data = self.base
        for dotted, value in assignments.items():
            path = tuple(dotted.split("."))
            if path[:-1] in self._order:
                shares.setdefault(path[:-1], {})[path[-1]] = value
            else:
                data = _replaced(data, path, value)
        if data is not self.base:
            data, _ = self._normalised(data, self._order)
        for path, given in shares.items():
            try:
                data = _replaced(data, path, with_components(_at(self.base, path), given))
            except MixtureError as error:
                raise RecipeError([Fault((*path, next(iter(given))), str(error))]) from None
        return data

    def _normalised(
        self, data: dict[str, Any], order: Mapping[Path, tuple[str, ...]]
    ) -> tuple[dict[str, Any], dict[Path, tuple[str, ...]]]:
        faults, found = [], {}
        for simplex in simplexes(self.model, data):
            names = order.get(simplex.path) or simplex.components
            value = _at(data, simplex.path)
            try:
                shares = normalise(value, names, closed=simplex.closed)
            except MixtureError as error:
                faults.append(Fault(simplex.path, str(error)))
                continue
            # Zeros stay in the base: an assignment to one share has to know which others there are.
            shares = {name: 0.0 for name in names} | shares
            found[simplex.path] = tuple(shares)
            if shares != value:
                data = _replaced(data, simplex.path, shares)
        if faults:
            raise RecipeError(faults)
        return data, found

    def _checked(self, data: dict[str, Any]) -> dict[str, Any]:
        for simplex in simplexes(self.model, data):
            if not simplex.model:
                data = _replaced(data, simplex.path, without_zeros(_at(data, simplex.path)))
        try:
            # From JSON, strict validation still makes tuples of lists and paths of words; from
            # Python data it refuses them, and without `strict` it takes "1" for 1.
            made = self.model.model_validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            raise RecipeError(faults_of(error, data, self.model)) from None
        return made.model_dump(mode="json")


def resolver_of(
    model: type[BaseModel], base: Mapping[str, Any]
) -> tuple[Resolver | None, list[Fault]]:
    """A resolver on a base recipe and the base's faults.

    Faulty parts are left out so that the rest can be used to check more; None if that fails too.
    """
    try:
        return Resolver(model, base), []
    except RecipeError as error:
        faults = error.faults
    data = dict(base)
    for fault in faults:
        data = _without(data, fault.path)
    try:
        return Resolver(model, data), faults
    except RecipeError:
        return None, faults


def shares_of(model: type[BaseModel], recipe: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Dotted path -> shares of every mixture in a resolved recipe."""
    return {".".join(s.path): _at(recipe, s.path) for s in simplexes(model, dict(recipe))}


def nested(one: str, other: str) -> bool:
    """True if two dotted paths are the same or one lies inside the other."""
    return (one + ".").startswith(other + ".") or (other + ".").startswith(one + ".")


def _paths(data: Any, prefix: Path = ()) -> Iterator[Path]:
    for key, value in data.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from _paths(value, (*prefix, key))


def _at(data: Any, path: Path) -> Any:
    for part in path:
        data = data[part]
    return data


def _replaced(data: Any, path: Path, value: Any) -> Any:
    """A copy of nested dicts with one value replaced; what lies beside the path is shared."""
    if not path:
        return value
    inside = data if isinstance(data, dict) else {}
    return {**inside, path[0]: _replaced(inside.get(path[0]), path[1:], value)}


def _without(data: Any, path: Path) -> Any:
    """A copy without the value at `path`; as it is where the path leads into something else."""
    if not path or not isinstance(data, dict) or path[0] not in data:
        return data
    rest = {key: value for key, value in data.items() if key != path[0]}
    if len(path) == 1 or not isinstance(data[path[0]], dict):
        return rest
    return {**rest, path[0]: _without(data[path[0]], path[1:])}


def _overlaid(data: Any, written: Any, mixtures: Mapping[Path, tuple[str, ...]]) -> Any:
    """Resolved data with the mixtures as written: zeros and order of components kept."""
    for path in mixtures:
        data = _replaced(data, path, _at(written, path))
    return data
