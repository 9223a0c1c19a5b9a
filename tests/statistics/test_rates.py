"""Every rule keeps its promise in worlds of known truth: a part of them always, all slow."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.analysis.inference import Estimated, one_group, over_seeds
from tests.statistics import rates
from tests.statistics.worlds import SeedWorld

STUDIES = {
    "seeds": 3000,
    "prompts": 2000,
    "strata": 2000,
    "distances": 300,
    "sooner, wrongly": 500,
    "divergence": 500,
    "more, pairs missing": 300,
}
"""How many are drawn for the part that always runs; else 4,000."""
GRID = list(rates.grid())
RULES = list(dict.fromkeys(cell.rule for cell in GRID))


def broken(cells: list[rates.Cell], studies: int) -> list[str]:
    found = []
    for cell in cells:
        hits, n = cell.run(studies)
        assert n, f"{cell.name}: nothing was judged"
        if not cell.holds(hits, n):
            found.append(f"{cell.name}: {hits / n:.4f} of {n}")
    return found


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if any(c.fast for c in GRID if c.rule == rule)]
)
def test_part_of_the_grid_keeps_its_bounds(rule: str) -> None:
    cells = [cell for cell in GRID if cell.rule == rule and cell.fast]
    assert not broken(cells, STUDIES.get(rule, 4000))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if any(c.most or c.least for c in GRID if c.rule == rule)]
)
def test_the_whole_grid_keeps_its_bounds(rule: str) -> None:
    cells = [cell for cell in GRID if cell.rule == rule and (cell.most or cell.least)]
    assert not broken(cells, 2000)


def test_the_grid_has_every_world_that_is_promised() -> None:
    seeds = [cell.labels for cell in GRID if cell.rule == "seeds" and cell.most]
    for label, values in {
        "replicates": {2, 3, 4, 6, 10},
        "arms": {2, 4, 8, 12},
        "noise": {"normal", "t3", "skewed"},
        "missing": {0.0, 0.05},
    }.items():
        assert {labels[label] for labels in seeds} == values
    assert len({cell.name for cell in GRID}) == len(GRID)


def test_a_wrong_rule_does_not_pass() -> None:
    """The harness itself: what borrows the others' variance is found out."""
    world = SeedWorld(3, 8, spread="one 5x")
    y_SRA, _ = world.draw(np.random.default_rng(0), 4000)
    inside = y_SRA - y_SRA.mean(axis=1, keepdims=True)
    pooled = (inside**2).sum(axis=(1, 2)) / (2 * 8)
    t = (y_SRA[..., 0] - y_SRA[..., 1]).mean(axis=1) / np.sqrt(pooled * 2 / 3)
    hits = int((2 * stats.t.sf(np.abs(t), 16) < 0.05).sum())
    assert not rates.Cell("pooled", {}, lambda rng, n: (hits, n), most=0.06).holds(hits, 4000)


@pytest.mark.parametrize("replicates", [2, 3, 4, 6, 10])
def test_the_narrow_claim_is_the_paired_t_on_complete_data(replicates: int) -> None:
    """Not only its rate: its p, and so its power, study by study."""
    rng = np.random.default_rng(replicates)
    for _ in range(50):
        a, b = rng.standard_normal((2, replicates))
        values = {"a": dict(enumerate(a.tolist())), "b": dict(enumerate(b.tolist()))}
        found = Estimated(over_seeds(values, one_group([{"a": 1.0, "b": -1.0}])))
        said = stats.ttest_rel(a, b)
        assert found.p(narrow=True) == pytest.approx(said.pvalue, rel=1e-9)
        interval = said.confidence_interval(0.95)
        assert found.interval(0.05, narrow=True) == pytest.approx(tuple(interval), rel=1e-9)
