"""Worlds whose truth is known: trials' values by arm, replicate and prompt, none of them different.

Noise has mean 0 and, where it has a variance, variance 1. Suffixes: S studies, R replicates, A arms,
C cells, P prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def t3(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Heavy tails."""
    return rng.standard_t(3, shape) / np.sqrt(3.0)


def skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Exponential, of skewness 2."""
    return rng.standard_exponential(shape) - 1.0


def lognormal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Log-normal with sigma 1, of skewness 6: beyond what any bound is promised for."""
    e = np.e
    return (rng.lognormal(0.0, 1.0, shape) - np.sqrt(e)) / np.sqrt(e * (e - 1.0))


NOISES: dict[str, Draw] = {"normal": normal, "t3": t3, "skewed": skewed, "lognormal": lognormal}

SPREADS = ("equal", "one 2x", "one 5x", "side 2x", "side 5x")
"""Whose noise is larger: nobody's, one arm's, or all arms' of one side of the contrast."""

DEPENDENCES = ("none", "replicate", "scaled", "side", "any")
"""What arms of a replicate share: nothing; one shock for all; one that is as much larger as the
arm's noise is; one a side; whatever a random covariance says, another in every study."""


@dataclass(frozen=True)
class SeedWorld:
    """Trials of a two-level factor in `arms / 2` cells: even arms against odd ones, no difference."""

    replicates: int
    arms: int = 2
    noise: str = "normal"
    spread: str = "equal"
    dependence: str = "none"
    missing: float = 0.0

    def draw(self, rng: np.random.Generator, studies: int) -> tuple[Array, Array]:
        """Values (S, R, A) and which of them exist."""
        shape = (studies, self.replicates, self.arms)
        draw = NOISES[self.noise]
        y_SRA = draw(rng, shape)
        if self.dependence == "side":
            sides = draw(rng, (*shape[:2], 2))
            y_SRA = 0.5 * y_SRA + np.tile(sides, (1, 1, self.arms // 2))
        elif self.dependence == "any":
            mix_SAA = rng.standard_normal((studies, self.arms, self.arms))
            y_SRA = np.einsum("srb,sab->sra", y_SRA, mix_SAA) / np.sqrt(self.arms)
        elif self.dependence == "scaled":
            y_SRA = 0.5 * y_SRA + 3.0 * draw(rng, (*shape[:2], 1))
        y_SRA = y_SRA * self.scale_A
        if self.dependence == "replicate":
            y_SRA = y_SRA + 3.0 * draw(rng, (*shape[:2], 1))
        return y_SRA, rng.random(shape) >= self.missing

    @property
    def scale_A(self) -> Array:
        """How large each arm's noise is."""
        scale_A = np.ones(self.arms)
        who, _, size = self.spread.partition(" ")
        if who == "one":
            scale_A[0] = float(size[:-1])
        elif who == "side":
            scale_A[::2] = float(size[:-1])
        return scale_A


def cells_of(y_SRA: Array, exists_SRA: Array) -> tuple[Array, Array]:
    """Differences (S, R, C) of neighbouring arms, and which pairs exist."""
    d_SRC = y_SRA[..., ::2] - y_SRA[..., 1::2]
    mask_SRC = exists_SRA[..., ::2] & exists_SRA[..., 1::2]
    return np.where(mask_SRC, d_SRC, 0.0), mask_SRC


@dataclass(frozen=True)
class PromptWorld:
    """Differences of matched cells by replicate and prompt, of a contrast that is 0 over both.

    Standard deviations are of what is drawn: a replicate's own, a replicate's in one cell, a
    prompt's, a prompt's in one cell, and what is left of all of them together.
    """

    replicates: int
    prompts: tuple[int, ...]
    """Prompts in each stratum."""
    weights: tuple[float, ...] = ()
    """Weight of each stratum, of sum 1; none given: equal."""
    cells: int = 1
    seed: float = 1.0
    seed_cell: float = 0.0
    prompt: float = 1.0
    prompt_cell: float = 0.0
    rest: float = 1.0
    noise: str = "normal"
    missing: float = 0.0
    """Share of pairs that are missing."""

    @property
    def omega_K(self) -> Array:
        count = len(self.prompts)
        return np.array(self.weights or [1.0 / count] * count)

    def draw(self, rng: np.random.Generator, studies: int) -> tuple[list[Array], Array]:
        """For each stratum differences (S, R, C, P), and which pairs exist (S, R, C)."""
        draw, shape = NOISES[self.noise], (studies, self.replicates, self.cells)
        seeds = self.seed * draw(rng, (*shape[:2], 1)) + self.seed_cell * draw(rng, shape)
        strata = []
        for size in self.prompts:
            prompts = self.prompt * draw(rng, (studies, 1, 1, size))
            if self.prompt_cell:
                prompts = prompts + self.prompt_cell * draw(rng, (studies, 1, self.cells, size))
            rest = self.rest * draw(rng, (*shape, size))
            strata.append(seeds[..., None] + prompts + rest)
        return strata, rng.random(shape) >= self.missing
