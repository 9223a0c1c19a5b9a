"""Worst cases: a verdict stands only if it survives what diverged, failed or is missing."""

from __future__ import annotations

import pytest

from harness.analyse.contrasts import infer, observations, residual
from harness.analyse.missing import ends, missing_replicates, worst_cases
from harness.contract import MetricSpec
from harness.plan import weights_of

SPEC = MetricSpec(higher_is_better=True, low=0, high=1)
AB = weights_of([("a", "b")])


def values(n=6, gap=0.2):
    return {
        "a": {r: 0.5 + gap + 0.01 * (r % 3) for r in range(n)},
        "b": {r: 0.5 + 0.02 * (r % 2) for r in range(n)},
    }


def worst(table, states, missing, spec=SPEC, both=False):
    pooled = residual(table)
    complete = infer(observations(table, AB), AB, pooled)
    found = worst_cases(complete, table, states, AB, missing, spec, pooled, 0.95, both=both)
    return complete, found


def test_ends_are_the_legal_range_else_what_was_observed():
    table = {"a": {0: 0.3, 1: 0.9}, "b": {0: 0.4}}
    bounded = ends(table, SPEC)
    assert bounded is not None
    assert (bounded.low, bounded.high, bounded.bad) == (0, 1, 0)
    open_ = ends(table, MetricSpec(higher_is_better=False, low=0))
    assert open_ is not None
    assert (open_.low, open_.high, open_.bad) == (0, 0.9, 0.9)
    assert ends({}, SPEC) is None


@pytest.mark.parametrize(
    ("a", "b", "state_a", "state_b", "is_missing"),
    [
        (1.0, 2.0, "done", "done", False),
        (None, 2.0, "pending", "done", True),
        (None, None, "failed", "failed", True),
        (None, None, "diverged", "pending", True),
        (None, None, "pending", "running", False),
        (None, None, "killed", "unmeasured", False),
    ],
)
def test_a_replicate_nobody_began_is_a_smaller_study_not_missing(
    a, b, state_a, state_b, is_missing
):
    table = {"a": {} if a is None else {0: a}, "b": {} if b is None else {0: b}}
    states = {"a": {0: state_a}, "b": {0: state_b}}
    assert missing_replicates(table, states, AB, range(1)) == ([0] if is_missing else [])


def test_a_failed_winner_takes_the_end_against_it():
    table = values()
    del table["a"][5]
    complete, (found,) = worst(table, {"a": {5: "failed"}}, [5])
    assert complete.n == 5
    assert found.n == 6
    assert found.per_replicate[5] == pytest.approx(0.0 - table["b"][5])


def test_a_failed_loser_takes_the_good_end():
    table = values()
    del table["b"][5]
    _, (found,) = worst(table, {"b": {5: "failed"}}, [5])
    assert found.per_replicate[5] == pytest.approx(table["a"][5] - 1.0)


def test_a_diverged_loser_supports_the_verdict_without_blurring_it():
    table = values()
    del table["b"][5]
    complete, (found,) = worst(table, {"b": {5: "diverged"}}, [5])
    largest = max(complete.per_replicate.values())
    assert found.per_replicate[5] == pytest.approx(largest)
    assert found.p < 0.05


def test_a_diverged_winner_speaks_against_it():
    table = values()
    del table["a"][5]
    _, (found,) = worst(table, {"a": {5: "diverged"}}, [5])
    assert found.per_replicate[5] == pytest.approx(0.0 - table["b"][5])
    assert found.p > 0.05


def test_unbounded_lower_is_better_diverges_to_the_worst_observed():
    table = values()
    del table["a"][5]
    spec = MetricSpec(higher_is_better=False)
    _, (found,) = worst(table, {"a": {5: "diverged"}}, [5], spec)
    seen = max(v for row in table.values() for v in row.values())
    assert found.per_replicate[5] == pytest.approx(
        min(seen - table["b"][5], max(found.per_replicate.values()))
    )


def test_equivalence_is_tried_in_both_directions():
    table = values(gap=0.0)
    del table["a"][5]
    _, found = worst(table, {"a": {5: "failed"}}, [5], both=True)
    assert sorted(w.per_replicate[5] for w in found) == pytest.approx(
        [0.0 - table["b"][5], 1.0 - table["b"][5]]
    )
