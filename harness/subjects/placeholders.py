"""Texts with placeholders, such as `{seed.init}`: read strictly, filled in without a shell."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.text.spelling import nearest

PLAIN = ("attempt", "gpus", "key", "recipe_file", "replicate", "resume", "step")
"""Placeholders that stand for one thing."""
SPACES = ("recipe", "seed")
"""Placeholders with a dotted part: `{recipe.<path>}`, `{seed.<stream>}`."""
SEED_BELOW = 2**31
"""Seeds handed to other programs: NumPy and C take no larger ones."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_STREAM = re.compile(r"[A-Za-z0-9_.-]+")
OUTSIDE = "env:"
"""`{env:NAME}`: a variable of the process that started the trial, in `env` only."""
_VARIABLE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*")


class PlaceholderError(ValueError):
    """A text whose braces cannot be understood."""


@dataclass(frozen=True)
class Placeholder:
    """One `{name}` of a text."""

    name: str
    column: int
    """1-based, inside the text."""


def parts_of(text: str) -> list[str | Placeholder]:
    """Literal pieces and placeholders in order; `{{` and `}}` are braces.

    Raises:
        PlaceholderError: a lone brace, or a placeholder that does not exist.
    """
    found: list[str | Placeholder] = []
    end = 0
    for match in _TOKEN.finditer(text):
        found.append(text[end : match.start()])
        end = match.end()
        token, column = match.group(), match.start() + 1
        if token in ("{{", "}}"):
            found.append(token[0])
        elif match.group(1) is None:
            raise PlaceholderError(
                f"a lone {token!r} at column {column} of {_shown(text)}: write {token * 2!r} for a "
                "brace of your own"
            )
        else:
            found.append(_checked(Placeholder(match.group(1), column), text))
    found.append(text[end:])
    return [part for part in found if part != ""]


def placeholders(text: str) -> list[Placeholder]:
    """The placeholders of a text, in order."""
    return [part for part in parts_of(text) if isinstance(part, Placeholder)]


def filled(text: str, value: Callable[[str], str]) -> str:
    """The text with `value(name)` in the place of each placeholder; nothing is read twice."""
    return "".join(p if isinstance(p, str) else value(p.name) for p in parts_of(text))


def text_of(value: Any) -> str:
    """A recipe's value as one word of a command line: text as it is, everything else as JSON.

    So `true`, `null`, `0.0001` and `[1,2]`, which YAML, Hydra and JSON read back as they were.
    """
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def at_path(recipe: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path.

    Raises:
        KeyError: if there is none.
    """
    here: Any = recipe
    for part in path.split("."):
        if not isinstance(here, Mapping):
            raise KeyError(path)
        here = here[part]
    return here


def _checked(placeholder: Placeholder, text: str) -> Placeholder:
    space, dot, rest = placeholder.name.partition(".")
    if placeholder.name in PLAIN or (space == "recipe" and rest):
        return placeholder
    if space == "seed" and _STREAM.fullmatch(rest):
        return placeholder
    if _VARIABLE.fullmatch(placeholder.name):
        return placeholder
    known = [*PLAIN, "recipe.<path>", "seed.<stream>"]
    said = f"unknown placeholder {{{placeholder.name}}} at column {placeholder.column} of "
    if space in SPACES and not dot:
        known = [f"{space}.<{'path' if space == 'recipe' else 'stream'}>"]
    raise PlaceholderError(said + _shown(text) + nearest(placeholder.name, known))


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
