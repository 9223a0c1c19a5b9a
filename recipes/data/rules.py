"""What a family can train on, for sources that bring their own rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recipes.data.settings import TaskName


@dataclass(frozen=True)
class Rules:
    """What a family can train on."""

    side: int
    """Width and height of its pictures, pixels."""
    complaint: Callable[[TaskName, str], str | None]
    """Why a prompt or instruction cannot be trained on; None where it can."""
    fits: bool = False
    """Whether pictures of other sizes are cut to a square and resized; else they are bad rows."""
