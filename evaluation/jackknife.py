"""Jackknives: the spread of a statistic when one group of samples is left out.

Chosen for distances because the plain bootstrap is wrong there: repeated samples shrink the
effective sample size, and the bootstrap distribution sits one extra bias above the estimate.

For an interval whole prompts are left out, one stratum (category) at a time. The statistic is the
mean over K strata; with D_k the distance of one, G_k groups of prompts, D_k(-g) without group g:

    SE^2 = sum_k (1/K)^2 (G_k - 1)/G_k sum_g (D_k(-g) - their mean)^2

which is the variance over prompts of the pseudo-values G D - (G - 1) D(-g), over G. Degrees of
freedom after Welch and Satterthwaite, G_k - 1 each. Simulated for the Frechet distance (8 and 16
features, 10 and 24 prompts, 2 to 6 samples a feature, correlation within a prompt 0 to .6): 95 %
intervals covered .94 to 1.00, those of the bias-corrected distance .91 to 1.00.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Groups = NDArray[np.int64]


@dataclass(frozen=True)
class Jackknife:
    """A statistic with its delete-group jackknife.

    Attributes:
        value: the statistic on all samples.
        se: standard error, sqrt((G-1)/G * sum (value_g - mean)^2).
        corrected: G*value - (G-1)*mean: free of a bias that falls as 1/N, and only of that. A
            Frechet distance with about as many samples as features (96 of 64) has further terms
            and is over-corrected; several times as many samples cure it.
        n_groups: G; an interval has G-1 degrees of freedom.
    """

    value: float
    se: float
    corrected: float
    n_groups: int


def assign_groups(n_samples: int, n_groups: int, seed: int = 0) -> Groups:
    """A label in [0, n_groups) for each sample; group sizes differ by one at most.

    The assignment depends on (n_samples, n_groups, seed) only, so that two checkpoints measured on
    the same items leave out the same items.

    Raises:
        ValueError: fewer than two groups, or fewer than two samples a group.
    """
    if n_groups < 2 or n_samples < 2 * n_groups:
        raise ValueError(
            f"{n_groups=} with {n_samples=}: need at least 2 groups of at least 2 samples"
        )
    return np.random.default_rng(seed).permutation(np.arange(n_samples) % n_groups)


def usable_groups(n_samples: int, n_groups: int) -> int:
    """The largest number of groups, up to `n_groups`, that leaves two samples in each."""
    return max(2, min(n_groups, n_samples // 2))


def delete_group_jackknife(statistic: Callable[[int | None], float], n_groups: int) -> Jackknife:
    """Jackknife a statistic that can leave out a group.

    Args:
        statistic: called with None for the value on all samples, with g for the value without
            group g. With several strata, it leaves out group g of each stratum at once.
        n_groups: G.
    """
    value = statistic(None)
    without_G = np.array([statistic(group) for group in range(n_groups)])
    mean = float(without_G.mean())
    variance = (n_groups - 1) / n_groups * float(((without_G - mean) ** 2).sum())
    return Jackknife(
        value=value,
        se=float(np.sqrt(variance)),
        corrected=n_groups * value - (n_groups - 1) * mean,
        n_groups=n_groups,
    )


@dataclass(frozen=True)
class Stratum:
    """One category of a distance, that can leave out a group of its prompts.

    Attributes:
        distance: called with None for the value on all samples, with g for that without group g.
        groups: G; a group is a prompt, or several.
        prompts: how many prompts there are.
        why_not: why groups cannot be left out; empty where they can.
    """

    distance: Callable[[int | None], float]
    groups: int
    prompts: int
    why_not: str = ""


@dataclass(frozen=True)
class PromptJackknife:
    """The mean over strata of a distance, with its spread over prompts.

    Attributes:
        value: the mean on all samples.
        se: standard error over prompts.
        df: its degrees of freedom.
        corrected: the mean over strata of G D - (G - 1) mean D(-g).
        method: over what, for a reader.
        why: why there is no standard error; empty where there is one.
    """

    value: float
    se: float = 0.0
    df: float = 0.0
    corrected: float = 0.0
    method: str = ""
    why: str = ""


def prompt_groups(prompts: Sequence[str], most: int) -> Groups:
    """A label in [0, G) for each sample: its prompt, or one of `most` groups of prompts.

    The assignment depends on the set of prompts and `most` only, so that two checkpoints measured
    on the same prompts leave out the same.
    """
    names, which = np.unique(np.asarray(prompts), return_inverse=True)
    if len(names) <= most:
        return which.astype(np.int64)
    label_P = np.random.default_rng(0).permutation(np.arange(len(names)) % most)
    return label_P[which]


def prompt_jackknife(strata: Sequence[Stratum], scale: float = 1.0) -> PromptJackknife:
    """Jackknife the mean over strata, times `scale`, by leaving out groups of prompts.

    Without a standard error where a stratum has one prompt, or cannot do without one.
    """
    whole = [stratum.distance(None) for stratum in strata]
    value = scale * float(np.mean(whole))
    for stratum in strata:
        if stratum.groups < 2 or stratum.why_not:
            why = stratum.why_not or "a category has one prompt, which says nothing of others"
            return PromptJackknife(value, why=why)
    variance = fourth = 0.0
    corrected = []
    for stratum, distance in zip(strata, whole, strict=True):
        groups = stratum.groups
        without_G = np.array([stratum.distance(group) for group in range(groups)])
        part = (groups - 1) / groups * float(((without_G - without_G.mean()) ** 2).sum())
        part *= (scale / len(strata)) ** 2
        variance += part
        fourth += part**2 / (groups - 1)
        corrected.append(groups * distance - (groups - 1) * float(without_G.mean()))
    if variance == 0:
        return PromptJackknife(value, why="leaving out any prompt changes nothing")
    prompts, groups = sum(s.prompts for s in strata), sum(s.groups for s in strata)
    method = f"{prompts} prompts" + (f" in {groups} groups" if groups < prompts else "")
    return PromptJackknife(
        value,
        sqrt(variance),
        variance**2 / fourth,
        scale * float(np.mean(corrected)),
        method,
    )
