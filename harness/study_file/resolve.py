"""Base recipe + assignments -> one resolved recipe, checked by the subject's model.

An assignment replaces the value at its dotted path. Mixtures, which are fields with
`{"simplex": True}` in their JSON schema extra, are the exception that
`harness.study_file.mixture` describes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from harness.study_file.mixture import MixtureError, normalise, with_components, without_zeros
from harness.study_file.nearest import nearest
from harness.study_file.recipe_model import Fault, Path, faults_of, fields_at, simplexes


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
