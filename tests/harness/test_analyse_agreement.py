"""Learned metrics against the oracle: sign, pairing, refusals, and the interval's coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.analysis.answer import answer
from harness.analysis.model import Agreement, Answer
from harness.analysis.tradeoffs import agreements, bonett_wright, rank_correlation
from harness.contract import MetricSpec
from harness.report import tables
from harness.report.facts import markdown
from harness.report.page import render
from tests.support.made_up import make_up
from tests.support.made_up_records import METRICS, Options

SPECS = {
    "distance": MetricSpec(higher_is_better=False, follows="truth"),
    "truth": MetricSpec(higher_is_better=True),
}


def judged(
    distance: dict[str, dict[int, float]],
    truth: dict[str, dict[int, float]],
    specs: dict[str, MetricSpec] | None = None,
) -> Agreement:
    values = {"distance": distance, "truth": truth}
    (found,) = agreements(specs or SPECS, values, distance, 0.95, "on a toy")
    return found


def one_replicate(*values: float) -> dict[str, dict[int, float]]:
    return {f"arm{i}": {0: value} for i, value in enumerate(values)}


def test_spearman_by_hand_with_ties() -> None:
    assert rank_correlation([1, 2, 3, 4, 5], [1, 2, 3, 5, 4]) == pytest.approx(1 - 6 * 2 / 120)
    # Ranks 1.5 1.5 3 4 against 1 2 3 4: covariance 4.5 of variances 4.5 and 5.
    assert rank_correlation([7, 7, 8, 9], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(22.5))
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


def test_a_distance_that_falls_as_the_truth_rises_follows_it() -> None:
    found = judged(one_replicate(9, 7, 5, 4, 3, 2, 1), one_replicate(1, 2, 3, 4, 5, 6, 7))
    assert found.rho == pytest.approx(1)
    assert found.agreement == "follows"
    assert found.hi == 1
    assert "distance follows truth: rank correlation +1.00" in found.words
    assert "7 of 7 arms; on a toy." in found.words
    risen = judged(one_replicate(1, 2, 3, 4, 5, 6, 7), one_replicate(1, 2, 3, 4, 5, 6, 7))
    assert risen.rho == pytest.approx(-1)
    assert risen.agreement == "opposes"


def test_only_replicates_with_both_count() -> None:
    """Without pairing, arm 0's second replicate would turn its rank round."""
    distance = one_replicate(9, 7, 5, 4, 3)
    distance["arm0"][1] = -1000.0
    distance["arm5"] = {1: 0.0}
    found = judged(distance, one_replicate(1, 2, 3, 4, 5, 6))
    assert found.rho == pytest.approx(1)
    assert (found.n, found.n_planned) == (5, 6)


@pytest.mark.parametrize(
    ("distance", "truth", "words"),
    [
        ((3, 2, 1), (1, 2, 3), "4 arms with both are needed, 3 of 3 arms"),
        ((1, 2, 3, 4), (5, 5, 5, 5), "the same in every arm"),
    ],
)
def test_too_few_or_constant_arms_say_nothing(
    distance: tuple[float, ...], truth: tuple[float, ...], words: str
) -> None:
    found = judged(one_replicate(*distance), one_replicate(*truth))
    assert (found.rho, found.lo, found.agreement) == (None, None, "undecided")
    assert words in found.words


def test_a_metric_without_direction_is_not_signed() -> None:
    specs = {**SPECS, "distance": MetricSpec(follows="truth")}
    found = judged(one_replicate(1, 2, 3, 4), one_replicate(1, 2, 3, 4), specs)
    assert found.rho is None
    assert "no better direction" in found.words


def test_a_truth_that_was_not_measured_says_nothing() -> None:
    (found,) = agreements(SPECS, {"distance": one_replicate(1, 2, 3, 4)}, ["arm0"], 0.95)
    assert (found.n, found.rho) == (0, None)


def test_interval_against_its_formula() -> None:
    lo, hi = bonett_wright(0.6, 12, 0.95)
    half = 1.959964 * math.sqrt((1 + 0.18) / 9)
    assert (lo, hi) == pytest.approx(
        (math.tanh(math.atanh(0.6) - half), math.tanh(math.atanh(0.6) + half)), abs=1e-6
    )
    assert bonett_wright(1.0, 4, 0.95)[0] < 0 < bonett_wright(1.0, 5, 0.95)[0]


@pytest.mark.parametrize("correlation", [0.0, 0.6, 0.9])
@pytest.mark.parametrize("n", [5, 10, 30])
def test_interval_covers_about_as_often_as_it_says(n: int, correlation: float) -> None:
    """Normal pairs, whose Spearman correlation is known: 6/pi asin(r/2)."""
    rng = np.random.default_rng(n)
    wanted = 6 / math.pi * math.asin(correlation / 2)
    x = rng.normal(size=(400, n))
    y = correlation * x + math.sqrt(1 - correlation**2) * rng.normal(size=(400, n))
    covered = 0
    for one, other in zip(x, y, strict=True):
        rho = rank_correlation(list(one), list(other))
        assert rho is not None
        lo, hi = bonett_wright(rho, n, 0.95)
        covered += lo <= wanted <= hi
    assert 0.92 <= covered / 400 <= 1.0


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Answer, str, str]:
    made = make_up(tmp_path_factory.mktemp("made"), Options(pictures=False))
    found = answer(made.plan, made.study, made.history, metrics=METRICS)
    page = render(made.answered(found))
    return found, page, markdown(made.answered(found), portable=True)


def test_the_answer_counts_trained_arms_only(told: tuple[Answer, str, str]) -> None:
    found, _, _ = told
    assert [a.metric for a in found.agreement] == ["t2i/kd", "t2i/clip"]
    arms = [row for row in found.arms if row.kind == "arm"]
    clip, words = ([row.cells[m].mean or 0.0 for row in arms] for m in ("t2i/clip", "oracle/words"))
    entry = found.agreement[1]
    assert entry.rho == pytest.approx(rank_correlation(clip, words))
    assert entry.n == entry.n_planned == len(arms) < len(found.arms)
    assert found.scope in entry.words
    assert Answer.model_validate_json(found.model_dump_json()) == found


def test_every_place_shows_it_with_n_and_scope(told: tuple[Answer, str, str]) -> None:
    found, page, text = told
    table = tables.agreement_table(found)
    assert found.scope in table.title
    for line in table.printed:
        assert all(f">{cell}<" in page for cell in line)
        assert f"| {' | '.join(line)} |" in text
    assert "Do learned metrics follow the oracle?" in page
    assert "Reference rows do not count. On the toy world" in page
    assert table.title in text
    assert [row[2] for row in table.rows] == [a.rho for a in found.agreement]


def test_a_subject_that_names_nothing_to_follow_gets_no_section(tmp_path) -> None:
    made = make_up(tmp_path, Options(pictures=False, upto=1))
    silent = {m: spec.model_copy(update={"follows": None}) for m, spec in METRICS.items()}
    found = answer(made.plan, made.study, made.history, metrics=silent)
    assert found.agreement == []
    assert "agreement" not in [table.name for table in tables.tables(found)]
    page = render(made.answered(found))
    assert "Do learned metrics follow" not in page
