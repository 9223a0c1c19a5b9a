"""Turning `package.module:attribute` into the object it names."""

from __future__ import annotations

import importlib
from functools import reduce
from typing import Any


def resolve(import_string: str) -> Any:
    """Return the object named by `package.module:attribute` (dots allowed after the colon).

    Args:
        import_string: such as `recipes.toyworld.items:digests`.

    Raises:
        ValueError: the string has another shape, the module cannot be found, or it has no such
            attribute. An error raised inside the module while it is imported is passed on as is.
    """
    module_name, colon, attribute = import_string.partition(":")
    if not (module_name and colon and attribute):
        raise ValueError(
            f"{import_string=} is not an import string; write package.module:attribute"
        )
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing != module_name and not module_name.startswith(f"{missing}."):
            raise
        raise ValueError(
            f"{import_string=}: no module {missing!r}; check the spelling and that its folder is "
            "on the import path"
        ) from error
    try:
        return reduce(getattr, attribute.split("."), module)
    except AttributeError as error:
        public = ", ".join(sorted(name for name in vars(module) if not name.startswith("_")))
        raise ValueError(
            f"{import_string=}: module {module_name!r} has no {attribute!r}; it has: {public}"
        ) from error
