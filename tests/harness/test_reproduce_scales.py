"""The scales a reproduction is judged on: their rates by simulation, and trials that moved."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from harness.reproduce.bands import coverage_for, replicate_band, rerun_band
from harness.reproduce.one_trial import ReproductionRequest, reproduce_trial
from harness.reproduce.recorded import find
from harness.reproduce.reproduction import lines
from tests.harness.reproduce_lab import CLAIM, Lab

DRAWS = 4000
TOLERANCE = 0.015
"""Over four standard errors of a rate of 0.05 from so many draws."""


@pytest.fixture(autouse=True, scope="module")
def _spread() -> Iterator[None]:
    """Trials have noise of their own: without any, nothing is decided."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUB_SPREAD", "1e-5")
        yield


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(4)


@pytest.mark.parametrize(("n", "further"), [(3, 1), (6, 1), (6, 4), (12, 2)])
def test_the_prediction_interval_covers_new_replicates_as_often_as_it_says(random, n, further):
    draws = random.normal(3.0, 0.2, (DRAWS, n + further))
    held = [
        band.holds(float(row[n:].mean()))
        for row in draws
        if (band := replicate_band(row[:n].tolist(), 0.95, further)) is not None
    ]
    assert len(held) == DRAWS
    assert abs(np.mean(held) - 0.95) < TOLERANCE


def test_the_prediction_interval_is_that_of_the_textbook():
    band = replicate_band([1.0, 2.0, 4.0], 0.9, 2)
    assert band is not None
    half = stats.t.ppf(0.95, 2) * np.std([1, 2, 4], ddof=1) * np.sqrt(1 / 3 + 1 / 2)
    assert band.low == pytest.approx(7 / 3 - half)
    assert band.width == pytest.approx(2 * half)
    assert replicate_band([1.0, 2.0], 0.9) is None


@pytest.mark.parametrize(("pairs", "more"), [(3, 1), (6, 1), (2, 4)])
def test_noise_of_reruns_is_called_so_as_often_as_it_says(random, pairs, more):
    """Each group shares a trial's true value; the number repeated is of yet another trial."""
    held = []
    for _ in range(DRAWS):
        groups = random.normal(random.normal(0, 5, (pairs, 1)), 0.1, (pairs, 1 + more)).tolist()
        truth = random.normal(0, 5)
        recorded, now = random.normal(truth, 0.1, 2)
        band = rerun_band(recorded, groups, 0.95)
        assert band is not None
        assert band.df == pairs * more
        held.append(band.holds(now))
    assert abs(np.mean(held) - 0.95) < TOLERANCE


def test_false_alarms_over_several_numbers_together_stay_at_the_stated_rate(random):
    """Four metrics that share half of their variance: Bonferroni errs to the safe side."""
    n, metrics = 6, 4
    alarms = 0
    for _ in range(DRAWS):
        rows = random.normal(0, 1, (n + 1, metrics)) + random.normal(0, 1, (n + 1, 1))
        bands = [
            replicate_band(rows[:n, m].tolist(), coverage_for(metrics)) for m in range(metrics)
        ]
        alarms += any(not b.holds(rows[n, m]) for m, b in enumerate(bands) if b is not None)
    assert alarms / DRAWS < 0.05 + TOLERANCE
    assert alarms / DRAWS > 0.02  # not so wide that nothing is ever found


def test_groups_of_one_say_nothing_about_noise():
    assert rerun_band(1.0, [[1.0], [2.0]], 0.95) is None
    still = rerun_band(1.0, [[1.0, 1.0]], 0.95)
    assert still is not None
    assert still.width == 0.0
    assert still.holds(1.0)
    assert not still.holds(1.0 + 1e-15)


@pytest.fixture(scope="module")
def six(tmp_path_factory) -> Lab:
    return Lab(tmp_path_factory.mktemp("six") / "lab", replicates=6, more=CLAIM + "reruns: 4\n")


@pytest.fixture
def lab(six, tmp_path) -> Lab:
    return six.copy(tmp_path / "lab")


def noisy(lab: Lab, sd: float) -> None:
    """Let the recorded reruns differ from what they repeat, by one `sd` up and down."""
    reruns = [t.key for t in lab.of_kind("rerun")]
    lab.move({key: sd * (1 if i % 2 else -1) for i, key in enumerate(reruns)})


def test_a_move_as_small_as_that_of_reruns_is_within_their_noise(lab):
    noisy(lab, 1e-6)
    lab.move({lab.key_at(1.0, 2): 1e-6})
    found = lab.again("train", lab.key_at(1.0, 2))
    assert (found.decision, found.exit_code) == ("within rerun noise", 0)
    judged = {v.metric: v for v in found.values if v.judged}
    assert judged.keys() == {"score", "cost"}
    assert judged["score"].noise is not None
    assert judged["score"].noise.df == 4
    assert judged["score"].noise.level == pytest.approx(0.975)  # two numbers are judged
    assert found.verdict_changed is False


def test_a_larger_move_is_called_consistent_with_a_new_replicate_and_weak(lab):
    noisy(lab, 1e-6)
    lab.move({lab.key_at(1.0, 2): 1e-3})
    found = lab.again("train", lab.key_at(1.0, 2))
    assert (found.decision, found.exit_code) == ("consistent with a new replicate", 0)
    assert "weak" in found.reason
    band = next(v.replicates for v in found.values if v.metric == "score")
    assert band is not None
    assert f"{band.width:.3g}" in found.reason


def test_a_move_beyond_the_replicates_is_not_reproduced_and_names_what_differs(lab, monkeypatch):
    monkeypatch.setenv("STUB_CODE", "newer")
    lab.move({lab.key_at(1.0, 2): 40.0})
    found = lab.again("train", lab.key_at(1.0, 2))
    assert found.decision == "consistent with a new replicate"  # 40 is part of its own spread
    lab.move({lab.key_at(1.0, r): 40.0 for r in (0, 1, 3, 4, 5)})
    found = lab.again("train", lab.key_at(1.0, 2))
    assert (found.decision, found.exit_code) == ("not reproduced", 1)
    assert "code: stub.py (changed)" in found.reason
    assert "verdicts" in "\n".join(lines(found))


def test_it_says_whether_the_verdict_changes(lab):
    """The recorded outlier hid the difference; with the number that comes out it shows."""
    assert lab.again("train", lab.key_at(1.0, 2)).verdict_changed is False
    lab.move({lab.key_at(1.0, 2): 40.0})
    found = lab.again("train", lab.key_at(1.0, 2))
    assert found.verdict_changed is True
    assert found.verdicts.endswith("H1: undecided -> improves")


def test_other_numbers_count_once_the_reported_ones_are_equal(lab):
    key = lab.key_at(1.0, 1)
    lab.move({key: 5e-4}, "cost")
    recorded = find(key, lab.workspace)
    asked = ReproductionRequest(depth="train", metrics={"score"})
    found = reproduce_trial(recorded, asked, lab.workspace, lambda _: None)
    assert found.decision == "consistent with a new replicate"
    assert [v.metric for v in found.values if v.judged] == ["cost"]
