"""The toy world as a data source: training prompts, and edit cases with rendered sources."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recipes.families.base import Condition
from recipes.families.toyworld import ToyWorldFamily
from recipes.toyworld.prompts import CATEGORIES, EditCase, Prompt, edit_cases, prompts
from recipes.toyworld.renderer import FREE, SIZE, render_edit


class ToyWorldSource:
    """Draws from the training part of the world; targets are never shown (prompt-only)."""

    def __init__(self, family: ToyWorldFamily) -> None:
        self.family = family

    def t2i(self, categories: Sequence[str], generators: Sequence[torch.Generator]) -> Condition:
        """Conditions of prompts, one per category named."""
        drawn = [_prompt(c, g) for c, g in zip(categories, generators, strict=True)]
        return self.family.condition([p.caption for p in drawn])

    def edit(self, edit_types: Sequence[str], generators: Sequence[torch.Generator]) -> Condition:
        """Conditions of edit cases, one per edit type named; sources are rendered and encoded."""
        cases = [_case(e, g) for e, g in zip(edit_types, generators, strict=True)]
        free = torch.stack([torch.rand(FREE, generator=g) for g in generators])
        noise = torch.stack([torch.randn(3, SIZE, SIZE, generator=g) for g in generators])
        source, _, _ = render_edit(cases, free, noise)
        return self.family.condition([c.instruction for c in cases], source)


def _prompt(category: str, generator: torch.Generator) -> Prompt:
    pool = prompts(category, "train")
    return pool[int(torch.randint(len(pool), (), generator=generator))]


def _case(edit_type: str, generator: torch.Generator) -> EditCase:
    pool = edit_cases(edit_type, "train")
    if edit_type in ("enhance", "style"):  # every category as often, whatever its prompt count
        category = CATEGORIES[int(torch.randint(len(CATEGORIES), (), generator=generator))]
        pool = tuple(case for case in pool if case.source.category == category)
    return pool[int(torch.randint(len(pool), (), generator=generator))]
