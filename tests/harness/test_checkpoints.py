"""Checkpoints compared in pairs over prompts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from harness.analyse.checkpoints import compared
from harness.prompt_values import PromptValues


def table(values) -> PromptValues:
    return PromptValues(
        {"all": 1.0}, {"all": {f"p{i}": float(v) for i, v in enumerate(values)}}, False
    )


def test_one_pair_is_the_paired_t_over_prompts():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.5, 1, 12), rng.normal(0, 1, 12)
    (pair,) = compared([("a", "b")], {"a": a.mean(), "b": b.mean()}, {"a": table(a), "b": table(b)})
    known = ttest_rel(a, b)
    assert pair.p == pytest.approx(known.pvalue)
    assert pair.interval == pytest.approx(tuple(known.confidence_interval()))
    assert "these checkpoints, over 12 prompts" in pair.sentence(True)


def test_pairs_are_adjusted_by_holm_and_intervals_agree():
    rng = np.random.default_rng(1)
    values = {n: rng.normal(m, 1, 20) for n, m in (("a", 0), ("b", 0.7), ("c", 3))}
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    numbers = {n: v.mean() for n, v in values.items()}
    found = compared(pairs, numbers, {n: table(v) for n, v in values.items()})
    raw = [ttest_rel(values[a], values[b]).pvalue for a, b in pairs]
    order = np.argsort(raw)
    expected = np.maximum.accumulate([(3 - k) * raw[i] for k, i in enumerate(order)])
    assert [found[i].p for i in order] == pytest.approx(list(np.minimum(expected, 1)))
    for pair in found:
        lo, hi = pair.interval
        assert (lo > 0 or hi < 0) == (pair.p <= 0.05)


def test_without_values_by_prompt_the_reason_is_told():
    (pair,) = compared([("a", "b")], {"a": 1.0, "b": 2.0}, {"a": table([1, 2, 3])})
    assert pair.p is None
    assert "no values by prompt of b" in pair.sentence(True)
