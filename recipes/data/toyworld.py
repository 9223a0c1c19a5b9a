"""The toy world as a data source: training prompts, and edit cases with rendered sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from recipes.data.rules import Rules
from recipes.data.settings import TaskName
from recipes.families.base import Condition, PictureFamily
from recipes.toyworld.prompts import (
    CATEGORIES,
    EditCase,
    Prompt,
    can_encode,
    edit_cases,
    parse,
    prompts,
)
from recipes.toyworld.renderer import FREE, SIZE, render, render_edit, render_sources


class ToyWorldSource:
    """Draws from the training part of the world; targets are shown only to who asks for them.

    Args:
        family: what turns texts and pictures into conditions.
        chosen: prompts to draw from, by category; all training prompts of those not named.
    """

    offers_targets = True

    def __init__(
        self, family: PictureFamily, chosen: Mapping[str, Sequence[Prompt]] | None = None
    ) -> None:
        self.family = family
        self.chosen = dict(chosen or {})

    def t2i(
        self,
        categories: Sequence[str],
        generators: Sequence[torch.Generator],
        *,
        targets: bool = False,
    ) -> Condition:
        """Conditions of prompts, one per category named; pictures of them where asked for."""
        drawn = [self.prompt(c, g) for c, g in zip(categories, generators, strict=True)]
        condition = self.family.condition([p.caption for p in drawn])
        if not targets:
            return condition
        free = torch.stack([torch.rand(FREE, generator=g) for g in generators])
        return with_target(self.family, condition, render(drawn, free))

    def edit(
        self,
        edit_types: Sequence[str],
        generators: Sequence[torch.Generator],
        *,
        targets: bool = False,
    ) -> Condition:
        """Conditions of edit cases, one per edit type named; sources are rendered and encoded."""
        instructions, sources, answers = self.cases(edit_types, generators, targets=targets)
        condition = self.family.condition(instructions, sources)
        return condition if answers is None else with_target(self.family, condition, answers)

    def prompt(self, category: str, generator: torch.Generator) -> Prompt:
        """One of the prompts to draw from."""
        pool = self.chosen.get(category) or prompts(category, "train")
        return pool[int(torch.randint(len(pool), (), generator=generator))]

    def cases(
        self, edit_types: Sequence[str], generators: Sequence[torch.Generator], *, targets: bool
    ) -> tuple[list[str], Tensor, Tensor | None]:
        """Instructions, source and, where asked for, target pictures (B, 3, 24, 24) in [-1, 1]."""
        cases = [_case(e, g) for e, g in zip(edit_types, generators, strict=True)]
        free = torch.stack([torch.rand(FREE, generator=g) for g in generators])
        noise = torch.zeros(len(cases), 3, SIZE, SIZE)
        for row, (case, generator) in enumerate(zip(cases, generators, strict=True)):
            if case.operation == "denoise":  # the only one that uses it, and the last to be drawn
                noise[row].normal_(generator=generator)
        instructions = [c.instruction for c in cases]
        if not targets:
            return instructions, render_sources(cases, free, noise), None
        sources, answers, _ = render_edit(cases, free, noise)
        return instructions, sources, answers


@torch.no_grad()
def with_target(family: PictureFamily, condition: Condition, images_BCHW: Tensor) -> Condition:
    """A condition with target latents beside it, from pictures in [-1, 1]."""
    return replace(condition, target_BCHW=family.encode(images_BCHW))


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
    # A student must not train on what it is measured on, even where a user's file has it.
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
