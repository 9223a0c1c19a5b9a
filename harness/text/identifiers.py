"""Identifiers from servers, records and bundles: what shape they have before they become paths."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from harness.errors import HarnessError

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
"""One part of a path: no separator, no `..`, nothing hidden, nothing a shell reads."""

Name = Annotated[str, Field(pattern=NAME)]
"""A key, a nonce, a study's name, a run's id, a file's name."""


class ForeignError(HarnessError):
    """A server, a record or a bundle said what cannot be: nothing more of it is used."""


def identifier(kind: str, given: str) -> str:
    """What was given, if it may become a part of a path.

    Raises:
        ForeignError: if not.
    """
    if not re.fullmatch(NAME, given):
        raise ForeignError(
            f"{kind} {ascii(given)[:80]} is refused: letters, digits, dots, dashes and underscores "
            "are allowed, at most 128, the first a letter or a digit"
        )
    return given


def inside(folder: Path, kind: str, *parts: str) -> Path:
    """The path of parts that somebody else named, below a folder, links followed.

    Raises:
        ForeignError: if a part is no identifier, or the path leads out of the folder.
    """
    path = folder.joinpath(*(identifier(kind, part) for part in parts))
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ForeignError(f"{kind} {'/'.join(parts)} leads out of {folder}: refused")
    return path


def refusal(error: ValueError) -> str:
    """Why a record cannot be read: the identifier that is none, or the kind of error."""
    if not isinstance(error, ValidationError):
        return str(error)
    for found in error.errors(include_url=False):
        if found["type"] == "string_pattern_mismatch":
            place = found["loc"][-1] if found["loc"] else "identifier"
            return f"{place} {ascii(found['input'])[:60]} {NO_NAME}"
    return type(error).__name__


NO_NAME = "is no identifier"
"""What the record of somebody else is refused for, where others are only passed over."""
