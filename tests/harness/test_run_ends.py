"""`run` that is told to end: deadlines and notices, and what is left then."""

import os
import signal
import time
from pathlib import Path

import pytest

from harness.executors.inline import InlineExecutor
from tests.harness.run_place import Place, finished_elsewhere


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class LateSignal(InlineExecutor):
    """The signal comes when the last trial has ended."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__()
        self.number = number

    def run(self, jobs, on_event, stop) -> None:
        super().run(jobs, on_event, stop)
        os.kill(os.getpid(), self.number)


def test_sigterm_after_the_last_trial_is_not_finished_before_the_answer_is_there(place: Place):
    """A batch system's kill may follow in seconds: what ends with 143 is put back and answers."""
    made = place.study()
    cut = place.run(made, executor=LateSignal(signal.SIGTERM))
    assert {t.state for t in place.trials()} == {"done"}
    assert cut.answer is None
    assert cut.exit_code == 143
    again = place.run(made)
    assert again.exit_code == 0
    assert again.answer is not None
    assert {len(t.attempts) for t in place.trials()} == {1}


def test_a_notice_after_the_last_trial_leaves_time_for_the_answer(place: Place):
    result = place.run(place.study(), executor=LateSignal(signal.SIGUSR1))
    assert result.exit_code == 0
    assert result.report is not None
    assert result.report.is_file()


def test_a_deadline_ends_trials_at_a_checkpoint_and_the_next_run_continues_them(place: Place):
    """Each trial takes four seconds; the deadline falls into the first one."""
    text = place.study(recipe="{cycles: 20, seconds: 0.2}")
    whole = finished_elsewhere(place, recipe="{cycles: 20, seconds: 0.2}")
    result = place.run(text, deadline=time.time() + 2.5)
    assert result.exit_code == 4
    assert result.tally is not None
    assert result.tally.expired
    (cut,) = place.trials()
    assert cut.latest is not None
    closed = cut.latest.closed
    assert closed is not None
    assert (closed.state, closed.reason) == ("killed", "deadline")
    assert 1 <= closed.step < 20
    log = (place.workspace.trial(cut.key) / "log.txt").read_text()
    assert log.count("== killed  deadline") == 1
    done = place.run(text, deadline=time.time() + 3600)
    assert done.exit_code == 0
    assert done.tally is not None
    assert not done.tally.expired
    first = place.history().trials[cut.key]
    assert [a.opened.resumed_from for a in first.ordered] == [None, 1]
    assert f"from step {closed.step}" in "\n".join(place.said)
    expected = {t.key: t.measured("stub-p")[0].metrics for t in whole}
    assert {t.key: t.measured("stub-p")[0].metrics for t in place.trials()} == expected


def test_past_the_deadline_nothing_starts(place: Place):
    result = place.run(place.study(), deadline=time.time() - 1)
    assert result.exit_code == 4
    assert place.trials() == []
    assert not list(place.workspace.root.glob("trials/*/attempts/*"))
