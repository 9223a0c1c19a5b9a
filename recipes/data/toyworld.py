"""The toy world as a data source: training prompts, and edit cases with rendered sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from recipes.families.base import Condition
from recipes.families.toyworld import ToyWorldFamily
from recipes.toyworld.prompts import CATEGORIES, EditCase, Prompt, edit_cases, prompts
from recipes.toyworld.renderer import FREE, SIZE, render, render_edit


class ToyWorldSource:
    """Draws from the training part of the world; targets are shown only to who asks for them."""

    offers_targets = True

    def __init__(self, family: ToyWorldFamily) -> None:
        self.family = family

    def t2i(
        self,
        categories: Sequence[str],
        generators: Sequence[torch.Generator],
        *,
        targets: bool = False,
    ) -> Condition:
        """Conditions of prompts, one per category named; pictures of them where asked for."""
        drawn = [_prompt(c, g) for c, g in zip(categories, generators, strict=True)]
        condition = self.family.condition([p.caption for p in drawn])
        if not targets:
            return condition
        free = torch.stack([torch.rand(FREE, generator=g) for g in generators])
        return self._with_target(condition, render(drawn, free))

    def edit(
        self,
        edit_types: Sequence[str],
        generators: Sequence[torch.Generator],
        *,
        targets: bool = False,
    ) -> Condition:
        """Conditions of edit cases, one per edit type named; sources are rendered and encoded."""
        cases = [_case(e, g) for e, g in zip(edit_types, generators, strict=True)]
        free = torch.stack([torch.rand(FREE, generator=g) for g in generators])
        noise = torch.stack([torch.randn(3, SIZE, SIZE, generator=g) for g in generators])
        source, target, _ = render_edit(cases, free, noise)
        condition = self.family.condition([c.instruction for c in cases], source)
        return self._with_target(condition, target) if targets else condition

    @torch.no_grad()
    def _with_target(self, condition: Condition, images_BCHW: Tensor) -> Condition:
        return replace(condition, target_BCHW=self.family.autoencoder.encode(images_BCHW))


def _prompt(category: str, generator: torch.Generator) -> Prompt:
    pool = prompts(category, "train")
    return pool[int(torch.randint(len(pool), (), generator=generator))]


def _case(edit_type: str, generator: torch.Generator) -> EditCase:
    pool = edit_cases(edit_type, "train")
    if edit_type in ("enhance", "style"):  # every category as often, whatever its prompt count
        category = CATEGORIES[int(torch.randint(len(CATEGORIES), (), generator=generator))]
        pool = tuple(case for case in pool if case.source.category == category)
    return pool[int(torch.randint(len(pool), (), generator=generator))]
