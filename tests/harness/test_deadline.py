"""A deadline that comes early: told through a file, read by workers, copied contexts included."""

import dataclasses
import time
from pathlib import Path

import pytest

from harness.contract import Context, Measurement
from harness.executors import base as deadlines
from harness.executors.base import Deadline, watch


def context(planned: float | None = None) -> Context:
    measurement = Measurement(protocol="p")
    return Context("key", 0, lambda *_: 1, Path("x"), measurement, deadline=planned)


def test_planned_times_pass():
    assert not Deadline().past
    assert Deadline().at is None
    assert Deadline(planned=time.time() - 1).past
    assert not Deadline(planned=time.time() + 3600).past


def test_notice_reaches_a_reader_that_looked_before(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(deadlines, "LOOK_SECONDS", 0.0)
    driver, worker = (Deadline(tmp_path / "s" / "notice") for _ in range(2))
    watching = watch(context(), worker)
    with driver.armed():
        assert watching.deadline is None
        assert not worker.past
        driver.give_notice()
        assert driver.past
        assert watching.deadline is not None
        assert time.time() > watching.deadline
        assert worker.past
    assert not (tmp_path / "s" / "notice").exists()


def test_an_older_notice_does_not_count(tmp_path):
    file = tmp_path / "notice"
    file.write_text(deadlines.COME)
    deadline = Deadline(file, planned=time.time() + 60)
    with deadline.armed():
        assert not deadline.past


def test_a_context_keeps_its_fields_and_a_copy_of_it_its_deadline():
    planned = time.time() + 60
    made = watch(context(), Deadline(planned=planned))
    assert made.key == "key"
    assert made.deadline == planned
    copy = dataclasses.replace(made, folder=Path("y"))
    assert (copy.folder, copy.deadline) == (Path("y"), planned)
    assert watch(context(), Deadline()).deadline is None


def test_a_clock_set_back_does_not_take_the_notice_away(tmp_path, monkeypatch):
    deadline = Deadline(tmp_path / "notice")
    deadline.give_notice()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    assert deadline.past
