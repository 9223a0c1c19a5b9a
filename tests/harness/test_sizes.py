"""Standardised sizes: closed forms, signs, and what is not defined."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from harness.analysis import sentences
from harness.analysis.inference import estimate, one_group
from harness.analysis.sizes import d_z, gap_of, gap_share, log_ratio, sizes_of
from harness.bundle.read import verify_bundle
from harness.contract import MetricSpec
from harness.errors import BundleError

from .bundles import contents, rewritten, small, studied

DISTANCE = MetricSpec(higher_is_better=False, low=0.0)
SCORE = MetricSpec(higher_is_better=True, low=0.0, high=1.0)
CELLS = [{"a1": 1.0, "b1": -1.0}, {"a2": 1.0, "b2": -1.0}]
VALUES = {
    "a1": {0: 2.0, 1: 4.0, 2: 3.0},
    "b1": {0: 1.0, 1: 2.0, 2: 1.0},
    "a2": {0: 5.0, 1: 5.0, 2: 6.0},
    "b2": {0: 4.0, 1: 3.0, 2: 2.0},
}


def test_share_of_the_gap_keeps_the_sign_of_the_difference():
    assert gap_share(-0.5, teacher=3.0, data=1.0) == -0.25
    assert gap_share(0.1, teacher=0.7, data=0.9) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("teacher", "data"), [(None, 1.0), (1.0, None), (2.0, 2.0), (0.3, 0.1 + 0.2), (math.inf, 0.0)]
)
def test_no_gap_no_share(teacher, data):
    assert gap_share(0.5, teacher, data) is None


def test_d_z_is_the_paired_t_over_the_root_of_n():
    from scipy.stats import ttest_1samp

    d = [0.3, 0.5, 0.1, 0.7]
    assert d_z(d, corrected=False) == pytest.approx(ttest_1samp(d, 0).statistic / 2)


@pytest.mark.parametrize("n", [3, 4, 6])
def test_correction_takes_the_bias_of_few_pairs_away(n):
    """Over 40,000 sets of n pairs with true d_z 1."""
    rng = np.random.default_rng(n)
    drawn = rng.normal(1, 1, size=(40_000, n))
    raw = drawn.mean(1) / drawn.std(1, ddof=1)
    factor = d_z(list(drawn[0])) / d_z(list(drawn[0]), corrected=False)
    assert raw.mean() > 1.15
    assert factor * raw.mean() == pytest.approx(1, abs=0.02 if n > 3 else 0.05)


def test_d_z_needs_pairs_that_vary():
    assert d_z([1.0, 2.0]) is None
    assert d_z([1.0], corrected=False) is None
    assert d_z([1 / 192] * 6) is None


def test_log_ratio_is_symmetric_and_paired():
    a, b = {0: 2.0, 1: 8.0, 5: 1.0}, {0: 1.0, 1: 2.0, 7: 3.0}
    assert log_ratio(a, b) == pytest.approx((math.log(2) + math.log(4)) / 2)
    assert log_ratio(b, a) == pytest.approx(-log_ratio(a, b))


def test_log_ratio_of_what_is_no_distance_is_none():
    assert log_ratio({0: 1.0}, {1: 1.0}) is None
    assert log_ratio({0: -0.01, 1: 1.0}, {0: 1.0, 1: 1.0}) is None


def test_a_contrast_of_a_distance_has_both_sizes():
    found = estimate(VALUES, one_group(CELLS))
    sizes = sizes_of("difference", found, VALUES, CELLS, DISTANCE)
    own = [(1 + 1) / 2, (2 + 2) / 2, (2 + 4) / 2]
    assert sizes["d_z"] == pytest.approx(d_z(own))
    logs = [math.log(2), math.log(2), math.log(3), math.log(5 / 4), math.log(5 / 3), math.log(3)]
    assert sizes["log_ratio"] == pytest.approx(sum(logs) / 6)
    assert sizes_of("difference", found, VALUES, CELLS, SCORE).keys() == {"d_z"}
    assert sizes_of("trend", found, VALUES, CELLS, DISTANCE).keys() == {"d_z"}
    assert sizes_of("more", found, VALUES, CELLS, DISTANCE) == {}
    told = sentences.sizes(sizes)
    assert told.startswith("d_z +1.1 (")
    assert f"({math.exp(sum(logs) / 6):.3g} times)" in told


def test_missing_pairs_have_no_d_z_and_fitted_cells_no_ratio():
    lacking = {**VALUES, "a2": {0: 5.0, 2: 6.0}}
    found = estimate(lacking, one_group(CELLS))
    assert found.judged
    assert sizes_of("difference", found, lacking, CELLS, DISTANCE).keys() == {"log_ratio"}
    fitted = [{"a1": 0.5, "a2": 0.5, "b1": -0.5, "b2": -0.5}]
    found = estimate(VALUES, one_group(fitted))
    assert sizes_of("difference", found, VALUES, fitted, DISTANCE).keys() == {"d_z"}
    below = {**VALUES, "b1": {0: 1.0, 1: 2.0, 2: -1.0}}
    found = estimate(below, one_group(CELLS))
    assert "log_ratio" not in sizes_of("difference", found, below, CELLS, DISTANCE)


def test_the_gap_is_that_of_one_teacher_and_of_data():
    plan = SimpleNamespace(gaps={"a": ("t", "d"), "b": ("t", "d"), "c": ("u", "d")})
    measured = {"reference:t": {0: 3.0}, "reference:d": {0: 1.0}, "reference:u": {0: 2.0}}
    assert gap_of(plan, ["a", "b"], measured) == (3.0, 1.0)
    assert gap_of(plan, ["a", "c"], measured) is None, "two teachers"
    assert gap_of(plan, ["a", "x"], measured) is None, "one has no single teacher"
    assert gap_of(plan, ["a", "b"], {"reference:t": {0: 3.0}}) is None
    found = estimate(VALUES, one_group(CELLS))
    sizes = sizes_of("difference", found, VALUES, CELLS, SCORE, (3.0, 1.0))
    assert sizes["gap_share"] == pytest.approx(found.difference / 2)
    assert sentences.sizes({"gap_share": -0.25}) == "-0.25 of the way between teacher and data"


def test_a_verdict_carries_them_and_the_verifier_works_them_out(tmp_path, monkeypatch):
    monkeypatch.setenv("STUB_SPREAD", "0.05")
    made = studied(tmp_path / "p")
    h1 = next(v for v in made.answer.verdicts if v.id == "H1")
    assert h1.sizes["gap_share"] == pytest.approx(h1.difference / 10), "truth 10, untrained 0"
    assert h1.sizes["d_z"] == pytest.approx(d_z(list(h1.per_replicate.values())))
    file = small(made, tmp_path / "x.zip")
    verify_bundle(file)
    for name, size in (("gap_share", 0.5), ("d_z", 1.0), ("log_ratio", 0.1), ("other", 1.0)):
        answer = json.loads(contents(file)["results/answer.json"])
        answer["verdicts"][0]["sizes"][name] = size
        changed = {"results/answer.json": json.dumps(answer).encode()}
        with pytest.raises(BundleError, match="H1"):
            verify_bundle(rewritten(file, tmp_path / "y.zip", changed))
