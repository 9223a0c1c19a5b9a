"""Who is who in a trial: student, fake score and teachers from a recipe's `roles`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn

from recipes.families.base import Family
from recipes.recipe import Recipe
from recipes.roles.adapters import SharedBase
from recipes.roles.checkpointing import checkpoint_activations


@dataclass(frozen=True)
class Cast:
    """The networks of a trial."""

    student: nn.Module
    fake: nn.Module | None
    """None for objectives without a fake score."""
    teacher: Callable[[str], nn.Module]
    """Weights' name -> frozen network; the shared base itself where it has those weights."""


def roles_of(
    recipe: Recipe, family: Family, seed: Callable[..., int], *, need_fake: bool = True
) -> Cast:
    """Networks of a recipe. Student and fake score start as the teacher `student.init`.

    Args:
        recipe: its `roles`, `teachers` and `student.init` are read.
        family: where networks come from.
        seed: named seed streams; `adapters` is used, index 0 the student's, 1 the fake score's.
        need_fake: whether there is a fake score.
    """
    settings = recipe.roles
    start = recipe.teachers[recipe.student.init].weights
    if settings.kind == "adapters":
        shared = SharedBase(family.network(start), settings)
        return Cast(
            student=shared.role(seed("adapters", 0)),
            fake=shared.role(seed("adapters", 1)) if need_fake else None,
            teacher=lambda name: shared.bare() if name == start else family.network(name),
        )
    student = family.network(start).requires_grad_(True)
    fake = family.network(start).requires_grad_(True) if need_fake else None
    if settings.activation_checkpointing:
        checkpoint_activations(student)
        if fake is not None:
            checkpoint_activations(fake)
    return Cast(student, fake, family.network)


def gradients_only_in(active: Iterable[nn.Parameter], others: Iterable[nn.Parameter]) -> bool:
    """Whether a backward pass reached the active role's parameters, and none of the others."""
    return any(p.grad is not None for p in active) and all(p.grad is None for p in others)
