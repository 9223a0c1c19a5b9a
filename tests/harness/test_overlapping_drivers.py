"""Drivers of two studies that share trials: whatever closes while one reads is not run twice."""

from pathlib import Path

import pytest

from harness.study.load import load_study
from harness.study.opened_study import OpenedStudy
from tests.harness.run_place import STUB, Place

OTHER = STUB.replace("name: demo", "name: other")


@pytest.mark.parametrize("slow", [1, 2, 3], ids=["plan", "plan under the claim", "driver"])
def test_what_another_driver_closes_during_a_slow_read_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: int
) -> None:
    """The other study runs whole between reading the history and what is done with it."""
    place = Place(tmp_path)
    mine = place.study()
    other_file = place.folder / "other.yaml"
    other_file.write_text(OTHER.format(recipe="{}", protocol="p"))
    other = load_study(other_file)
    read, calls = OpenedStudy.reread, []

    def slowly(*given):
        history = read(*given)
        calls.append(given)
        if len(calls) == slow:
            place.run(other)
        return history

    monkeypatch.setattr(OpenedStudy, "reread", slowly)
    result = place.run(mine)
    assert len(calls) >= slow
    assert result.exit_code == 0
    assert [len(t.attempts) for t in place.trials()] == [1] * 4


def test_reading_does_not_miss_what_is_appended_before_sizes_are_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial at a time: the other driver closes one during each read of the first one's driver."""
    place = Place(tmp_path)
    mine = place.study()
    other_file = place.folder / "other.yaml"
    text = OTHER.format(recipe="{}", protocol="p")
    read, calls = OpenedStudy.reread, []

    def slowly(*given):
        history = read(*given)
        calls.append(given)
        if len(calls) in (3, 4):
            other_file.write_text(text.replace("replicates: 2", f"replicates: {len(calls) - 2}"))
            place.run(load_study(other_file))
        return history

    monkeypatch.setattr(OpenedStudy, "reread", slowly)
    assert place.run(mine).exit_code == 0
    assert [len(t.attempts) for t in place.trials()] == [1] * 4
