"""Worlds whose truth is known: values by arm, replicate and prompt, most of them without effect.

Noise has mean 0 and, where it has a variance, variance 1. Suffixes: S studies, R replicates,
A arms, C cells, P prompts.
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
    """Trials of a two-level factor in `arms / 2` cells: even arms against odd ones, no effect."""

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


@dataclass(frozen=True)
class FamilyWorld:
    """Contrasts of one family, each a paired difference in R replicates, their truths by name."""

    replicates: int
    truth: str
    margin: float | None = None
    """In standard errors of a difference."""
    contrasts: int = 5
    shared: bool = True
    """Whether all are against one baseline (correlation 1/2), or each has its own arms."""
    noise: str = "normal"

    @property
    def se(self) -> float:
        """True standard error of a difference of two arms of noise 1."""
        return float(np.sqrt(2.0 / self.replicates))

    @property
    def true_M(self) -> Array:
        """True differences, in units of the noise."""
        at, far = self.margin or 0.0, 100.0
        last = {"far, one at 0": 0.0, "far, one at the margin": at}
        if self.truth in last:
            found = [far] * (self.contrasts - 1) + [last[self.truth]]
        else:
            every = {"all at 0": [0.0], "all at the margin": [at], "0 and the margin": [0.0, at]}
            found = (every[self.truth] * self.contrasts)[: self.contrasts]
        return np.array(found) * self.se

    def draw(self, rng: np.random.Generator, studies: int) -> Array:
        """Differences (S, R, M)."""
        draw, shape = NOISES[self.noise], (studies, self.replicates, self.contrasts)
        other = draw(rng, (*shape[:2], 1) if self.shared else shape)
        return draw(rng, shape) - other + self.true_M


DIVERGES = ("a by chance", "both by chance", "b by chance", "a at its worst", "b at its worst")


@dataclass(frozen=True)
class DivergingWorld:
    """Arms a and b of some cells without effect, of which some trials diverge: a fifth of them."""

    replicates: int
    cells: int
    diverges: str
    noise: str = "normal"

    def draw(self, rng: np.random.Generator, studies: int) -> tuple[Array, Array]:
        """Values (S, R, C, 2) of a and b, and which of them converged."""
        shape = (studies, self.replicates, self.cells, 2)
        y = NOISES[self.noise](rng, shape)
        who, _, when = self.diverges.partition(" ")
        bad = rng.random(shape) < 0.2 if when == "by chance" else y < np.quantile(y, 0.2)
        side = np.array([who in ("a", "both"), who in ("b", "both")])
        return y, ~(bad & side)


@dataclass(frozen=True)
class DistanceWorld:
    """Two arms' distances to a reference, in two features, of recipes that are the same.

    A prompt has content that all its pictures share, also the reference's where that is made of the
    same prompts; a seed moves all pictures of a trial.
    """

    replicates: int
    prompts: int
    distance: str
    """`frechet`, or `kernel` (unbiased, cubic)."""
    same_prompts: bool = False
    """Whether the reference is made of the same prompts, and loses a prompt with them."""
    seed: float = 0.3
    content: float = 1.0
    rest: float = 0.7

    def draw(self, rng: np.random.Generator, studies: int) -> tuple[Array, Array]:
        """Differences of the distance (S, R, 1), and of its pseudo-values (S, R, 1, P)."""
        shape = (studies, self.replicates, 2)
        content = self.content * rng.standard_normal((studies, 1, 1, self.prompts, 2))
        own = 0.5 * rng.standard_normal((studies, 1, 2, self.prompts, 2))
        seeds = self.seed * rng.standard_normal((*shape, 1, 2))
        rest = self.rest * rng.standard_normal((*shape, self.prompts, 2))
        x = 0.4 + seeds + content + own + rest
        if self.same_prompts:
            reference = content + self.rest * rng.standard_normal((studies, 1, 1, self.prompts, 2))
        else:
            spread = np.hypot(self.content, self.rest)
            reference = spread * rng.standard_normal((studies, 1, 1, 200, 2))
        whole, without = DISTANCES[self.distance](x, reference, self.same_prompts)
        psi = self.prompts * whole[..., None] - (self.prompts - 1) * without
        return (whole[..., 0] - whole[..., 1])[..., None], (psi[:, :, 0] - psi[:, :, 1])[:, :, None]


def _moments(x: Array) -> tuple[Array, Array, Array, Array]:
    """Means and covariances of x (..., P, 2), and those without each p in turn."""
    n, outer = x.shape[-2], x[..., :, None] * x[..., None, :]
    sums, squares = x.sum(axis=-2), outer.sum(axis=-3)
    mean, less = sums / n, (sums[..., None, :] - x) / (n - 1)
    cov = (squares - n * mean[..., :, None] * mean[..., None, :]) / (n - 1)
    left = squares[..., None, :, :] - outer - (n - 1) * less[..., :, None] * less[..., None, :]
    return mean, cov, less, left / (n - 2)


def _frechet(mean: Array, cov: Array, mean2: Array, cov2: Array) -> Array:
    """|m - m2|^2 + tr(C + C2 - 2 sqrt(C C2)); in two dimensions the trace of the root is closed."""
    both = np.linalg.det(cov) * np.linalg.det(cov2)
    product = np.einsum("...ij,...ji->...", cov, cov2)
    root = np.sqrt(product + 2.0 * np.sqrt(np.maximum(both, 0.0)))
    traces = np.trace(cov, axis1=-2, axis2=-1) + np.trace(cov2, axis1=-2, axis2=-1)
    return ((mean - mean2) ** 2).sum(axis=-1) + traces - 2.0 * root


def frechet(x: Array, reference: Array, same: bool) -> tuple[Array, Array]:
    """Distances of x (..., P, 2) to the reference, and without each prompt."""
    mean, cov, less_mean, less_cov = _moments(x)
    mean2, cov2, less_mean2, less_cov2 = _moments(reference)
    whole = _frechet(mean, cov, mean2, cov2)
    if same:
        return whole, _frechet(less_mean, less_cov, less_mean2, less_cov2)
    fixed = mean2[..., None, :], cov2[..., None, :, :]
    return whole, _frechet(less_mean, less_cov, *fixed)


def kernel(x: Array, reference: Array, same: bool) -> tuple[Array, Array]:
    """Unbiased squared distance under (x.y / 2 + 1)^3, and without each prompt."""
    n, m = x.shape[-2], reference.shape[-2]

    def within(z: Array) -> tuple[Array, Array]:
        k = (np.einsum("...id,...jd->...ij", z, z) / 2 + 1) ** 3
        rows = k.sum(axis=-1) - np.einsum("...ii->...i", k)
        return rows.sum(axis=-1), rows

    total, rows = within(x)
    total2, rows2 = within(reference)
    across = (np.einsum("...id,...jd->...ij", x, reference) / 2 + 1) ** 3
    sums, rows12, columns12 = across.sum(axis=(-2, -1)), across.sum(axis=-1), across.sum(axis=-2)
    whole = total / (n * (n - 1)) + total2 / (m * (m - 1)) - 2 * sums / (n * m)
    less = (total[..., None] - 2 * rows) / ((n - 1) * (n - 2))
    if not same:
        less2 = (total2 / (m * (m - 1)))[..., None]
        return whole, less + less2 - 2 * (sums[..., None] - rows12) / ((n - 1) * m)
    less2 = (total2[..., None] - 2 * rows2) / ((m - 1) * (m - 2))
    kept = sums[..., None] - rows12 - columns12 + np.einsum("...ii->...i", across)
    return whole, less + less2 - 2 * kept / ((n - 1) * (m - 1))


DISTANCES = {"frechet": frechet, "kernel": kernel}
