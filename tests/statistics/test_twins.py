"""The simulations' twins against the product: what is simulated is what is shipped."""

from __future__ import annotations

import numpy as np
import pytest

from harness.analysis import kinds
from harness.analysis.inference import (
    ByPrompt,
    Estimated,
    OverSeeds,
    estimate,
    one_group,
    over_seeds,
)
from harness.analysis.step_down import step_down
from harness.journal.prompt_values import PromptValues
from tests.statistics import twins
from tests.statistics.worlds import (
    DISTANCES,
    Array,
    DistanceWorld,
    PromptWorld,
    SeedWorld,
    cells_of,
)

STUDIES = 60
CODES = {
    "improves": twins.IMPROVES,
    "improves (size unsettled)": twins.UNSETTLED,
    "undecided": twins.UNDECIDED,
    "equivalent": twins.EQUIVALENT,
    "harms (size unsettled)": -twins.UNSETTLED,
    "harms": -twins.IMPROVES,
}


def table(y_RA: Array, exists_RA: Array) -> dict[str, dict[int, float]]:
    return {
        f"arm{a}": {r: float(y_RA[r, a]) for r in range(len(y_RA)) if exists_RA[r, a]}
        for a in range(y_RA.shape[1])
    }


def pair_of(c: int) -> dict[str, float]:
    return {f"arm{2 * c}": 1.0, f"arm{2 * c + 1}": -1.0}


@pytest.mark.parametrize("missing", [0.0, 0.05, 0.3, 0.6])
@pytest.mark.parametrize(("replicates", "arms"), [(2, 2), (2, 8), (3, 4), (6, 2), (6, 12)])
def test_over_seeds(replicates: int, arms: int, missing: float) -> None:
    world = SeedWorld(replicates, arms, spread="one 5x", missing=missing)
    y_SRA, exists_SRA = world.draw(np.random.default_rng(replicates * arms), STUDIES)
    twin = twins.over_seeds(*cells_of(y_SRA, exists_SRA))
    groups = one_group([pair_of(c) for c in range(arms // 2)])
    for s in range(STUDIES):
        found = over_seeds(table(y_SRA[s], exists_SRA[s]), groups)
        assert bool(twin.judged_S[s]) == (found.se is not None)
        if found.se is not None:
            assert twin.difference_S[s] == pytest.approx(found.difference, rel=1e-9)
            assert twin.se_S[s] == pytest.approx(found.se, rel=1e-9)
            assert twin.df_S[s] == pytest.approx(found.df, rel=1e-9)
            assert twin.p_S[s] == pytest.approx(Estimated(found).p(), rel=1e-8)


WORLDS = [
    PromptWorld(2, (10,)),
    PromptWorld(6, (30,), rest=3.0),
    PromptWorld(3, (10, 11, 13), (0.5, 0.3, 0.2), cells=2, prompt_cell=0.5, missing=0.15),
    PromptWorld(4, (5, 7), cells=4, seed_cell=1.0, missing=0.3),
    PromptWorld(2, (5, 7), cells=3, missing=0.3),
]


@pytest.mark.parametrize("world", WORLDS, ids=str)
def test_over_seeds_and_prompts(world: PromptWorld) -> None:
    strata, mask_SRC = world.draw(np.random.default_rng(1), STUDIES)
    means = [o * x.mean(axis=-1) for o, x in zip(world.omega_K, strata, strict=True)]
    seeds = twins.over_seeds(np.sum(means, axis=0), mask_SRC)
    over = twins.over_prompts(strata, world.omega_K, mask_SRC)
    halves = {alpha: twins.half_width(seeds, over, alpha) for alpha in (0.05, 0.01)}
    groups = one_group([pair_of(c) for c in range(world.cells)])
    judged = 0
    for s in range(STUDIES):
        values, tables = trials(strata, world.omega_K, mask_SRC, s)
        found = estimate(values, groups, ByPrompt.of(tables) if tables else None)
        assert bool(seeds.judged_S[s]) == found.judged
        if not found.judged:
            continue
        judged += 1
        assert found.prompts is not None
        assert found.difference == pytest.approx(seeds.difference_S[s], rel=1e-8, abs=1e-12)
        assert found.prompts.variance == pytest.approx(over.variance_S[s], rel=1e-8)
        assert found.prompts.both == pytest.approx(over.both_S[s], rel=1e-8, abs=1e-12)
        assert found.prompts.df == pytest.approx(over.df_S[s], rel=1e-8)
        for alpha, half_S in halves.items():
            assert found.half_width(alpha) == pytest.approx(half_S[s], rel=1e-8)
        p = found.p()
        assert p is not None
        if 1e-12 < p < 1:
            assert found.half_width(p) == pytest.approx(abs(found.difference or 0), rel=1e-6)
    assert judged > STUDIES / 3


def trials(
    strata: list[Array], omega_K: Array, mask_SRC: Array, s: int
) -> tuple[dict[str, dict[int, float]], dict[tuple[str, int], PromptValues]]:
    """Arms and values by prompt whose paired differences are those drawn."""
    rng = np.random.default_rng(s)
    values: dict[str, dict[int, float]] = {}
    tables = {}
    weights = {f"s{k}": float(o) for k, o in enumerate(omega_K)}
    for r, c in zip(*np.nonzero(mask_SRC[s]), strict=True):
        base = [rng.standard_normal(x.shape[-1]) for x in strata]
        for arm, add in ((2 * c, 1.0), (2 * c + 1, 0.0)):
            rows = [b + add * x[s, r, c] for b, x in zip(base, strata, strict=True)]
            by_prompt = {
                f"s{k}": {f"p{p}": float(v) for p, v in enumerate(row)}
                for k, row in enumerate(rows)
            }
            tables[f"arm{arm}", int(r)] = PromptValues(weights, by_prompt)
            mean = sum(o * row.mean() for o, row in zip(omega_K, rows, strict=True))
            values.setdefault(f"arm{arm}", {})[int(r)] = float(mean)
    return values, tables


@pytest.mark.parametrize("distance", ["frechet", "kernel"])
@pytest.mark.parametrize("same", [True, False])
def test_distances_without_a_prompt(distance: str, same: bool) -> None:
    """The closed forms of deleting a prompt, against leaving it out."""
    rng = np.random.default_rng(5)
    x, reference = rng.standard_normal((12, 2)), 0.3 + rng.standard_normal((12, 2))
    whole, less = DISTANCES[distance](x, reference, same)
    assert whole == pytest.approx(plain(distance, x, reference), rel=1e-9)
    for p in range(12):
        kept = np.arange(12) != p
        other = plain(distance, x[kept], reference[kept] if same else reference)
        assert less[p] == pytest.approx(other, rel=1e-9)
    world = DistanceWorld(3, 8, distance, same)
    d_SRC, psi_SRCP = world.draw(rng, 4)
    assert d_SRC.shape == (4, 3, 1)
    assert psi_SRCP.shape == (4, 3, 1, 8)


def plain(distance: str, x: Array, y: Array) -> float:
    if distance == "frechet":
        from scipy.linalg import sqrtm

        cx, cy = np.cov(x.T), np.cov(y.T)
        gap = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum()
        return float(gap + np.trace(cx + cy - 2 * sqrtm(cx @ cy).real))
    from sklearn.metrics.pairwise import polynomial_kernel

    def k(a: Array, b: Array) -> Array:
        return np.asarray(polynomial_kernel(a, b, degree=3, gamma=0.5, coef0=1))

    n, m = len(x), len(y)
    within = [(k(z, z).sum() - np.trace(k(z, z))) / (len(z) * (len(z) - 1)) for z in (x, y)]
    return float(sum(within) - 2 * k(x, y).sum() / (n * m))


def linear(mean: float, se: float, df: float, margin: float | None = None) -> kinds.Linear:
    return kinds.Linear(Estimated(OverSeeds(int(df) + 1, mean, se, df)), margin, True)


@pytest.mark.parametrize("margin", [None, 0.8, 3.0])
@pytest.mark.parametrize("contrasts", [1, 3, 7])
def test_step_down(contrasts: int, margin: float | None) -> None:
    rng = np.random.default_rng(contrasts)
    difference = rng.normal(0, 4, (4 * STUDIES, contrasts)).round(3)
    se = rng.uniform(0.1, 1.0, difference.shape)
    df = rng.integers(1, 12, difference.shape).astype(float)
    codes = twins.step_down(difference, se, df, margin or 0.0, 0.05)
    for s in range(len(difference)):
        members = [linear(*row, margin) for row in zip(difference[s], se[s], df[s], strict=True)]
        found = [CODES[d.reading.verdict] for d in step_down(members, 0.05)]
        assert found == codes[s].tolist()
    assert len(np.unique(codes)) >= (3 if margin is None else 5)


@pytest.mark.parametrize("replicates", [2, 3, 6])
def test_kinds(replicates: int) -> None:
    rng = np.random.default_rng(replicates)
    y_SRK = rng.normal(0, 0.4, (STUDIES, replicates, 4)) + np.array([1.5, 1.2, 0.6, 0.0])
    kept = twins.best(y_SRK, 0.05)
    signs = twins.more(y_SRK[..., 0], y_SRK[..., 2] - 1.0, 0.05)
    lost, held = twins.collapse(y_SRK, 0.9, 0.05)
    said = set()
    for s, y_RK in enumerate(y_SRK):
        names = tuple(f"arm{k}" for k in range(4))
        values = table(y_RK, np.ones(y_RK.shape, dtype=bool))

        def contrast(
            *cell: tuple[str, float], values: dict[str, dict[int, float]] = values
        ) -> Estimated:
            return estimate(values, one_group([dict(cell)]))

        pairs = {(i, j): contrast((i, 1.0), (j, -1.0)) for i, j in kinds.all_pairs(names)}
        found = kinds.Best(names, pairs, True).kept(0.05)
        assert found == tuple(n for n, k in zip(names, kept[s], strict=True) if k)

        values["shifted"] = {r: v - 1.0 for r, v in values["arm2"].items()}
        minus = contrast(("arm0", 1.0), ("shifted", -1.0))
        plus = contrast(("arm0", 1.0), ("shifted", 1.0))
        verdict = kinds.More(minus, plus).at(0.05).verdict
        assert {"more": 1.0, "less": -1.0, "undecided": 0.0}[verdict] == signs[s]

        losses = {k: contrast((f"arm{k}", 1.0), ("arm3", -1.0)) for k in range(3)}
        verdict = kinds.Collapse(losses, 0.9).at(0.05).verdict
        assert (verdict == "collapses", verdict == "holds") == (lost[s], held[s])
        said |= {verdict, f"{len(found)} kept"}
    assert len(said) >= 4
