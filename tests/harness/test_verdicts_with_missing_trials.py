"""A design of many cells with failures and divergences: every pair that exists is used."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.model import Answer, Verdict
from tests.harness.run_place import Place
from tests.statistics.test_inference import brute_force

BODY = """\
name: cells
question: What helps?
subject: tests.harness.many_cells
recipe: {recipe}
factors:
  share: [0.1, 0.5]
  scale: [2.0, 4.0, 8.0]
  kind: [a, b, c]
baseline: {{share: 0.1, scale: 2.0, kind: a}}
replicates: 4
protocol: {protocol}
contrasts:
  - {{id: share, a: {{share: 0.5}}, b: {{share: 0.1}}, metric: score}}
  - {{id: scale, a: {{scale: 8.0}}, b: {{scale: 2.0}}, metric: cost}}
  - {{id: kind, a: {{kind: c}}, b: {{kind: a}}, metric: score}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("cells") / "project")
    made.result = made.run(made.study(BODY))
    return made


@pytest.fixture(scope="module")
def answer(place: Place) -> Answer:
    assert place.result.answer is not None
    return place.result.answer


def table(answer: Answer, metric: str) -> dict[tuple[str, str, str], dict[int, float]]:
    rows = [row for row in answer.arms if row.kind == "arm"]
    return {tuple(row.levels.values()): row.cells[metric].values for row in rows}


def verdict(answer: Answer, ident: str) -> Verdict:
    return next(v for v in answer.verdicts if v.id == ident)


SIDES = {
    "share": ("score", lambda s, k: (("0.5", s, k), ("0.1", s, k)), ("2", "4", "8"), "abc"),
    "scale": ("cost", lambda s, k: ((s, "8", k), (s, "2", k)), ("0.1", "0.5"), "abc"),
    "kind": ("score", lambda s, k: ((s, k, "c"), (s, k, "a")), ("0.1", "0.5"), ("2", "4", "8")),
}


@pytest.mark.parametrize("ident", SIDES)
def test_every_pair_that_exists_is_used(answer: Answer, ident: str):
    metric, side, one, two = SIDES[ident]
    values = table(answer, metric)
    cells = [
        {a: 1.0, b: -1.0}
        for a, b in (side(*pair) for pair in itertools.product(one, two))
        if len(values[a].keys() & values[b].keys()) > 1
    ]
    difference, se, df = brute_force(values, cells)
    found = verdict(answer, ident)
    by_hand = np.mean(
        [
            np.mean([values[a][r] - values[b][r] for r in values[a].keys() & values[b].keys()])
            for a, b in (tuple(cell) for cell in cells)
        ]
    )
    assert found.difference == pytest.approx(by_hand)
    assert found.difference == pytest.approx(difference)
    assert found.method.startswith("CR2 clustered on 4 replicates")
    assert found.spread is not None
    assert (found.spread.seeds, found.spread.seeds_df) == pytest.approx((se, df))
    assert found.n == 4


def test_who_is_missing_is_named_with_the_reason(answer: Answer):
    notes = " | ".join(verdict(answer, "kind").notes)
    assert "diverged, without a part in this: " in notes
    assert "share0.1-scale8-c" in notes
    assert "loss above 1e4" in notes
    assert "CUDA out of memory" in notes
    assert "worst case" not in notes


def test_effects_stay(answer: Answer, place: Place):
    levels = {(e.factor, e.level) for e in answer.effects if e.metric == "score"}
    assert {("share", "0.1"), ("share", "0.5"), ("scale", "4"), ("kind", "b")} <= levels
    assert place.result.report is not None
    with (Path(place.result.report).parent / "tables" / "effects.csv").open() as file:
        assert sum(row["kind"] == "main effect" for row in csv.DictReader(file)) == 16


def test_a_trial_that_diverged_is_not_called_measured_at_another_cycle(answer: Answer):
    assert not any("different cycles" in note for v in answer.verdicts for note in v.notes)
