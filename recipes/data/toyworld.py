"""The toy world as a data source: training prompts, and edit cases with rendered sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recipes.data.rows import Rules
from recipes.data.settings import TaskName
from recipes.families.base import Condition
from recipes.families.toyworld import ToyWorldFamily
from recipes.toyworld.prompts import (
    CATEGORIES,
    EditCase,
    Prompt,
    can_encode,
    edit_cases,
    parse,
    prompts,
)
from recipes.toyworld.renderer import FREE, SIZE, render_edit


class ToyWorldSource:
    """Draws from the training part of the world; targets are never shown (prompt-only).

    Args:
        family: what turns texts and pictures into conditions.
        chosen: prompts to draw from, by category; all training prompts of those not named.
    """

    def __init__(
        self, family: ToyWorldFamily, chosen: Mapping[str, Sequence[Prompt]] | None = None
    ) -> None:
        self.family = family
        self.chosen = dict(chosen or {})

    def t2i(self, categories: Sequence[str], generators: Sequence[torch.Generator]) -> Condition:
        """Conditions of prompts, one per category named."""
        rows = zip(categories, generators, strict=True)
        return self.family.condition([self.prompt(c, g) for c, g in rows])

    def edit(self, edit_types: Sequence[str], generators: Sequence[torch.Generator]) -> Condition:
        """Conditions of edit cases, one per edit type named; sources are rendered and encoded."""
        return self.family.condition(*self.cases(edit_types, generators))

    def prompt(self, category: str, generator: torch.Generator) -> str:
        """Caption of a prompt."""
        pool = self.chosen.get(category) or prompts(category, "train")
        return pool[int(torch.randint(len(pool), (), generator=generator))].caption

    def cases(
        self, edit_types: Sequence[str], generators: Sequence[torch.Generator]
    ) -> tuple[list[str], Tensor]:
        """Instructions, and source pictures (B, 3, 24, 24) in [-1, 1]."""
        cases = [_case(e, g) for e, g in zip(edit_types, generators, strict=True)]
        free = torch.stack([torch.rand(FREE, generator=g) for g in generators])
        noise = torch.stack([torch.randn(3, SIZE, SIZE, generator=g) for g in generators])
        source, _, _ = render_edit(cases, free, noise)
        return [c.instruction for c in cases], source


def complaint(task: TaskName, text: str) -> str | None:
    """Why the toy world cannot train on a text of a file; None where it can."""
    if not can_encode(text):
        return "prompt outside the vocabulary"
    if task == "edit":
        return None
    try:
        prompt = parse(text)
    except ValueError:
        return "prompt is an instruction"
    if prompt not in prompts(prompt.category, "train"):
        return "prompt held out for measuring"
    return None


RULES = Rules(SIZE, complaint)


def _case(edit_type: str, generator: torch.Generator) -> EditCase:
    pool = edit_cases(edit_type, "train")
    if edit_type in ("enhance", "style"):  # every category as often, whatever its prompt count
        category = CATEGORIES[int(torch.randint(len(CATEGORIES), (), generator=generator))]
        pool = tuple(case for case in pool if case.source.category == category)
    return pool[int(torch.randint(len(pool), (), generator=generator))]
