"""A recipe of any shape: checked against a JSON Schema, or by the example of the base recipe."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from harness.errors import HarnessError
from harness.text.bounded_file import UnreadableError, limited_text

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

Fault = tuple[tuple[str | int, ...], str, Any]
"""Where, what, and the value there."""


class AnyRecipe(BaseModel):
    """A YAML mapping as a recipe. Values keep their types."""

    model_config = ConfigDict(frozen=True, extra="allow")

    only_shown: ClassVar[bool] = False
    """Whether nothing but the base recipe says if a word such as `on` is meant as text."""

    @classmethod
    def model_validate_json(cls, json_data: Any, **options: Any) -> Self:
        """Validate; a study is told of each fault with its path.

        Raises:
            ValidationError: with every fault.
        """
        data = json.loads(json_data)
        faults = list(cls.faults(data))
        if faults:
            raise ValidationError.from_exception_data("recipe", [_detail(f) for f in faults])
        return cls.model_validate(data)

    @classmethod
    def faults(cls, data: dict[str, Any]) -> Iterator[Fault]:
        """What is wrong with the data, which may be completed in place."""
        return iter(())

    @classmethod
    def declares(cls, path: str) -> bool:
        """Whether the path may be set though the base recipe lacks it."""
        return False


def by_example(base: Mapping[str, Any], *, words: bool = False) -> type[AnyRecipe]:
    """A recipe whose values have the types that the base recipe shows.

    With `words`, `on` and `off` are known to be text.
    """
    example = copy.deepcopy(dict(base))

    class Exemplified(AnyRecipe):
        only_shown: ClassVar[bool] = not words
        shown: ClassVar[dict[str, Any]] = example

        @classmethod
        def faults(cls, data: dict[str, Any]) -> Iterator[Fault]:
            return _unlike(data, cls.shown, ())

    return Exemplified


def by_schema(file: Path) -> type[AnyRecipe]:
    """A recipe that a JSON Schema describes; its defaults are filled in.

    Raises:
        HarnessError: if the file is missing, no JSON, or no JSON Schema.
    """
    import jsonschema  # slow to import, and few studies name a schema

    try:
        schema = json.loads(limited_text(file))
        json.dumps(schema, ensure_ascii=False).encode()  # half a surrogate pair is no letter
        kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
        kind.check_schema(schema)
    except UnreadableError as error:
        raise HarnessError(f"recipe_schema {file}: {error}") from error
    except (ValueError, jsonschema.SchemaError, RecursionError) as error:
        said = str(error).strip().splitlines()[0]
        raise HarnessError(f"recipe_schema {file} is no JSON Schema: {said}") from error
    return described_by(schema, kind(schema))


def described_by(schema: Mapping[str, Any], validator: Validator) -> type[AnyRecipe]:
    """A recipe that a checked JSON Schema describes."""

    class Described(AnyRecipe):
        @classmethod
        def faults(cls, data: dict[str, Any]) -> Iterator[Fault]:
            _complete(data, schema)
            for error in validator.iter_errors(data):
                yield tuple(error.absolute_path), error.message, None

        @classmethod
        def declares(cls, path: str) -> bool:
            here: Any = schema
            for part in path.split("."):
                here = here.get("properties", {}).get(part) if isinstance(here, Mapping) else None
            return here is not None

    return Described


def _detail(fault: Fault) -> InitErrorDetails:
    path, message, value = fault
    return InitErrorDetails(
        type=PydanticCustomError("recipe", message),
        loc=path,
        input={} if value is None else value,
    )


def _complete(data: dict[str, Any], schema: Mapping[str, Any]) -> None:
    """Fill in the defaults of properties, inside mappings that are there too."""
    for name, part in schema.get("properties", {}).items():
        if not isinstance(part, Mapping):
            continue
        if name not in data and "default" in part:
            data[name] = copy.deepcopy(part["default"])
        if isinstance(data.get(name), dict):
            _complete(data[name], part)


_KINDS = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}


def _unlike(data: Any, shown: Any, path: tuple[str | int, ...]) -> Iterator[Fault]:
    if shown is None or data is None:
        return  # nothing is shown, or nothing is set
    if isinstance(shown, dict):
        if not isinstance(data, dict):
            yield path, f"the base recipe has a mapping here{_TO_MIX}", data
            return
        for name in shown.keys() & data.keys():
            yield from _unlike(data[name], shown[name], (*path, name))
    # Its kind is all that an example says of a value; bounds take a `recipe_schema`.
    elif isinstance(data, dict) or _KINDS[type(data)] != _KINDS[type(shown)]:
        told = json.dumps(shown)
        yield path, f"the base recipe has {_KINDS[type(shown)]} here, {told}{_TO_MIX}", data


_TO_MIX = (
    "; if other types are meant, describe them in a JSON Schema: `recipe_schema` of the subject"
)
