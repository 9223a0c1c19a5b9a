"""The grid: every rule in worlds of known truth, how often it is wrong, and what it promises.

A cell counts hits among studies. Its bound is on the share of hits: at most (`most`) or at least
(`least`) so many; a cell without a bound is beyond what is promised, and is only recorded.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from harness.analysis.divergence import winner_filled
from harness.analysis.inference import Estimated, Group, one_group, over_seeds
from harness.analysis.kinds import Linear, More, TimeDifference
from harness.planning.crossing import crossing
from tests.statistics import twins
from tests.statistics.worlds import (
    DIVERGES,
    NOISES,
    Array,
    DistanceWorld,
    DivergingWorld,
    FamilyWorld,
    PromptWorld,
    SeedWorld,
    cells_of,
    normal,
)

Count = Callable[[np.random.Generator, int], tuple[int, int]]
"""A generator and how many studies, to hits and the studies among which they were counted."""

REPLICATES = (2, 3, 4, 6, 10)
PROMPTS = (10, 30, 192)
ARMS = (2, 4, 8, 12)
ALPHA = 0.05
CHUNK = 500
"""Studies drawn at once where a study is large."""
ERRORS = 3.0
"""Monte-Carlo standard errors that a rate may lie beyond its bound."""


@dataclass(frozen=True)
class Cell:
    """One rule in one world."""

    rule: str
    labels: dict[str, object]
    count: Count = field(repr=False)
    most: float | None = None
    least: float | None = None
    fast: bool = False
    """Whether it is among those that always run."""

    @property
    def name(self) -> str:
        return " ".join([self.rule, *(f"{k}={v}" for k, v in self.labels.items())])

    def run(self, studies: int) -> tuple[int, int]:
        """Hits and studies counted; the same every time."""
        return self.count(np.random.default_rng(zlib.crc32(self.name.encode())), studies)

    def holds(self, hits: int, n: int) -> bool:
        """Whether the share of hits keeps the bound, but for Monte-Carlo error."""
        for bound, side in ((self.most, 1.0), (self.least, -1.0)):
            if bound is not None:
                error = math.sqrt(bound * (1 - bound) / max(n, 1))
                if side * (hits / max(n, 1) - bound) > ERRORS * error:
                    return False
        return True


def grid() -> Iterator[Cell]:
    """All cells."""
    yield from seeds()
    yield from shares()
    yield from power()
    yield from prompts()
    yield from distances()
    yield from family()
    yield from kinds()
    yield from training()
    yield from divergence()


# P1


def seeds() -> Iterator[Cell]:
    """False positives of the narrow claim at 5 %."""
    spreads = ("equal", "one 2x", "one 5x", "side 2x", "side 5x")
    shared = ("none", "replicate", "scaled", "side", "any")
    for r, arms, missing in product(REPLICATES, ARMS, (0.0, 0.05)):
        for noise, spread, dependence in product(
            ("normal", "t3", "skewed", "lognormal"), spreads, shared
        ):
            world = SeedWorld(r, arms, noise, spread, dependence, missing)
            tame = noise in ("normal", "t3")
            mild = (
                noise == "skewed"
                and spread in ("equal", "one 2x", "side 2x")
                and dependence in ("none", "replicate", "side")
            )
            if not tame and dependence not in ("none", "replicate", "side"):
                continue
            most = 0.06 if tame else 0.08 if mild else None
            fast = arms in (2, 12) and missing in (0.0, 0.05) and spread != "side 5x"
            fast = fast and (
                dependence == "scaled" or (spread == "one 2x" and dependence == "side")
            )
            yield Cell(
                "seeds",
                {
                    "replicates": r,
                    "arms": arms,
                    "missing": missing,
                    "noise": noise,
                    "spread": spread,
                    "dependence": dependence,
                },
                false_positives(world),
                most=most,
                fast=(fast and noise != "lognormal") or (mild and fast),
            )


def false_positives(world: SeedWorld) -> Count:
    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        found = twins.over_seeds(*cells_of(*world.draw(rng, studies)))
        judged_S = found.judged_S
        return int((found.p_S[judged_S] < ALPHA).sum()), int(judged_S.sum())

    return count


def shares() -> Iterator[Cell]:
    """False positives of shares of 192 items, where few differ and many replicates are the same."""
    for r, p, cells in product(REPLICATES, (0.5, 0.9, 0.98, 0.995), (1, 3)):
        labels = {"replicates": r, "share": p, "cells": cells}
        yield Cell("shares", labels, share_positives(r, p, cells), most=0.06, fast=p > 0.95)


def share_positives(r: int, p: float, cells: int) -> Count:
    """Among all studies: one without spread is undecided."""

    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        a, b = rng.binomial(192, p, (2, studies, r, cells)).astype(float)
        found = twins.over_seeds(a - b, np.ones(a.shape, dtype=bool))
        return int((found.p_S < ALPHA).sum()), studies

    return count


def power() -> Iterator[Cell]:
    """How much more often every matched pair finds an effect than complete replicates do.

    A hit is a study decided by all pairs and not by complete replicates only; counted among those
    that one of the two alone decides.
    """
    for r, arms, missing in product(REPLICATES, (4, 8, 12), (0.02, 0.05)):
        world = SeedWorld(r, arms, missing=missing)
        yield Cell(
            "power",
            {"replicates": r, "arms": arms, "missing": missing},
            gained(world, EFFECT[r]),
            least=0.5,
            fast=missing == 0.05 and arms != 8,
        )
        for which, name in enumerate(("every pair", "complete replicates only")):
            labels = {"replicates": r, "arms": arms, "missing": missing}
            yield Cell(f"power of {name}", labels, found_by(world, EFFECT[r], which))


EFFECT = {2: 6.0, 3: 2.0, 4: 1.2, 6: 0.8, 10: 0.55}
"""Differences in units of the noise that four arms find in a third of studies or so."""


def decided(world: SeedWorld, effect: float, rng: np.random.Generator, studies: int) -> Array:
    """Which studies are decided by all pairs, and by complete replicates only."""
    y_SRA, exists_SRA = world.draw(rng, studies)
    y_SRA[..., ::2] += effect
    d_SRC, mask_SRC = cells_of(y_SRA, exists_SRA)
    complete = mask_SRC & mask_SRC.all(axis=2, keepdims=True)
    found = [twins.over_seeds(d_SRC, mask).p_S < ALPHA for mask in (mask_SRC, complete)]
    return np.array(found)


def found_by(world: SeedWorld, effect: float, which: int) -> Count:
    return lambda rng, studies: (int(decided(world, effect, rng, studies)[which].sum()), studies)


def gained(world: SeedWorld, effect: float) -> Count:
    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        every, complete = decided(world, effect, rng, studies)
        return int((every & ~complete).sum()), int((every ^ complete).sum())

    return count


# P2


SHARES = {
    "seeds and prompts": (1.0, 1.0, 1.0),
    "seeds more": (3.0, 1.0, 1.0),
    "prompts more": (0.3, 1.0, 1.0),
    "few of either": (1.0, 0.3, 1.0),
    "mostly both together": (1.0, 1.0, 3.0),
    "prompts alone": (0.1, 1.0, 0.1),
}
"""What differs, to standard deviations: of a replicate (times the root of the prompts), of a
prompt, and of what is left."""


def prompts() -> Iterator[Cell]:
    """Coverage of intervals over seeds and prompts."""
    for r, p, share, noise in product(REPLICATES, PROMPTS, SHARES, ("normal", "t3", "skewed")):
        seed, prompt, rest = SHARES[share]
        world = PromptWorld(
            r, (p,), seed=seed / math.sqrt(p), prompt=prompt, rest=rest, noise=noise
        )
        labels = {"replicates": r, "prompts": p, "differs": share, "noise": noise}
        # With one source alone the interval is that source's t interval: exactly .95.
        least = 0.95 if noise == "normal" else None
        fast = noise == "normal" and share in ("seeds and prompts", "prompts alone")
        fast = fast and (p < 192 or r == 3)
        yield Cell("prompts", labels, coverage(world, ALPHA), least=least, fast=fast)
        if noise == "normal":
            yield Cell("prompts, seeds alone", labels, coverage(world, ALPHA, narrow=True))
        if noise == "normal" and r <= 4:
            yield Cell("prompts at 1 %", labels, coverage(world, 0.01), least=0.99)
    for r, cells, missing, (name, sizes, weights) in product(
        REPLICATES,
        (1, 2, 4),
        (0.05, 0.15),
        (
            ("one of 30", (30,), ()),
            ("10, 11, 13", (10, 11, 13), ()),
            ("60, 66, 66 weighted", (60, 66, 66), (0.5, 0.3, 0.2)),
        ),
    ):
        total = math.sqrt(sum(sizes))
        for share in ("seeds and prompts", "prompts more", "few of either"):
            seed, prompt, rest = SHARES[share]
            world = PromptWorld(
                r,
                sizes,
                weights,
                cells,
                seed / total,
                seed / total,
                prompt,
                prompt / 2,
                rest,
                missing=missing,
            )
            yield Cell(
                "strata",
                {
                    "replicates": r,
                    "cells": cells,
                    "missing": missing,
                    "strata": name,
                    "differs": share,
                },
                coverage(world, ALPHA),
                least=0.943,
                fast=name == "10, 11, 13" and cells == 2 and share == "prompts more",
            )


def coverage(world: PromptWorld, alpha: float, *, narrow: bool = False) -> Count:
    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        hits = n = 0
        for size in chunks(studies):
            strata, mask_SRC = world.draw(rng, size)
            means = [o * x.mean(axis=-1) for o, x in zip(world.omega_K, strata, strict=True)]
            seed = twins.over_seeds(np.sum(means, axis=0), mask_SRC)
            over = twins.over_prompts(strata, world.omega_K, mask_SRC)
            half_S = twins.half_width(seed, None if narrow else over, alpha)
            inside = np.abs(seed.difference_S) <= half_S
            hits += int(inside[seed.judged_S].sum())
            n += int(seed.judged_S.sum())
        return hits, n

    return count


def distances() -> Iterator[Cell]:
    """Coverage over seeds and prompts of distances, by pseudo-values; and over seeds alone."""
    for r, p, distance, same, seeds_move in product(
        (2, 3, 6), (10, 30, 192), ("frechet", "kernel"), (False, True), ("much", "little")
    ):
        if p == 192 and distance == "kernel":
            continue  # prompts x prompts of every trial: an hour for what 30 tell
        world = DistanceWorld(r, p, distance, same, 0.3 if seeds_move == "much" else 0.03)
        reference = "same prompts" if same else "fixed"
        labels = {
            "replicates": r,
            "prompts": p,
            "distance": distance,
            "reference": reference,
            "seeds move": seeds_move,
        }
        fast = p == 30 and r == 3
        least = 0.943 if p > 10 else None
        yield Cell("distances", labels, distance_coverage(world), least=least, fast=fast)
        yield Cell("distances, seeds alone", labels, distance_coverage(world, narrow=True))


def distance_coverage(world: DistanceWorld, *, narrow: bool = False) -> Count:
    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        hits = 0
        for size in chunks(studies, CHUNK // 5):
            d_SRC, psi_SRCP = world.draw(rng, size)
            mask = np.ones(d_SRC.shape, dtype=bool)
            seed = twins.over_seeds(d_SRC, mask)
            over = None if narrow else twins.over_prompts([psi_SRCP], np.ones(1), mask)
            hits += int((np.abs(seed.difference_S) <= twins.half_width(seed, over, ALPHA)).sum())
        return hits, studies

    return count


# P3


def family() -> Iterator[Cell]:
    """Studies with at least one wrong verdict among those planned."""
    margins = (1.5, 2.0, 3.0, 5.0, 10.0, 20.0)
    truths = ("all at 0", "all at the margin", "far, one at 0", "far, one at the margin")
    for r, shared, m, noise in product(REPLICATES, (True, False), (2, 5, 12), ("normal", "t3")):
        for truth, margin in [
            *product(("all at 0", "far, one at 0"), (None,)),
            *product((*truths, "0 and the margin"), margins),
        ]:
            if m != 5 and margin not in (None, 2.0, 5.0):
                continue
            world = FamilyWorld(r, truth, margin, m, shared, noise)
            yield Cell(
                "family",
                {
                    "replicates": r,
                    "truth": truth,
                    "margin": f"{margin} SE" if margin else "none",
                    "contrasts": m,
                    "baseline": "shared" if shared else "own",
                    "noise": noise,
                },
                familywise(world),
                most=0.058,
                fast=noise == "normal" and m == 5 and shared and margin in (None, 2.0, 5.0),
            )


def familywise(world: FamilyWorld) -> Count:
    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        mean, se, df = twins.paired(world.draw(rng, studies))
        margin = (world.margin or 0.0) * world.se
        codes = twins.step_down(mean, se, np.full(mean.shape, df), margin, ALPHA)
        return int(twins.wrong(codes, world.true_M, margin).any(axis=1).sum()), studies

    return count


# P5


def kinds() -> Iterator[Cell]:
    """Each kind of contrast at 5 %."""
    spreads = ("equal", "the best 5x", "another 5x")
    for r, k, spread, truth in product(
        REPLICATES, (3, 5, 12), spreads, ("all the same", "one better")
    ):
        yield Cell(
            "best set keeps the best",
            {"replicates": r, "levels": k, "spread": spread, "truth": truth},
            keeps_best(r, k, spread, truth),
            least=0.95,
            fast=k == 5 and truth == "all the same",
        )
    for r, effect, spread in product(REPLICATES, (0.0, 1.0, 4.0, 20.0), (1.0, 5.0)):
        yield Cell(
            "more, both move it the same",
            {"replicates": r, "effect": f"{effect:g} SE", "spread": f"{spread:g}x"},
            says_more(r, effect, spread),
            most=0.052,
            fast=effect in (1.0, 20.0) and spread == 5.0,
        )
    for r, spread in product(REPLICATES, (1.0, 5.0)):
        yield Cell(
            "more, pairs missing",
            {"replicates": r, "spread": f"{spread:g}x"},
            says_more_of_pairs(r, spread),
            most=0.06,
            fast=r == 3,
        )
    for r, k, truth in product(REPLICATES, (3, 5, 8), ("flat", "one at the margin", "all at it")):
        for what in ("collapses", "holds"):
            if truth == "flat" and what == "holds":
                continue  # true
            yield Cell(
                f"{what}, wrongly",
                {"replicates": r, "cycles": k, "truth": truth},
                says_collapse(r, k, truth, what),
                most=0.051,
                fast=k == 5,
            )
    for r, k in product(REPLICATES, (3, 8)):
        labels = {"replicates": r, "cycles": k}
        yield Cell("band covers all cycles", labels, band_covers(r, k), least=0.95, fast=k == 8)
        yield Cell("trend, slopes random", labels, trend(r, k), most=0.06, fast=k == 8)
        yield Cell("trend by ranks", labels, page(r, k))


def keeps_best(r: int, levels: int, spread: str, truth: str) -> Count:
    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        y_SRK = normal(rng, (studies, r, levels))
        if spread != "equal":
            y_SRK[..., 0 if spread == "the best 5x" else 1] *= 5.0
        y_SRK = y_SRK + normal(rng, (studies, r, 1))
        y_SRK[..., 0] += 0.0 if truth == "all the same" else 0.5
        return int(twins.best(y_SRK, ALPHA)[:, 0].sum()), studies

    return count


def says_more(r: int, effect: float, spread: float) -> Count:
    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        at = effect * math.hypot(1.0, spread) / math.sqrt(r)
        a_SR, b_SR = at + normal(rng, (studies, r)), at + spread * normal(rng, (studies, r))
        return int((twins.more(a_SR, b_SR, ALPHA) != 0).sum()), studies

    return count


def says_more_of_pairs(r: int, spread: float) -> Count:
    """Two factors of one large effect and a third, 12 arms, 5 % missing; by the product itself."""
    arms = list(product((0, 1), (0, 1), range(3)))
    first = [{f"1{y}{z}": 1.0, f"0{y}{z}": -1.0} for y, z in product((0, 1), range(3))]
    second = [{f"{x}1{z}": 1.0, f"{x}0{z}": -1.0} for x, z in product((0, 1), range(3))]

    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        hits = n = 0
        for _ in range(studies):
            values = {}
            for i, (x, y, z) in enumerate(arms):
                own = normal(rng, (r,)) * (spread if i == 0 else 1.0) + 10.0 * (x + y)
                exists = rng.random(r) >= 0.05
                values[f"{x}{y}{z}"] = {k: float(own[k]) for k in range(r) if exists[k]}
            minus, plus = (
                Estimated(over_seeds(values, (Group(tuple(first)), Group(tuple(second), sign))))
                for sign in (-1.0, 1.0)
            )
            n += minus.judged and plus.judged
            hits += More(minus, plus).at(ALPHA).verdict != "undecided"
        return hits, n

    return count


def says_collapse(r: int, cycles: int, truth: str, what: str) -> Count:
    margin = 1.0

    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        y_SRC = 0.35 * normal(rng, (studies, r, cycles)) + normal(rng, (studies, r, 1))
        earlier = {"flat": slice(0), "one at the margin": slice(1), "all at it": slice(-1)}[truth]
        y_SRC[..., earlier] += margin
        said = dict(zip(("collapses", "holds"), twins.collapse(y_SRC, margin, ALPHA), strict=True))
        return int(said[what].sum()), studies

    return count


def band_covers(r: int, cycles: int) -> Count:
    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        d_SRK = np.cumsum(normal(rng, (studies, r, cycles)), axis=2)
        mean, se, df = twins.paired(d_SRK)
        half = twins.quantile(np.array(df), ALPHA / cycles) * se
        return int((np.abs(mean) <= half).all(axis=1).sum()), studies

    return count


def slopes(r: int, levels: int, rng: np.random.Generator, studies: int) -> tuple[Array, Array]:
    """Values at evenly spaced levels, each replicate with a slope of its own; and the scores."""
    x_K = np.linspace(-1.0, 1.0, levels)
    slope_SR1 = normal(rng, (studies, r, 1))
    return slope_SR1 * x_K + normal(rng, (studies, r, 1)) + normal(rng, (studies, r, levels)), x_K


def trend(r: int, levels: int) -> Count:
    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        y_SRK, x_K = slopes(r, levels, rng, studies)
        d_SRC = (y_SRK @ x_K / (x_K @ x_K))[..., None]
        found = twins.over_seeds(d_SRC, np.ones(d_SRC.shape, dtype=bool))
        return int((found.p_S < ALPHA).sum()), studies

    return count


def page(r: int, levels: int) -> Count:
    """Page's test of ordered levels (1963), with its normal approximation; it decides nothing."""

    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        y_SRK, _ = slopes(r, levels, rng, studies)
        rank_SRK = y_SRK.argsort(axis=2).argsort(axis=2) + 1.0
        total_S = (rank_SRK.sum(axis=1) * np.arange(1, levels + 1)).sum(axis=1)
        middle = r * levels * (levels + 1) ** 2 / 4
        spread = math.sqrt(r * levels**2 * (levels + 1) * (levels**2 - 1) / 144)
        return int((np.abs(total_S - middle) / spread > 1.96).sum()), studies

    return count


def training() -> Iterator[Cell]:
    """Which curve reaches a value sooner, where both are as fast; by the product itself."""
    for r, noise, threshold in product(REPLICATES, ("normal", "t3"), (0.3, 0.7, 0.95)):
        labels = {"replicates": r, "noise": noise, "threshold": threshold}
        count = says_sooner(r, noise, threshold)
        yield Cell("sooner, wrongly", labels, count, most=0.06, fast=noise == "t3")


CYCLES = (25, 50, 100, 150, 200)


def says_sooner(r: int, noise: str, threshold: float) -> Count:
    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        rise_C = 1 - np.exp(-np.array(CYCLES) / 80)
        speed = 0.1 * NOISES[noise](rng, (studies, 2, r, 1))
        y = rise_C + speed + 0.1 * NOISES[noise](rng, (studies, 2, r, len(CYCLES)))
        hits = n = 0
        for both in y:
            times = {
                arm: {
                    i: at
                    for i, row in enumerate(rows)
                    if (at := crossing(dict(zip(CYCLES, row, strict=True)), threshold, rising=True))
                    is not None
                }
                for arm, rows in zip("ab", both.tolist(), strict=True)
            }
            found = Estimated(over_seeds(times, one_group([{"a": 1.0, "b": -1.0}])))
            n += found.judged
            hits += TimeDifference(found).at(ALPHA).verdict != "undecided"
        return hits, n

    return count


def divergence() -> Iterator[Cell]:
    """Wrong verdicts where trials diverge, with the veto and without it; by the product itself."""
    for r, cells, diverges, noise in product(REPLICATES, (1, 3), DIVERGES, ("normal", "t3")):
        world = DivergingWorld(r, cells, diverges, noise)
        labels = {"replicates": r, "cells": cells, "diverges": diverges, "noise": noise}
        fast = noise == "normal" and r in (3, 6) and cells == 3
        # Where a trial diverges because it would be bad, those that converge do differ.
        most = 0.05 if diverges.endswith("by chance") else None
        yield Cell("divergence", labels, says_diverged(world), most=most, fast=fast)
        yield Cell("divergence, no veto", labels, says_diverged(world, veto=False))


def says_diverged(world: DivergingWorld, *, veto: bool = True) -> Count:
    groups = one_group([{f"a{c}": 1.0, f"b{c}": -1.0} for c in range(world.cells)])
    replicates = range(world.replicates)

    def count(rng: np.random.Generator, studies: int) -> tuple[int, int]:
        hits = n = 0
        for y, converged in zip(*world.draw(rng, studies), strict=True):
            values: dict[str, dict[int, float]] = {}
            states: dict[str, dict[int, str]] = {}
            for c, (s, side) in product(range(world.cells), enumerate("ab")):
                arm, ended = f"{side}{c}", converged[:, c, s].tolist()
                values[arm] = {r: float(y[r, c, s]) for r in replicates if ended[r]}
                states[arm] = {r: "done" if ended[r] else "diverged" for r in replicates}
            found = Estimated(over_seeds(values, groups))
            if not found.judged:
                continue
            n += 1
            filled = winner_filled(
                found, values, groups, states, higher_is_better=True, replicates=replicates
            )
            told = filled[0] if veto and filled else None
            hits += Linear(found, None, True, filled=told).at(ALPHA).verdict != "undecided"
        return hits, n

    return count


def chunks(studies: int, size: int = CHUNK) -> Iterator[int]:
    """Sizes that add up to the studies."""
    while studies > 0:
        yield min(size, studies)
        studies -= size
