import io

import pytest

from harness.contract import Fingerprints, Measurement, Report
from harness.executors.base import Job
from harness.journal.history import History
from harness.journal.records import Closed, MeasuredAt
from harness.planning.plan import Cost, Plan
from harness.running import display
from harness.running.display import Display, LiveDisplay, Outlook
from harness.testing import stub
from tests.harness.study_files import add_run, study
from tests.harness.study_files import plan as study_plan


@pytest.fixture
def plan() -> Plan:
    return Plan(
        study="demo", question="?", digest="d", study_file="study.yaml", subject="s",
        protocol="p", fingerprints=Fingerprints(data="d", protocol="p", code="c"), factors={},
        arms=[], trials=[], contrasts=[], replicates=3, primary="score",
        cost=Cost(trials=4, gpu_hours=2.0),
    )  # fmt: skip


def job(tmp_path, name: str, replicate: int = 0) -> Job:
    return Job(
        key=name * 16, short=f"{name}-r{replicate}", attempt=1, nonce="n", subject="s",
        recipe=stub.Recipe().model_dump(), replicate=replicate, folder=tmp_path,
        log=tmp_path / "log.txt", cache=tmp_path, measurement=Measurement(protocol="p"),
    )  # fmt: skip


def closed(made: Job, state: str = "done", seconds: float = 2.0, reason: str = "") -> Closed:
    return Closed(
        at=1.0, key=made.key, attempt=1, nonce="n", state=state, seconds=seconds, gpus=1.0,
        reason=reason,
    )  # fmt: skip


def test_one_line_per_finished_trial(tmp_path, plan: Plan):
    said: list[str] = []
    with display.make_display(plan, 3, said.append, History(), live=False) as view:
        assert type(view) is Display
        good, bad, weak = job(tmp_path, "a"), job(tmp_path, "b"), job(tmp_path, "c", 1)
        view.started(good, 0)
        view.reported(good, Report(step=1, total=3))
        view.ended(good, closed(good), again=False)
        view.started(bad, 0)
        view.ended(bad, closed(bad, "failed", reason="ValueError: no"), again=False)
        view.started(weak, 0)
        view.ended(weak, closed(weak, "killed", reason="died"), again=True)
        view.started(weak, 7)
        view.ended(weak, closed(weak, "diverged", reason="loss"), again=False)
    assert said == [
        "done    a-r0  2.0 s  1/3",
        "failed  b-r0  2.0 s  2/3  ValueError: no  -> stillhouse logs bbbbbbbbb",
        "retry   c-r1  2.0 s  2/3  died",
        "resume  c-r1  attempt 1 from step 7",
        "diverged c-r1  2.0 s  3/3  loss",
    ]


def test_where_nothing_ends_for_a_while_it_says_that_work_goes_on(
    tmp_path, plan: Plan, monkeypatch: pytest.MonkeyPatch
):
    clock = [100.0]
    monkeypatch.setattr("harness.running.display.time.monotonic", lambda: clock[0])
    said: list[str] = []
    view = display.make_display(plan, 3, said.append, History(), live=False)
    one, two = job(tmp_path, "a"), job(tmp_path, "b")
    view.started(one, 0)
    view.started(two, 0)
    clock[0] += display.QUIET - 1
    view.reported(one, Report(step=1, total=3))
    assert said == []
    clock[0] += 1
    view.reported(two, Report(step=2, total=3))
    view.reported(one, Report(step=2, total=3))
    assert said == ["running a-r0  step 1/3 and 1 more"]
    view.ended(two, closed(two), again=False)
    clock[0] += display.QUIET
    view.reported(one, Report(step=3))
    assert said[2:] == ["running a-r0  step 3"]
    view.ended(one, closed(one), again=False)
    clock[0] += display.QUIET
    view.reported(one, Report(step=3))  # it came late
    said.pop()
    quiet = LiveDisplay(plan, 3, said.append, History())
    quiet.started(one, 0)
    clock[0] += display.QUIET
    quiet.reported(one, Report(step=1))
    assert len(said) == 3, "the live view shows it anyway"


def test_live_lines(tmp_path, plan: Plan, monkeypatch: pytest.MonkeyPatch):
    clock = [100.0]
    monkeypatch.setattr("harness.running.display.time.monotonic", lambda: clock[0])
    view = LiveDisplay(plan, 4, print, History())
    assert view.lines()[0].startswith("0/4 done")
    done, bad, now = job(tmp_path, "a"), job(tmp_path, "b"), job(tmp_path, "c", 1)
    for made, state in ((done, "done"), (bad, "failed")):
        view.started(made, 0)
        view.ended(made, closed(made, state, 1800.0, "RuntimeError: out"), again=False)
    view.started(now, 0)
    view.reported(now, Report(step=120, total=200))
    clock[0] += 3600
    first, worker, failure = view.lines()
    assert first.startswith("1/4 done")
    assert "1 running" in first
    assert "1 failed" in first
    assert "replicate 2/3" in first
    assert "1.0/2.0 GPU-h" in first
    assert "left 1 h 00 min" in first
    assert worker == " c-r1  step 120/200  1 h 00 min"
    assert failure == (" last failure: b-r0 RuntimeError: out -> stillhouse logs bbbbbbbbb")


def test_live_view_keeps_finished_trials_quiet_and_failures_loud(
    tmp_path, plan: Plan, monkeypatch: pytest.MonkeyPatch
):
    from rich.console import Console

    out = io.StringIO()
    view = LiveDisplay(plan, 2, print, History())
    plain = Console(file=out, force_terminal=True, width=60, highlight=False)
    view._console = view._live.console = plain
    with view:
        for name, state in (("a", "done"), ("b", "failed")):
            made = job(tmp_path, name)
            view.started(made, 0)
            view.ended(made, closed(made, state, reason="[bold]odd[/]" * 20), again=False)
        view._live.refresh()
    text = out.getvalue()
    assert "done    a-r0" not in text
    assert "failed  b-r0" in text
    assert "[bold]odd" in text, "what a subject says is no markup"
    assert "1/2 done" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7800, "2 h 10 min")],
)
def test_durations(seconds: float, text: str):
    assert display.elapsed_in_words(seconds) == text


def test_contrasts_are_shown_over_complete_replicates_as_trials_finish(tmp_path):
    """What the history holds counts; a replicate without all its matched arms does not."""
    made = study(tmp_path)
    planned = study_plan(made)
    by_arm = {(t.trial.arm, t.trial.replicate): t.trial for t in planned.trials}
    history = History()
    scores = {"x2-warm": 3.0, "x0-warm": 1.0, "x2-cool": 5.0, "x0-cool": 4.5}
    for arm, score in scores.items():
        add_run(history, by_arm[arm, 0], metrics={"score": score})
    view = LiveDisplay(planned, 4, print, history)
    assert view.lines()[1:] == [" H1 +1.25 (1/6, interim)"], "mean of 2.0 and 0.5"
    for arm, score in scores.items():
        assert "(1/6" in view.lines()[1], "the second replicate is not complete yet"
        trial = by_arm[arm, 1]
        closing = Closed(
            at=1.0, key=trial.key, attempt=1, nonce="n", state="done",
            measurements=[MeasuredAt(step=3, metrics={"score": 2 * score, "cost": None})],
        )  # fmt: skip
        view.ended(job(tmp_path, "a"), closing, again=False)
    assert view.lines()[1:] == [" H1 +1.88 (2/6, interim)"], "mean of 1.25 and 2.5"


def test_a_diverged_trial_gives_no_interim_number(tmp_path):
    planned = study_plan(study(tmp_path))
    outlook = Outlook(planned, History())
    for trial in (t.trial for t in planned.trials):
        outlook.add(
            Closed(
                at=1.0, key=trial.key, attempt=1, nonce="n", state="diverged",
                measurements=[MeasuredAt(step=3, metrics={"score": 1.0})],
            )
        )  # fmt: skip
    assert outlook.lines() == []
