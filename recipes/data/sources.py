"""Sources: every source of a recipe behind one face, so that one batch may mix them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from recipes.data.rows import RowReport, Rows
from recipes.data.settings import Data, FileSource
from recipes.data.sizes import refuse_short, wanted
from recipes.data.toyworld import RULES, ToyWorldSource
from recipes.families.base import Condition
from recipes.families.toyworld import ToyWorldFamily
from recipes.toyworld.prompts import Prompt, prompts

Seed = Callable[..., int]
_Row = TypeVar("_Row")


class Sources:
    """Prompts and edit cases of a recipe's sources, read and checked.

    Args:
        data: the recipe's data settings.
        family: what turns texts and pictures into conditions.
        seed: streams of the replicate; `subset.<source>` orders what a set size takes from.
        cache: folder for rows as `datasets` keeps them, and for what checks found.

    Attributes:
        reports: what was found in each file.

    Raises:
        ValueError: a file cannot be read, has too many bad rows, or fewer than the set takes.
    """

    def __init__(self, data: Data, family: ToyWorldFamily, seed: Seed, cache: Path) -> None:
        self.family = family
        self.reports: list[RowReport] = []
        self._files: dict[str, _Drawn] = {}
        self._edit_types: dict[str, str] = {}
        chosen: dict[str, list[Prompt]] = {}
        counts = wanted(data) or {}
        for name in data.composition:
            origin, count = data.origin("t2i", name), counts.get(name)
            if isinstance(origin, FileSource):
                self._add(name, origin, count, data.max_bad_share, seed, cache)
            else:
                chosen[name] = taken(name, prompts(origin.category, "train"), count, seed)
        for name in data.edit_types:
            origin = data.origin("edit", name)
            if isinstance(origin, FileSource):
                self._add(name, origin, None, data.max_bad_share, seed, cache)
            else:
                self._edit_types[name] = origin.category
        self.world = ToyWorldSource(family, chosen)

    def t2i(self, names: Sequence[str], generators: Sequence[torch.Generator]) -> Condition:
        """Conditions of prompts, one per source named."""
        return self.family.condition(
            [
                self._files[name].prompt(g) if name in self._files else self.world.prompt(name, g)
                for name, g in zip(names, generators, strict=True)
            ]
        )

    def edit(self, names: Sequence[str], generators: Sequence[torch.Generator]) -> Condition:
        """Conditions of edit cases, one per source named."""
        texts, pictures = [""] * len(names), {}
        world = [i for i, name in enumerate(names) if name not in self._files]
        if world:  # rendered in one call
            types = [self._edit_types[names[i]] for i in world]
            said, shown = self.world.cases(types, [generators[i] for i in world])
            for place, text, picture in zip(world, said, shown, strict=True):
                texts[place], pictures[place] = text, picture
        for i, name in enumerate(names):
            if name in self._files:
                texts[i], pictures[i] = self._files[name].case(generators[i])
        return self.family.condition(texts, torch.stack([pictures[i] for i in range(len(names))]))

    def _add(
        self,
        name: str,
        origin: FileSource,
        count: int | None,
        limit: float,
        seed: Seed,
        cache: Path,
    ) -> None:
        rows = Rows(name, origin, cache)
        report = rows.checked(RULES, cache)
        report.refuse_above(limit)
        self.reports.append(report)
        self._files[name] = _Drawn(rows, taken(name, report.good, count, seed))


class _Drawn:
    """Rows of a file that a trial draws from."""

    def __init__(self, rows: Rows, chosen: Sequence[int]) -> None:
        self.rows = rows
        self.chosen = chosen

    def prompt(self, generator: torch.Generator) -> str:
        return str(self.rows.texts[self._row(generator)])

    def case(self, generator: torch.Generator) -> tuple[str, Tensor]:
        """Instruction, and source picture (3, H, W) in [-1, 1]."""
        row = self._row(generator)
        pixels = torch.from_numpy(self.rows.pixels(row, "source"))
        return str(self.rows.texts[row]), pixels.float() / 127.5 - 1

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
