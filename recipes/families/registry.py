"""Which module a recipe's family is, reached by name, and what it can train on.

Named, not imported: a family is a module here whose `opened` makes it, and its files count for the
digests of its own recipes only.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recipes.data.rules import Rules

if TYPE_CHECKING:
    from recipes.data.settings import TaskName
    from recipes.families.base import PictureFamily


def module_of(name: str) -> str:
    """Module of a recipe's `family`."""
    return f"recipes.families.{name.replace('-', '_')}"


def family_of(
    name: str,
    model: Mapping[str, Any] | None = None,
    *,
    negative: str = "",
    edits: bool = True,
    device: str = "cpu",
) -> PictureFamily:
    """The family, loaded once a process.

    Args:
        name: `family` of the recipe.
        model: `model` of the recipe; None for the toy world.
        negative: negative prompt, for families that embed it beside each source.
        edits: whether edits will be asked for.
        device: where its networks run.

    Raises:
        FileNotFoundError: weights are missing; the message says how to fetch them.
    """
    module = importlib.import_module(module_of(name))
    made: PictureFamily = module.opened(model, negative=negative, edits=edits, device=device)
    return made


def rules_of(name: str, family: PictureFamily) -> Rules:
    """What a row of a file must be for a family to train on it."""
    if name == "toyworld":
        from recipes.data.toyworld import RULES

        return RULES
    return Rules(family.pixels, _any_text, fits=True)


def _any_text(_task: TaskName, _text: str) -> str | None:
    return None
