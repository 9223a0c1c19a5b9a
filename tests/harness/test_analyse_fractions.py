"""Answers of fractional designs: least squares against statsmodels, aliases where they belong."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm

from harness.analysis.effects import (
    fitted_interactions,
    fitted_level_contrasts,
    fitted_main_effects,
)
from harness.analysis.inference import one_group, over_seeds
from harness.journal.trial import Arm
from harness.planning.plan import Confounded
from harness.study.fractions import FractionalDesign, smallest_fraction
from tests.harness.run_place import Place

NAMES = "abcd"
FACTORS = {name: ["low", "high"] for name in NAMES}
BODY = """\
name: demo
question: Which of four matter?
subject: tests.support.stub_spread
recipe: {{cycles: 2}}
factors:
  part.x: [0.0, 1.0]
  part.y: [0, 1]
  colour: [red, green]
  cycles: [2, 3]
design: fractional
resolution: 4
replicates: 6
protocol: {protocol}
contrasts: [{{id: H, a: {{part.x: 1.0}}, b: {{part.x: 0.0}}, expect: higher}}]
"""


def arms_of(fraction: FractionalDesign, baseline: tuple[int, ...] | None = None) -> list[Arm]:
    return [
        Arm(
            name=str(number),
            levels={n: FACTORS[n][code > 0] for n, code in zip(NAMES, row, strict=True)},
            recipe={},
            baseline=row == baseline,
        )
        for number, row in enumerate(fraction.levels())
    ]


def table(fraction: FractionalDesign) -> Confounded:
    return Confounded(
        resolution=fraction.resolution, arms=fraction.runs, combinations=16,
        generators=fraction.generators(NAMES), aliases=fraction.aliases(NAMES),
    )  # fmt: skip


def columns(arms: list[Arm]) -> np.ndarray:
    return np.array([[FACTORS[n].index(a.levels[n]) * 2 - 1 for n in NAMES] for a in arms])


@pytest.mark.parametrize("start", list(itertools.product((-1, 1), repeat=4)))
def test_interactions_and_their_aliases_under_any_baseline(start: tuple[int, ...]):
    fraction = smallest_fraction(4, 4).through(start)
    arms = arms_of(fraction, start)
    x = columns(arms)
    rng = np.random.default_rng(0)
    truth = {pair: float(rng.normal()) for pair in itertools.combinations(range(4), 2)}
    y = sum(t * x[:, i] * x[:, j] for (i, j), t in truth.items())
    values = {arm.name: {0: float(v)} for arm, v in zip(arms, y, strict=True)}

    def moved(product: str) -> float:
        """Difference of differences, both factors moved away from the baseline."""
        i, j = (NAMES.index(n) for n in product.lstrip("-").split("*"))
        return 4 * truth[i, j] * start[i] * start[j] * (-1 if product.startswith("-") else 1)

    found = fitted_interactions(arms, FACTORS, table(fraction))
    assert len(found) == 3
    for item in found:
        expected = moved("*".join(item.factors)) + sum(map(moved, item.aliases))
        assert over_seeds(values, one_group(item.cells)).difference == pytest.approx(expected)


def test_main_effects_are_half_the_difference_of_levels_and_carry_aliases():
    fraction = smallest_fraction(4, 4)
    arms = arms_of(fraction)
    x = columns(arms)
    y = 1 + 2.0 * x[:, 0] - 0.5 * x[:, 3]
    values = {arm.name: {0: float(v)} for arm, v in zip(arms, y, strict=True)}
    found = {
        (f, v): over_seeds(values, one_group(w)).difference
        for f, v, w, _ in fitted_main_effects(arms, FACTORS)
    }
    assert found["a", "high"] == pytest.approx(2.0)
    assert found["a", "low"] == pytest.approx(-2.0)
    assert found["d", "high"] == pytest.approx(-0.5)
    assert list(found) == [(n, v) for n in NAMES for v in ("low", "high")]
    fewer = arms[1:]
    assert any(aliases for *_, aliases in fitted_main_effects(fewer, FACTORS)), (
        "no longer orthogonal"
    )
    assert fitted_interactions(fewer, FACTORS, table(fraction)) == []


def test_level_contrasts_are_those_of_statsmodels_without_some_arms():
    arms = arms_of(smallest_fraction(4, 4))[:-2]
    y = np.random.default_rng(3).normal(size=len(arms))
    fit = sm.OLS(y, sm.add_constant(columns(arms).astype(float))).fit()
    values = {arm.name: {0: float(v)} for arm, v in zip(arms, y, strict=True)}
    for item, slope in zip(fitted_level_contrasts(arms, FACTORS), fit.params[1:], strict=True):
        assert over_seeds(values, one_group(item.cells())).difference == pytest.approx(2 * slope)


def test_a_fractional_study_from_file_to_page(tmp_path: Path):
    place = Place(tmp_path / "project")
    result = place.run(place.study(BODY))
    assert result.answer is not None
    found = result.answer
    declared = next(v for v in found.verdicts if v.id == "H")
    assert declared.verdict == "improves"
    assert declared.difference == pytest.approx(0.5, abs=0.02)
    assert declared.aliases == []
    assert any(
        "least squares over 8 arms, clear of interactions of two factors" in n
        for n in declared.notes
    )
    assert {v.factor for v in found.verdicts if not v.declared} == set(found.arms[0].levels)
    crossed = {i.factors: i.aliases for i in found.interactions}
    assert crossed == {
        ("part.x", "part.y"): ["colour*cycles"],
        ("part.x", "colour"): ["part.y*cycles"],
        ("part.x", "cycles"): ["part.y*colour"],
    }
    assert len([e for e in found.effects if e.metric == "score"]) == 8
    assert result.report is not None
    page = result.report.read_text()
    assert "Fraction: 8 of 16 combinations, resolution 4, cycles = part.x*part.y*colour" in page
    assert "<th>part.x*part.y</th><td>colour*cycles</td>" in page
    aliases = result.report.parent / "tables" / "aliases.csv"
    assert "part.x*colour,part.y*cycles" in aliases.read_text()
    assert r"part.x\*cycles | part.y\*colour" in result.report.with_suffix(".md").read_text()
