"""Draws: every random choice of training, each from its own hashed seed stream.

A stream per consumer (task, data source, student noise, fake noise), indexed by cycle, update and
sample: changing the number of fake updates or a share does not shift the others. The task of a
micro-batch compares one uniform, shared by all arms of a replicate, with the share.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from recipes.families.base import Condition, Task
from recipes.objectives.base import Batch
from recipes.recipe import Recipe
from recipes.rollout import stratified_exits
from recipes.schedule import shifted

Seed = Callable[..., int]
GOLDEN = (math.sqrt(5) - 1) / 2


class Source(Protocol):
    """Prompts and edit cases of a family; each sample draws from its own generator.

    A source that sets `offers_targets` also takes `targets=True`: target latents come with the
    conditions, and nothing else of them changes.
    """

    def t2i(self, categories: Sequence[str], generators: Sequence[torch.Generator]) -> Condition:
        """Conditions of prompts, one per category named."""
        ...

    def edit(self, edit_types: Sequence[str], generators: Sequence[torch.Generator]) -> Condition:
        """Conditions of edit cases, one per edit type named; source latents included."""
        ...


def pick(shares: Mapping[str, float], u: float) -> str:
    """The name whose interval of the cumulated shares holds u; order is the mapping's."""
    total = 0.0
    for name, share in shares.items():
        total += share
        if u < total:
            return name
    return next(reversed(shares))  # u within rounding of 1


class Draws:
    """Micro-batches of one trial, addressed by (role, cycle, update).

    Raises:
        ValueError: if the objective needs target images and the source offers none.
    """

    def __init__(
        self, recipe: Recipe, source: Source, shape: tuple[int, int, int], seed: Seed
    ) -> None:
        objective = recipe.objective
        if not objective.prompt_only and not getattr(source, "offers_targets", False):
            raise ValueError(
                f"objective {objective.name!r} needs target images and {type(source).__name__} "
                "offers prompts only; use a source with targets, or an objective without"
            )
        self.recipe = recipe
        self.source = source
        self.shape = shape
        self.seed = seed
        self.realised: Counter[str] = Counter()
        """Samples per task, category and edit type so far, over student and fake updates."""

    def task(self, role: str, cycle: int, update: int) -> Task:
        """Task of a micro-batch: a low-discrepancy uniform compared with the share.

        The golden-ratio sequence has a hashed start per role and update, and keeps the realised
        share within a few batches of the nominal one.
        """
        start = self.seed(f"task.{role}", update) / 2**63
        u = (start + cycle * GOLDEN) % 1.0
        return "t2i" if u < self.recipe.tasks.get("t2i", 0.0) else "edit"

    def batch(self, role: str, cycle: int, update: int) -> Batch:
        """Micro-batch of a role's update; a pure function of its arguments."""
        size = self.recipe.train.batch_size
        task = self.task(role, cycle, update)
        condition = self._condition(task, role, cycle, update, size)
        noise = self._normal(f"noise.{role}", cycle, update, size)
        settings = self.recipe.objective
        level, renoise = None, None
        if settings.judges:
            level, renoise = self.renoising(role, cycle, update, size)
        exits = self._exits(role, cycle, update, size) if settings.rolls else None
        fresh = None
        if settings.renoises:

            def fresh(rung: int) -> Tensor:
                return self._normal(f"rollout.{role}", cycle, update, size, rung)

        def further(stream: str) -> tuple[Tensor, Tensor]:
            u_B = self._uniform(f"{stream}.level.{role}", cycle, update, size, 1)[:, 0]
            return u_B, self._normal(f"{stream}.noise.{role}", cycle, update, size)

        progress = max(cycle, 0) / self.recipe.train.cycles
        return Batch(task, condition, noise, exits, level, renoise, fresh, progress, further)

    def _exits(self, role: str, cycle: int, update: int, size: int) -> Tensor:
        """Exit rung per row, (B,) int64 descending, from the first that the objective allows."""
        settings, rungs = self.recipe.objective, self.recipe.student.rungs
        first = settings.first_exit(rungs)
        offset = self.seed(f"exit.{role}", cycle, update) % (rungs - first)
        if settings.exit_rungs == "stratified":
            return first + stratified_exits(size, rungs - first, offset)
        return torch.full((size,), first + offset)

    def renoising(self, role: str, cycle: int, update: int, size: int) -> tuple[Tensor, Tensor]:
        """Levels (B,) float32 and noise (B, C, H, W) at which samples are judged."""
        where = self.recipe.objective.renoise
        u_B = self._uniform(f"level.{role}", cycle, update, size, 1)[:, 0]
        u_B = where.low + (where.high - where.low) * u_B
        levels = torch.tensor([shifted(u, where.shift) for u in u_B.tolist()])
        return levels, self._normal(f"renoise.{role}", cycle, update, size)

    def _condition(self, task: Task, role: str, cycle: int, update: int, size: int) -> Condition:
        stream = f"data.{task}.{role}"
        generators = [self._generator(stream, cycle, update, i) for i in range(size)]
        shares = self.recipe.data.composition if task == "t2i" else self.recipe.data.edit_types
        names = [pick(shares, float(torch.rand((), generator=g))) for g in generators]
        self.realised[task] += size
        self.realised.update(f"{task}.{name}" for name in names)
        asked = {} if self.recipe.objective.prompt_only else {"targets": True}
        draw = self.source.t2i if task == "t2i" else self.source.edit
        condition = draw(names, generators, **asked)
        return replace(condition, labels=tuple(names))

    def _generator(self, stream: str, *index: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed(stream, *index))

    def _normal(self, stream: str, cycle: int, update: int, size: int, *more: int) -> Tensor:
        rows = [
            torch.randn(self.shape, generator=self._generator(stream, cycle, update, i, *more))
            for i in range(size)
        ]
        return torch.stack(rows)

    def _uniform(self, stream: str, cycle: int, update: int, size: int, width: int) -> Tensor:
        rows = [
            torch.rand(
                width, generator=self._generator(stream, cycle, update, i), dtype=torch.float64
            )
            for i in range(size)
        ]
        return torch.stack(rows)

    def shares(self) -> dict[str, float]:
        """Realised shares: tasks among samples, categories among T2I, types among edits."""
        done = self.realised
        total = done["t2i"] + done["edit"]
        found = {}
        for name, count in sorted(done.items()):
            whole = done[name.split(".")[0]] if "." in name else total
            found[name] = count / whole if whole else 0.0
        return found
