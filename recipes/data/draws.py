"""Draws: every random choice of training, each from its own hashed seed stream.

A stream per consumer (task, data source, student noise, fake noise), indexed by cycle, update and
sample: changing the number of fake updates or a share does not shift the others. The tasks of an
update follow from one uniform, shared by all arms of a replicate, and the share; see `mixture.py`.
"""

from __future__ import annotations

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
    """The name whose interval of the cumulated shares holds u; `Data` fixes the order."""
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
        self.mixture = recipe.mixture
        self.source = source
        self.shape = shape
        self.seed = seed
        self.realised: Counter[str] = Counter()
        """Samples per task, category and edit type so far, over student and fake updates."""

    def task(self, role: str, cycle: int, update: int) -> Task:
        """Task of a micro-batch that is of one task."""
        t2i = self.mixture.is_t2i(self._start(role, update), cycle)
        return "t2i" if t2i else "edit"

    def batches(self, role: str, cycle: int, update: int) -> tuple[tuple[Batch, float], ...]:
        """Micro-batches of a role's update, each with the share of the update's rows it holds.

        A pure function of its arguments: one micro-batch, or with `mixing.by: sample` the T2I rows
        and the edit rows in two.
        """
        if self.recipe.mixing.by == "micro_batch":
            return ((self.batch(role, cycle, update), 1.0),)
        size = self.recipe.train.batch_size
        t2i = self.mixture.t2i_rows(self._start(role, update), cycle, size)
        parts: tuple[tuple[Task, range], ...] = (("t2i", range(t2i)), ("edit", range(t2i, size)))
        return tuple(
            (self._batch(task, role, cycle, update, rows), len(rows) / size)
            for task, rows in parts
            if rows
        )

    def batch(self, role: str, cycle: int, update: int) -> Batch:
        """Micro-batch of one task, of all rows of an update; a pure function of its arguments."""
        rows = range(self.recipe.train.batch_size)
        return self._batch(self.task(role, cycle, update), role, cycle, update, rows)

    def _batch(self, task: Task, role: str, cycle: int, update: int, rows: range) -> Batch:
        condition = self._condition(task, role, cycle, update, rows)
        noise = self._normal(f"noise.{role}", cycle, update, rows)
        settings = self.recipe.objective
        level, renoise = None, None
        if settings.judges:
            level, renoise = self._renoising(role, cycle, update, rows)
        exits = self._exits(role, cycle, update, rows) if settings.rolls else None
        fresh = None
        if settings.renoises:

            def fresh(rung: int) -> Tensor:
                return self._normal(f"rollout.{role}", cycle, update, rows, rung)

        def further(stream: str) -> tuple[Tensor, Tensor]:
            u_B = self._uniform(f"{stream}.level.{role}", cycle, update, rows)
            return u_B, self._normal(f"{stream}.noise.{role}", cycle, update, rows)

        progress = max(cycle, 0) / self.mixture.cycles
        return Batch(task, condition, noise, exits, level, renoise, fresh, progress, further)

    def _exits(self, role: str, cycle: int, update: int, rows: range) -> Tensor:
        """Exit rung per row, (B,) int64 descending, from the first that the objective allows."""
        settings, rungs = self.recipe.objective, self.recipe.student.rungs
        first = settings.first_exit(rungs)
        offset = self.seed(f"exit.{role}", cycle, update) % (rungs - first)
        if settings.exit_rungs == "stratified":  # within each task, or task and rung would go along
            return first + stratified_exits(len(rows), rungs - first, offset + rows.start)
        return torch.full((len(rows),), first + offset)

    def judged_anew(
        self, batches: Sequence[tuple[Batch, float]], cycle: int
    ) -> tuple[tuple[Batch, float], ...]:
        """The student's batches, re-noised for the first fake update: same samples, fresh noise."""
        first, found = 0, []
        for batch, weight in batches:
            rows = range(first, first + batch.noise_BCHW.shape[0])
            level, noise = self._renoising("fake", cycle, 0, rows)
            found.append((replace(batch, renoise_t_B=level, renoise_BCHW=noise), weight))
            first = rows.stop
        return tuple(found)

    def _start(self, role: str, update: int) -> float:
        """Where the task sequence of a role's update starts, in [0, 1)."""
        # Of the update, not of the cycle: over cycles runs the mixture's own sequence from here.
        return self.seed(f"task.{role}", update) / 2**63

    def _renoising(self, role: str, cycle: int, update: int, rows: range) -> tuple[Tensor, Tensor]:
        """Levels (B,) float32 and noise (B, C, H, W) at which samples are judged."""
        where = self.recipe.objective.renoise
        u_B = self._uniform(f"level.{role}", cycle, update, rows)
        u_B = where.low + (where.high - where.low) * u_B
        levels = torch.tensor([shifted(u, where.shift) for u in u_B.tolist()])
        return levels, self._normal(f"renoise.{role}", cycle, update, rows)

    def _condition(self, task: Task, role: str, cycle: int, update: int, rows: range) -> Condition:
        stream = f"data.{task}.{role}"
        generators = [self._generator(stream, cycle, update, i) for i in rows]
        shares = self.recipe.data.composition if task == "t2i" else self.recipe.data.edit_types
        names = [pick(shares, float(torch.rand((), generator=g))) for g in generators]
        self.realised[task] += len(rows)
        self.realised.update(f"{task}.{name}" for name in names)
        # Only a source that offers targets takes the argument.
        asked = {} if self.recipe.objective.prompt_only else {"targets": True}
        draw = self.source.t2i if task == "t2i" else self.source.edit
        condition = draw(names, generators, **asked)
        return replace(condition, labels=condition.labels or tuple(names))

    def _generator(self, stream: str, *index: int) -> torch.Generator:
        # Torch's CPU generator keeps 32 bits of a seed: of a trial's 40,000 draws two share their
        # noise with a probability of about 0.2. Harmless here, worth another look at full scale.
        return torch.Generator().manual_seed(self.seed(stream, *index))

    def _normal(self, stream: str, cycle: int, update: int, rows: range, *more: int) -> Tensor:
        drawn = torch.empty(len(rows), *self.shape)
        generator = torch.Generator()  # seeded anew for every row: made once, it costs half
        for place, i in enumerate(rows):
            generator.manual_seed(self.seed(stream, cycle, update, i, *more))
            drawn[place].normal_(generator=generator)
        return drawn

    def _uniform(self, stream: str, cycle: int, update: int, rows: range) -> Tensor:
        """One uniform a row, (B,) float64."""
        drawn = torch.empty(len(rows), dtype=torch.float64)
        generator = torch.Generator()
        for place, i in enumerate(rows):
            generator.manual_seed(self.seed(stream, cycle, update, i))
            drawn[place].uniform_(generator=generator)
        return drawn

    def shares(self) -> dict[str, float]:
        """Realised shares: tasks among samples, categories among T2I, types among edits."""
        done = self.realised
        total = done["t2i"] + done["edit"]
        found = {}
        for name, count in sorted(done.items()):
            whole = done[name.split(".")[0]] if "." in name else total
            found[name] = count / whole if whole else 0.0
        return found
