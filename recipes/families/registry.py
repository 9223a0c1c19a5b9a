"""Which class a recipe's family is, and what it can train on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recipes.data.rows import Rules

if TYPE_CHECKING:
    from recipes.data.settings import TaskName
    from recipes.families.base import PictureFamily


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
        device: where a large family's networks run; the toy world's stay on the CPU.

    Raises:
        FileNotFoundError: weights are missing; the message says how to fetch them.
    """
    if name == "toyworld":
        from recipes.families import toyworld

        return toyworld.shared()
    from recipes.families import qwen_image
    from recipes.families.qwen_image_settings import QwenImage

    settings = QwenImage.model_validate(model).model_dump_json()
    return qwen_image.shared(settings, negative, edits, device)


def rules_of(name: str, family: PictureFamily) -> Rules:
    """What a row of a file must be for a family to train on it."""
    if name == "toyworld":
        from recipes.data.toyworld import RULES

        return RULES
    return Rules(family.pixels, _any_text, fits=True)


def _any_text(_task: TaskName, _text: str) -> str | None:
    return None
