"""Seed streams: independent, stable, never added up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.journal.seeds import seed, stream_for
from tests.harness.quick import QUICK

index = st.integers(0, 10**6)


def test_values_are_stable() -> None:
    # compatibility: a change here changes every recorded trial
    assert seed(0, "student_noise", 1, 2) == 6782987568974377921
    assert stream_for(3)("evaluation", 7) == seed(3, "evaluation", 7)


@QUICK
@given(index, index, index)
def test_range(replicate: int, a: int, b: int) -> None:
    assert 0 <= seed(replicate, "x", a, b) < 2**63


def test_no_two_places_share_a_seed() -> None:
    found = {
        seed(replicate, stream, cycle, sample)
        for replicate in range(6)
        for stream in ("student_noise", "fake_noise", "task")
        for cycle in range(50)
        for sample in range(50)
    }
    assert len(found) == 6 * 3 * 50 * 50


def test_index_is_not_added_or_joined() -> None:
    assert seed(0, "x", 1, 23) != seed(0, "x", 12, 3)
    assert seed(1, "x", 0) != seed(0, "x", 1)
    assert seed(0, "x") != seed(0, "x", 0)


def test_streams_look_uniform() -> None:
    top = [seed(0, "x", i) >> 62 for i in range(4000)]
    assert abs(sum(top) / len(top) - 0.5) < 0.04  # 5 standard errors of a fair coin


@pytest.mark.parametrize("stream", ["", "a|b"])
def test_bad_streams_are_refused(stream: str) -> None:
    with pytest.raises(ValueError, match="stream name"):
        seed(0, stream)
