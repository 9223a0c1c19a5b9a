"""The prompt or edit case that an item of the toy world was made from, read from its detail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recipes.toyworld.prompts import EditCase, Prompt


def prompt_of(item: Any) -> Prompt:
    """The prompt that a T2I item was made from."""
    return _prompt(item.detail["prompt"])


def case_of(item: Any) -> EditCase:
    """The edit case an item was made from."""
    detail = item.detail
    return EditCase(
        item.category,
        _prompt(detail["source"]),
        item.prompt,
        _prompt(detail["target"]),
        detail["operation"],
    )


def _prompt(plain: Sequence[str]) -> Prompt:
    return Prompt(plain[0], tuple(plain[1:]))
