"""What is told of a failure ends with its cause: short forms keep the end."""

from pathlib import Path

from harness.executors.worker import _failure
from harness.running.display import Display
from harness.text.spelling import keeping_end, last_words

from .run_place import STUB, Place

CAUSE = "RuntimeError: shapes 3 and 4 do not fit"


def test_the_end_is_kept():
    text = "loading\n" * 400 + CAUSE
    for short in (keeping_end(text, 120), last_words(text, 120)):
        assert len(short) <= 120
        assert short.endswith(CAUSE)
        assert short.startswith("loading")
    assert "\n" not in last_words(text, 120)
    assert keeping_end("short", 120) == "short"


def test_the_recorded_reason_keeps_type_and_cause():
    reason = _failure(ValueError("line of a log\n" * 100 + CAUSE)).reason
    assert reason.startswith("ValueError: ")
    assert reason.endswith(CAUSE)
    assert len(reason) <= 500


def test_the_lines_of_a_run_show_the_cause(tmp_path: Path, monkeypatch):
    def broken(recipe, context):
        yield from ()  # a generator, as subjects are
        raise RuntimeError("a line of a log " * 30 + CAUSE)

    monkeypatch.setattr("harness.testing.stub.run", broken)
    place = Place(tmp_path)
    place.run(place.study(STUB))
    told = [line for line in place.said if line.startswith("failed")]
    assert told
    assert all(CAUSE in line for line in told)
    assert Display.workspace is None
