"""Random batches of the world for training: prompts, edit cases and their free variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor

from recipes.toyworld.prompts import (
    CATEGORIES,
    EDIT_TYPES,
    EditCase,
    Part,
    Prompt,
    edit_cases,
    prompts,
)
from recipes.toyworld.renderer import FREE, SIZE, render, render_edit


def free_variables(count: int, generator: Generator) -> Tensor:
    """(count, FREE) uniform in [0, 1]."""
    return torch.rand(count, FREE, generator=generator)


def draw_prompts(
    count: int, generator: Generator, part: Part = "all", shares: Mapping[str, float] | None = None
) -> list[Prompt]:
    """Random prompts; `shares` weighs the categories (default equal)."""
    weights = torch.tensor([(shares or {}).get(c, 0.0 if shares else 1.0) for c in CATEGORIES])
    which = torch.multinomial(weights, count, replacement=True, generator=generator).tolist()
    picks = torch.rand(count, generator=generator).tolist()
    pools = [prompts(category, part) for category in CATEGORIES]
    return [pools[c][int(u * len(pools[c]))] for c, u in zip(which, picks, strict=True)]


def draw_pictures(
    count: int, generator: Generator, part: Part = "all", shares: Mapping[str, float] | None = None
) -> tuple[list[Prompt], Tensor]:
    """Random prompts and their renderings (count, 3, 24, 24) in [-1, 1]."""
    drawn = draw_prompts(count, generator, part, shares)
    return drawn, render(drawn, free_variables(count, generator))


def draw_edits(
    count: int,
    generator: Generator,
    part: Part = "all",
    shares: Mapping[str, float] | None = None,
) -> tuple[list[EditCase], Tensor, Tensor]:
    """Random edit cases with source and target pictures; `shares` weighs the edit types."""
    weights = torch.tensor([(shares or {}).get(e, 0.0 if shares else 1.0) for e in EDIT_TYPES])
    which = torch.multinomial(weights, count, replacement=True, generator=generator).tolist()
    picks = torch.rand(count, generator=generator).tolist()
    cases = [_pick(EDIT_TYPES[e], u, part) for e, u in zip(which, picks, strict=True)]
    source, target, _ = edit_pictures(cases, generator)
    return cases, source, target


def edit_pictures(cases: Sequence[EditCase], generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """`render_edit` with free variables and noise drawn from the generator."""
    free = free_variables(len(cases), generator)
    noise = torch.randn(len(cases), 3, SIZE, SIZE, generator=generator)
    return render_edit(cases, free, noise)


def _pick(edit_type: str, u: float, part: Part) -> EditCase:
    pool = edit_cases(edit_type, part)
    if edit_type != "enhance" and edit_type != "style":
        return pool[int(u * len(pool))]
    # Enhance and style: every category equally often, whatever its number of prompts.
    place = u * len(CATEGORIES)
    own = [case for case in pool if case.source.category == CATEGORIES[int(place)]]
    return own[int(place % 1 * len(own))]
