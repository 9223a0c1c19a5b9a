"""Sources: every source of a recipe behind one face, so that one batch may mix them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from recipes.data.rules import Rules
from recipes.data.settings import Data, FileSource, TaskName
from recipes.data.sizes import refuse_short, wanted
from recipes.data.toyworld import RULES, ToyWorldSource, with_target
from recipes.families.base import Condition, PictureFamily
from recipes.toyworld.prompts import Prompt, prompts

if TYPE_CHECKING:
    from recipes.data.rows import RowReport, Rows

Seed = Callable[..., int]
_Row = TypeVar("_Row")


class Sources:
    """Prompts and edit cases of a recipe's sources, read and checked.

    Args:
        data: the recipe's data settings.
        family: what turns texts and pictures into conditions.
        seed: streams of the replicate; `subset.<source>` orders what a set size takes from.
        cache: folder for pictures held in tables, and for what checks found.
        tasks: tasks that take part; sources of another are not read.
        rules: what the family can train on.

    Attributes:
        reports: what was found in each file.

    Raises:
        ValueError: a file cannot be read, has too many bad rows, or fewer than the set takes.
    """

    def __init__(
        self,
        data: Data,
        family: PictureFamily,
        seed: Seed,
        cache: Path,
        tasks: Collection[TaskName] = ("t2i", "edit"),
        rules: Rules = RULES,
    ) -> None:
        self.family = family
        self.rules = rules
        self.reports: list[RowReport] = []
        self._files: dict[str, _Drawn] = {}
        self._categories: dict[str, str] = {}
        chosen: dict[str, list[Prompt]] = {}
        counts = wanted(data) or {}
        for name in data.composition if "t2i" in tasks else ():
            origin, count = data.origin("t2i", name), counts.get(name)
            if isinstance(origin, FileSource):
                self._add(name, origin, count, data.max_bad_share, seed, cache)
            else:
                self._categories[name] = origin.category
                chosen[name] = taken(name, prompts(origin.category, "train"), count, seed)
        for name in data.edit_types if "edit" in tasks else ():
            origin = data.origin("edit", name)
            if isinstance(origin, FileSource):
                self._add(name, origin, None, data.max_bad_share, seed, cache)
            else:
                self._categories[name] = origin.category
        self.world = ToyWorldSource(family, chosen)

    @property
    def offers_targets(self) -> bool:
        """Whether every row has a target picture: prompts of files have none."""
        return all("target" in drawn.rows.columns for drawn in self._files.values())

    def t2i(
        self, names: Sequence[str], generators: Sequence[torch.Generator], *, targets: bool = False
    ) -> Condition:
        """Conditions of prompts, one per source named; targets as `ToyWorldSource.t2i`."""
        if targets:
            shown = self.world.t2i(names, generators, targets=True)
            return replace(shown, labels=tuple(self._categories[name] for name in names))
        texts = [
            self._files[name].prompt(g)
            if name in self._files
            else self.world.prompt(name, g).caption
            for name, g in zip(names, generators, strict=True)
        ]
        return replace(self.family.condition(texts), labels=self._labels(names, texts))

    def edit(
        self, names: Sequence[str], generators: Sequence[torch.Generator], *, targets: bool = False
    ) -> Condition:
        """Conditions of edit cases, one per source named; target latents where asked for."""
        rows: dict[int, tuple[str, Tensor, Tensor | None]] = {}
        world = [i for i, name in enumerate(names) if name not in self._files]
        if world:  # rendered in one call
            types = [self._categories[names[i]] for i in world]
            drawn = [generators[i] for i in world]
            asked, before, after = self.world.cases(types, drawn, targets=targets)
            wanted_after = [None] * len(world) if after is None else after
            rows.update(zip(world, zip(asked, before, wanted_after, strict=True), strict=True))
        for i, name in enumerate(names):
            if name in self._files:
                rows[i] = self._files[name].case(generators[i], targets=targets)
        texts, sources, answers = zip(*(rows[i] for i in range(len(names))), strict=True)
        condition = self.family.condition(texts, torch.stack(sources))
        condition = replace(condition, labels=self._labels(names, texts))
        return with_target(self.family, condition, torch.stack(answers)) if targets else condition

    def _labels(self, names: Sequence[str], texts: Sequence[str]) -> tuple[str, ...]:
        """What rows are about, as measuring sees it: not the source, which only says where from."""
        return tuple(
            self._categories.get(name) or self.family.labels([text])[0]
            for name, text in zip(names, texts, strict=True)
        )

    def _add(
        self,
        name: str,
        origin: FileSource,
        count: int | None,
        limit: float,
        seed: Seed,
        cache: Path,
    ) -> None:
        from recipes.data.rows import Rows  # no other trial runs that code

        rows = Rows(name, origin, cache)
        if origin.category is not None:
            self._categories[name] = origin.category
        report = rows.checked(self.rules, cache)
        report.refuse_above(limit)
        self.reports.append(report)
        self._files[name] = _Drawn(rows, taken(name, report.good, count, seed), self.rules.side)


class _Drawn:
    """Rows of a file that a trial draws from."""

    def __init__(self, rows: Rows, chosen: Sequence[int], side: int) -> None:
        self.rows = rows
        self.side = side
        self.chosen = chosen

    def prompt(self, generator: torch.Generator) -> str:
        return str(self.rows.texts[self._row(generator)])

    def case(
        self, generator: torch.Generator, *, targets: bool
    ) -> tuple[str, Tensor, Tensor | None]:
        """Instruction, and source and (where asked for) target picture (3, R, R) in [-1, 1]."""
        row = self._row(generator)
        target = self._picture(row, "target") if targets else None
        return str(self.rows.texts[row]), self._picture(row, "source"), target

    def _picture(self, row: int, role: str) -> Tensor:
        return torch.from_numpy(self.rows.pixels(row, role, self.side)).float() / 127.5 - 1

    def _row(self, generator: torch.Generator) -> int:
        return self.chosen[int(torch.randint(len(self.chosen), (), generator=generator))]


def taken(name: str, pool: Sequence[_Row], count: int | None, seed: Seed) -> list[_Row]:
    """The first `count` rows in an order hashed from replicate and source; all if None.

    A smaller count gives a part of a larger one, and other sources play no part.

    Raises:
        ValueError: fewer rows than asked for.
    """
    if count is None:
        return list(pool)
    refuse_short(name, count, len(pool))
    order = torch.randperm(
        len(pool), generator=torch.Generator().manual_seed(seed(f"subset.{name}"))
    )
    return [pool[i] for i in order[:count].tolist()]
