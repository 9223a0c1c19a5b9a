"""Our closed forms against what lme4, lmerTest and clubSandwich say, recorded with their data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import linalg, stats

from harness.analysis.inference import ByPrompt, Estimated, estimate, one_group, over_seeds
from harness.journal.prompt_values import PromptValues
from tests.statistics.worlds import Array

RECORDED = Path(__file__).parent / "recorded"
CROSSED = json.loads((RECORDED / "crossed.json").read_text())["sets"]
PAIRS = json.loads((RECORDED / "missing_pairs.json").read_text())["sets"]


def estimated(a_RP: Array, b_RP: Array) -> Estimated:
    values, tables = {}, {}
    for arm, y_RP in (("a", a_RP), ("b", b_RP)):
        values[arm] = {r: float(row.mean()) for r, row in enumerate(y_RP)}
        for r, row in enumerate(y_RP):
            by_prompt = {f"p{p}": float(v) for p, v in enumerate(row)}
            tables[arm, r] = PromptValues({"all": 1.0}, {"all": by_prompt})
    return estimate(values, one_group([{"a": 1.0, "b": -1.0}]), ByPrompt.of(tables))


@pytest.mark.parametrize("recorded", CROSSED, ids=lambda s: f"{s['replicates']}x{s['prompts']}")
@pytest.mark.parametrize("model", ["differences", "arms"])
def test_crossed_random_effects_are_those_of_lme4(recorded: dict[str, Any], model: str) -> None:
    a_RP, b_RP = np.array(recorded["a"]), np.array(recorded["b"])
    found, said = estimated(a_RP, b_RP), recorded[model]
    assert said["smallest_sd"] > 0.1  # inside the boundary, where both are the same
    assert found.prompts is not None
    assert found.seeds.se is not None
    assert found.variance is not None
    r, p = a_RP.shape
    parts = (found.seeds.se**2, r - 1), (found.prompts.variance, p - 1), (found.prompts.both, None)
    fourth = sum(v**2 / (df or (r - 1) * (p - 1)) for v, df in parts)
    assert found.difference == pytest.approx(said["difference"], abs=1e-9)
    assert np.sqrt(found.variance) == pytest.approx(said["se"], rel=1e-6)
    # Satterthwaite's df of the sum, which lmerTest gives; the half-width uses each part's own.
    assert found.variance**2 / fourth == pytest.approx(said["df"], rel=1e-5)


def test_the_parts_are_those_of_an_analysis_of_variance() -> None:
    a_RP, b_RP = (np.array(CROSSED[3][arm]) for arm in "ab")
    found, d_RP = estimated(a_RP, b_RP), a_RP - b_RP
    r, p = d_RP.shape
    rest = d_RP - d_RP.mean(axis=0) - d_RP.mean(axis=1, keepdims=True) + d_RP.mean()
    both = (rest**2).sum() / ((r - 1) * (p - 1)) / (r * p)
    assert found.prompts is not None
    assert found.prompts.both == pytest.approx(both, rel=1e-10)
    prompts = d_RP.mean(axis=0).var(ddof=1) / p
    assert found.prompts.variance == pytest.approx(prompts, rel=1e-10)
    assert found.seeds.se == pytest.approx(stats.sem(d_RP.mean(axis=1)), rel=1e-10)
    assert found.prompts.df == pytest.approx(p - 1)


@pytest.mark.parametrize("name", PAIRS)
def test_missing_pairs_are_judged_as_clubsandwich_does(name: str) -> None:
    recorded = PAIRS[name]
    values = {
        arm: {r: v for r, v in enumerate(column) if v is not None}
        for arm, column in recorded["values"].items()
    }
    cells = [{a: 1.0, b: -1.0} for a, b in recorded["cells"]]
    found = over_seeds(values, one_group(cells))
    assert found.difference == pytest.approx(recorded["difference"], rel=1e-10)
    assert found.se == pytest.approx(recorded["se"], rel=1e-10)
    independent, correlated = freedoms(values, recorded["cells"])
    assert independent == pytest.approx(recorded["df"], rel=1e-10)
    assert found.df == pytest.approx(min(independent, correlated), rel=1e-8)


def test_recorded_patterns_ask_every_question() -> None:
    """Not only where the two degrees of freedom are the same, or the fit is a paired t."""
    patterns = PAIRS.values()
    assert sum(set(map(len, p["values"].values())) != {0} for p in patterns) == len(PAIRS) >= 10
    integral = [p["df"] == pytest.approx(round(p["df"])) for p in patterns]
    assert 3 <= sum(integral) < len(integral) - 4


def freedoms(values: dict[str, dict[int, float]], pairs: list[list[str]]) -> tuple[float, float]:
    """Bell-McCaffrey df with independent and with fully correlated cells, by the matrices."""
    rows = [
        (c, r)
        for c, (a, b) in enumerate(pairs)
        for r in sorted(values[a].keys() & values[b].keys())
    ]
    seen = sorted({c for c, _ in rows})
    many = [c for c in seen if sum(c == d for d, _ in rows) > 1]
    rows = [(c, r) for c, r in rows if c in many]
    x = np.array([[float(c == d) for d in many] for c, _ in rows])
    inverse = np.linalg.inv(x.T @ x)
    weights = np.full(len(many), 1.0 / len(many))
    residual = np.eye(len(rows)) - x @ inverse @ x.T
    g = []
    for r in sorted({r for _, r in rows}):
        own = np.array([r == s for _, s in rows])
        block = residual[np.ix_(own, own)]
        adjusted = linalg.sqrtm(np.linalg.inv(block)).real
        g.append(residual[own].T @ adjusted @ x[own] @ inverse @ weights)
    together = np.array([[float(r == s) for _, s in rows] for _, r in rows])
    found = []
    for omega in (np.eye(len(rows)), together):
        m = np.array(g) @ omega @ np.array(g).T
        found.append(float(np.trace(m) ** 2 / (m**2).sum()))
    return found[0], found[1]
