"""How often 95 % intervals within a checkpoint hold what new prompts would give: simulated.

Prompts are drawn anew in every repetition, and with them what their items share (correlation
within a prompt). Bound: .93, for shares and for means of normal values. A bootstrap over items
covers .68 of means of two items, and .71 to .83 of shares near 0 and 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import sqrt

import numpy as np
import pytest

from evaluation.frechet import Gaussian
from evaluation.intervals import jackknife_interval, mean_interval
from evaluation.jackknife import prompt_jackknife
from evaluation.kernel import KernelTerms, mean_within
from evaluation.prompts_left_out import LeftOut

BOUND = 0.93


def allowed(repetitions: int) -> float:
    """The bound less what chance does to a simulated rate (2.6 standard errors: 1 in 200)."""
    return BOUND - 2.6 * sqrt(BOUND * (1 - BOUND) / repetitions)


def sizes_of(shape: str, prompts: int, items: int) -> np.ndarray:
    """Items a prompt: all equal, or every second half as many again."""
    more = np.arange(prompts) % 2 * max(1, items // 2) if shape == "mild" else 0
    return np.full(prompts, items) + more


def names_of(sizes: np.ndarray) -> list[str]:
    return [str(p) for p in np.repeat(np.arange(len(sizes)), sizes)]


def shares(
    rng: np.random.Generator, sizes: np.ndarray, share: float, icc: float
) -> Iterator[np.ndarray]:
    """Answers 0 or 1; a prompt's own share is beta with the given correlation of its items."""
    while True:
        own = np.full(len(sizes), share)
        if icc:
            own = rng.beta(share * (1 - icc) / icc, (1 - share) * (1 - icc) / icc, len(sizes))
        yield (rng.random(sizes.sum()) < np.repeat(own, sizes)).astype(float)


def means(rng: np.random.Generator, sizes: np.ndarray, icc: float) -> Iterator[np.ndarray]:
    """Normal values around 0, variance 1."""
    while True:
        common = np.repeat(rng.normal(size=len(sizes)), sizes)
        yield sqrt(icc) * common + sqrt(1 - icc) * rng.normal(size=sizes.sum())


def covered(
    drawn: list[Iterator[np.ndarray]], names: list[list[str]], truth: float, repetitions: int
) -> float:
    """Share of repetitions whose interval of the macro mean over the strata holds the truth."""
    hits = 0
    for _ in range(repetitions):
        values = {str(k): next(one) for k, one in enumerate(drawn)}
        prompts = {str(k): name for k, name in enumerate(names)}
        told = mean_interval("m", values, prompts)
        assert told is not None
        if told["lo"] is None:  # nothing is claimed
            hits += 1
            continue
        hits += told["lo"] <= truth + 1e-12 and told["hi"] >= truth - 1e-12  # type: ignore[operator]
    return hits / repetitions


def check_shares(prompts: int, items: int, icc: float, share: float, shape: str, n: int) -> None:
    rng, sizes = np.random.default_rng([prompts, items]), sizes_of(shape, prompts, items)
    rate = covered([shares(rng, sizes, share, icc)], [names_of(sizes)], share, n)
    assert rate >= allowed(n), rate


def check_means(prompts: int, items: int, icc: float, shape: str, n: int) -> None:
    rng, sizes = np.random.default_rng([prompts, items]), sizes_of(shape, prompts, items)
    rate = covered([means(rng, sizes, icc)], [names_of(sizes)], 0.0, n)
    assert rate >= allowed(n), rate


@pytest.mark.parametrize("prompts", [3, 10, 30])
@pytest.mark.parametrize("icc", [0, 0.3, 0.6])
@pytest.mark.parametrize("share", [0.8, 0.97])
def test_shares_cover(prompts: int, icc: float, share: float) -> None:
    check_shares(prompts, 12, icc, share, "equal", 400)


@pytest.mark.parametrize("prompts", [3, 10, 30])
@pytest.mark.parametrize("icc", [0, 0.3, 0.6])
@pytest.mark.parametrize("shape", ["equal", "mild"])
def test_means_cover(prompts: int, icc: float, shape: str) -> None:
    check_means(prompts, 12, icc, shape, 400)


@pytest.mark.parametrize("items", [2, 3, 5])
def test_means_of_a_few_single_items_cover(items: int) -> None:
    check_means(items, 1, 0, "equal", 1000)


def test_three_strata_of_unequal_spread_cover() -> None:
    """As the toy world: 10, 11 and 13 prompts, 192 items each; shares .99, .9 and .6."""
    rng = np.random.default_rng(5)
    sizes = [np.bincount(np.arange(192) % p) for p in (10, 11, 13)]
    names = [names_of(s) for s in sizes]
    levels = (0.99, 0.9, 0.6)
    drawn = [shares(rng, s, level, 0.4) for s, level in zip(sizes, levels, strict=True)]
    assert covered(drawn, names, float(np.mean(levels)), 400) >= allowed(400)
    values = [means(rng, s, icc) for s, icc in zip(sizes, (0.3, 0.6, 0.1), strict=True)]
    assert covered(values, names, 0.0, 400) >= allowed(400)


def sample(
    rng: np.random.Generator, prompts: int, items: int, width: int, icc: float
) -> np.ndarray:
    common = np.repeat(rng.normal(size=(prompts, width)), items, axis=0)
    own = rng.normal(size=(prompts * items, width))
    return 1.1 * (sqrt(icc) * common + sqrt(1 - icc) * own) + 0.3


def distance_rates(prompts: int, items: int, icc: float, n: int) -> dict[str, float]:
    """Coverage of the expectation at this number of items; of the truth for the corrected one.

    The truth of the Frechet distance is 8 (0.3^2 + 0.1^2); that of the kernel distance, and both
    expectations, are the mean over the repetitions themselves.
    """
    width, rng = 8, np.random.default_rng([prompts, items])
    reference = Gaussian.from_moments(np.zeros(width), np.eye(width))
    data = np.random.default_rng(1).normal(size=(600, width))
    within = mean_within(data)
    names = names_of(np.full(prompts, items))
    rows = []
    for _ in range(n):
        fid, kd = [], []
        for _ in range(3):
            x, left = sample(rng, prompts, items, width, icc), LeftOut.of(names, 24)
            fid.append(left.frechet(x, reference))
            terms = KernelTerms.build(x, data, left.label_N, reference_mean=within)
            kd.append(left.stratum(terms.distance))
        for name, found in (("fid", prompt_jackknife(fid)), ("kd", prompt_jackknife(kd))):
            told = jackknife_interval(name, found, 1)
            rows.append((name, found.value, told["lo"], told["hi"]))
        corrected = prompt_jackknife(fid)
        told = jackknife_interval("corrected", corrected, 1, value=corrected.corrected)
        rows.append(("corrected", 8 * (0.3**2 + 0.1**2), told["lo"], told["hi"]))
    found_rates = {}
    for name in ("fid", "kd", "corrected"):
        of = np.array([row[1:] for row in rows if row[0] == name], dtype=float)
        truth = of[:, 0].mean()
        found_rates[name] = float(((of[:, 1] <= truth) & (truth <= of[:, 2])).mean())
    return found_rates


def test_distances_cover() -> None:
    for rate in distance_rates(16, 2, 0.4, 120).values():
        assert rate >= allowed(120)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts", "items", "shape"), list(product((3, 5, 10, 30, 192), (1, 4, 19), ("equal", "mild")))
)
def test_shares_and_means_cover_everywhere(prompts: int, items: int, shape: str) -> None:
    for icc in (0, 0.3, 0.6):
        check_means(prompts, items, icc, shape, 1000)
        for share in (0.5, 0.8, 0.9, 0.95, 0.98):
            check_shares(prompts, items, icc, share, shape, 1000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts", "items", "icc"), list(product((10, 24), (3, 6), (0, 0.3, 0.6)))
)
def test_distances_cover_everywhere(prompts: int, items: int, icc: float) -> None:
    rates = distance_rates(prompts, items, icc, 200)
    for name in ("fid", "kd") if prompts < 16 else ("fid", "kd", "corrected"):
        assert rates[name] >= allowed(200), (name, rates)
