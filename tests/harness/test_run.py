"""`run_study` on the stubs, in this process: what is run, recorded, continued, refused."""

import errno
import json
import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import pytest

from harness import claims, run
from harness.analyse.answer import Answer
from harness.contract import Report
from harness.driver import Driver
from harness.errors import ClaimedError, WorkspaceError
from harness.executors.base import Ended
from harness.executors.inline import InlineExecutor
from harness.executors.worker import execute
from harness.journal import History, Journal, TrialHistory
from harness.run import RunResult, StaleError
from harness.standing import standing_of
from harness.study import Study, load
from harness.testing import stub
from harness.trackers.base import NullTracker
from harness.workspace import Workspace

STUB = """\
name: demo
question: Does x help?
subject: harness.testing.stub
recipe: {recipe}
factors: {{part.x: [0.0, 1.0]}}
baseline: {{part.x: 0.0}}
replicates: 2
protocol: {protocol}
contrasts:
  - {{id: H1, claim: x helps, a: {{part.x: 1.0}}, b: {{part.x: 0.0}}, expect: higher}}
"""
KEEPER = """\
name: kept
question: Does x help?
subject: harness.testing.keeper
recipe: {recipe}
factors: {{x: [0.0, 1.0]}}
baseline: {{x: 0.0}}
replicates: 2
protocol: {protocol}
"""


class Place:
    """A project with one study, and what running it said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        (folder / "pyproject.toml").touch()
        self.workspace = Workspace(folder / "w")
        self.said: list[str] = []

    def study(self, text: str = STUB, recipe: str = "{}", protocol: str = "p") -> Study:
        file = self.folder / "study.yaml"
        file.write_text(text.format(recipe=recipe, protocol=protocol))
        return load(file)

    def run(self, made: Study, **options) -> RunResult:
        self.said = []
        options = {"executor": "inline", "echo": self.said.append, **options}
        return run.run(made, workspace=self.workspace, **options)

    def history(self) -> History:
        return History.read([self.workspace.journal])

    def trials(self) -> list[TrialHistory]:
        return list(self.history().trials.values())


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class Spy(NullTracker):
    """Notes what it is told; breaks where asked to."""

    def __init__(self, breaks: str = "") -> None:
        self.calls: list[str] = []
        self.breaks = breaks

    def _note(self, name: str) -> None:
        self.calls.append(name)
        if name == self.breaks:
            raise ConnectionError("the server is gone")

    def start(self, plan, history) -> None:
        self._note("start")

    def opened(self, record) -> None:
        self._note("opened")

    def report(self, key, attempt, report, folder, at) -> None:
        self._note("report")

    def closed(self, record, folder) -> None:
        self._note("closed")

    def answer(self, answer, report_html) -> None:
        assert isinstance(answer, Answer)
        assert report_html.is_file()
        self._note("answer")

    def close(self, timeout: float = 60.0) -> list[str]:
        self._note("close")
        return ["two runs wait for the server: stillhouse sync"]


def test_runs_all_records_all_and_answers(place: Place):
    spy = Spy()
    result = place.run(place.study(), tracker=spy)
    assert result.exit_code == 0
    assert {t.state for t in place.trials()} == {"done"}
    assert len(place.trials()) == 4
    assert spy.calls == [
        "start", *["opened", *["report"] * 4, "closed"] * 4, "answer", "close",
    ]  # fmt: skip
    assert result.warnings == ["two runs wait for the server: stillhouse sync"]
    assert result.report is not None
    assert result.report.is_file()
    assert result.answer is not None
    assert result.answer.verdicts[0].id == "H1"
    assert sum(line.startswith("done") for line in place.said) == 4


def test_closing_record_holds_everything(place: Place):
    place.run(place.study())
    trial = place.trials()[0]
    done = trial.complete
    assert done is not None
    assert done.closed is not None
    assert done.opened.protocol == "stub-p"
    assert done.opened.code == "stub-code"
    assert done.opened.environment["python"]
    assert done.opened.device
    assert done.closed.step == 3
    assert done.closed.seconds > 0
    assert [m.step for m in done.closed.measurements] == [3]
    assert done.closed.measurements[0].estimates[0].name == "score"
    assert [a.kind for a in done.closed.artifacts] == ["items"]
    assert done.closed.info["device"] == done.opened.device
    folder = place.workspace.trial(trial.key)
    assert json.loads((folder / "trial.json").read_text())["arm"] == done.opened.trial.arm
    assert not list(folder.rglob("checkpoint.json")), "checkpoints go when a trial is done"
    assert (folder / "attempts" / done.folder_name / "items.csv").exists()


def test_again_runs_nothing_and_touches_nothing(place: Place):
    made = place.study()
    place.run(made)
    before = {f: f.stat().st_mtime_ns for f in place.workspace.root.rglob("*")}
    asked: list[int] = []

    def tracker() -> Spy:
        asked.append(1)
        return Spy()

    result = place.run(made, tracker=tracker)
    assert result.exit_code == 0
    assert result.report == place.workspace.study("demo") / "report.html"
    assert asked == []
    assert before == {f: f.stat().st_mtime_ns for f in place.workspace.root.rglob("*")}


def test_a_missing_report_or_a_changed_question_is_answered_without_running(place: Place):
    made = place.study()
    first = place.run(made)
    assert first.report is not None
    first.report.unlink()
    second = place.run(made)
    assert second.report is not None
    assert second.report.is_file()
    assert len(place.history().planned["demo"]) == 1
    changed = place.study(STUB.replace("Does x help?", "Does x really help?"))
    third = place.run(changed)
    assert third.tally is None
    assert third.answer is not None
    assert third.answer.question == "Does x really help?"
    assert len(place.history().planned["demo"]) == 2
    assert all(len(t.attempts) == 1 for t in place.trials())


def test_only_what_is_missing_runs(place: Place):
    place.run(place.study())
    more = place.study(STUB.replace("replicates: 2", "replicates: 3"))
    result = place.run(more)
    assert result.tally is not None
    assert result.tally.count("done") == 2
    assert all(len(t.attempts) == 1 for t in place.trials())


def test_failures_are_counted_told_and_tried_again(place: Place):
    recipe = "{fault: raise, fault_replicate: 1}"
    result = place.run(place.study(recipe=recipe))
    assert result.exit_code == 1
    states = sorted(t.state for t in place.trials())
    assert states == ["done", "done", "failed", "failed"]
    failed = [t for t in place.trials() if t.state == "failed"]
    assert "the stub was asked to raise" in (failed[0].latest.closed.reason)  # type: ignore[union-attr]
    assert "RuntimeError" in (place.workspace.trial(failed[0].key) / "log.txt").read_text()
    assert any("stillhouse logs" in line for line in place.said)
    again = place.run(place.study(recipe=recipe))
    assert again.exit_code == 1
    assert sorted(len(t.attempts) for t in place.trials()) == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        ("nan", "done", ""),
        ("nothing", "failed", "ended without an outcome"),
        ("diverge", "diverged", "asked to"),
    ],
)
def test_states_are_true(place: Place, fault: str, state: str, reason: str):
    result = place.run(place.study(recipe=f"{{fault: {fault}}}"))
    assert result.exit_code == (1 if state == "failed" else 0)
    assert {(t.state, t.latest.closed.reason) for t in place.trials()} == {(state, reason)}  # type: ignore[union-attr]


def test_a_measurement_that_is_not_finite_diverged(place: Place):
    result = place.run(place.study(KEEPER, recipe="{fault: measured-nan}"))
    assert result.exit_code == 0
    closed = place.trials()[0].latest.closed  # type: ignore[union-attr]
    assert closed is not None
    assert (closed.state, closed.reason) == ("diverged", "score not finite at step 4")
    assert closed.measurements[0].metrics == {"score": None}
    (journal,) = place.workspace.journal.iterdir()
    assert "NaN" not in journal.read_text()


class Dying(InlineExecutor):
    """Its worker vanishes after a number of reports, in the first attempts of each trial."""

    def __init__(self, after: int = 2, times: int = 1, tear: bool = False) -> None:
        self.after = after
        self.times = times
        self.tear = tear

    def run(self, jobs, on_event, stop) -> None:
        for job in jobs:
            on_event(job, "started", time.time())
            running = execute(job)
            for number, (at, event) in enumerate(running, 1):
                on_event(job, event, at)
                if number == self.after and job.attempt <= self.times:
                    running.close()  # nothing of it runs on: files are as a SIGKILL leaves them
                    if self.tear:
                        newest = max(job.folder.glob("checkpoint-*.json"))
                        newest.write_text(newest.read_text()[:5])
                    on_event(job, Ended(state="killed", reason="died", died=True), time.time())
                    break


def scores(place: Place) -> dict[int, float | None]:
    return {
        t.complete.opened.trial.replicate: t.measured("stub-p")[0].metrics["score"]
        for t in place.trials()
        if t.complete
    }


def test_a_dead_worker_is_retried_once_and_continues_bit_for_bit(tmp_path: Path):
    whole, broken = Place(tmp_path / "whole"), Place(tmp_path / "broken")
    whole.run(whole.study(recipe="{cycles: 4}"))
    executor = Dying()
    result = broken.run(broken.study(recipe="{cycles: 4}"), executor=executor)
    assert result.exit_code == 0
    assert scores(broken) == scores(whole)
    for trial in broken.trials():
        first, second = trial.ordered
        assert first.closed is not None
        assert (first.closed.state, first.closed.step) == ("killed", 2)
        assert second.opened.resumed_from == 1
        folder = broken.workspace.trial(trial.key) / "attempts" / second.folder_name
        steps = [json.loads(t)["report"]["step"] for t in (folder / "reports.jsonl").open()]
        assert steps == [1, 2, 3, 4, 4], "the learning curve is whole, nothing twice"
    assert sum(line.startswith("resume") for line in broken.said) == 4


def test_a_worker_that_dies_again_is_given_up(place: Place):
    result = place.run(place.study(recipe="{cycles: 4}"), executor=Dying(times=9))
    assert result.exit_code == 1
    assert {t.state for t in place.trials()} == {"killed"}
    assert {len(t.attempts) for t in place.trials()} == {2}


def test_out_of_memory_on_a_shared_gpu_gets_the_whole_device(place: Place):
    seen: list[tuple[float, int]] = []

    class OnShare(InlineExecutor):
        def run(self, jobs, on_event, stop) -> None:
            def noted():
                for job in jobs:
                    seen.append((job.gpus, job.attempt))
                    yield job

            super().run(noted(), on_event, stop)

    made = place.study(KEEPER, recipe="{fault: memory}")
    shared = made.resources.model_copy(update={"gpus": 0.5})
    made = made.model_copy(update={"resources": shared})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.cost.gpus_here", lambda: 1, raising=False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "0")
        result = place.run(made, executor=OnShare())
    assert result.exit_code == 0
    assert sorted(seen) == [(0.5, 1)] * 4 + [(1.0, 2)] * 4


def test_an_interrupted_attempt_is_closed_and_continued(place: Place):
    """As a SIGKILL of the driver leaves it: opened, reported, never closed, claim gone."""
    made = place.study(KEEPER)

    class Gone(BaseException):
        pass

    class Vanishing(InlineExecutor):
        def run(self, jobs, on_event, stop) -> None:
            def tell(job, event, at) -> None:
                on_event(job, event, at)
                if isinstance(event, Report) and event.step == 3:
                    raise Gone

            super().run(jobs, tell, stop)

    with pytest.raises(Gone):
        place.run(made, executor=Vanishing())
    standing = standing_of("kept", place.history(), place.workspace)
    assert standing.counts == {"pending": 3, "interrupted": 1}
    result = place.run(made)
    assert result.exit_code == 0
    (broken,) = [t for t in place.trials() if len(t.attempts) == 2]
    first, second = broken.ordered
    assert first.closed is not None
    assert (first.closed.state, first.closed.step) == ("killed", 3)
    assert "interrupted" in first.closed.reason
    assert second.opened.resumed_from == 1
    assert second.closed is not None
    assert second.closed.state == "done"
    assert {t.state for t in place.trials()} == {"done"}


@pytest.mark.parametrize(("after", "start"), [(3, 2), (1, 0)])
def test_a_corrupt_last_checkpoint_falls_back_and_says_so(tmp_path: Path, after: int, start: int):
    whole, torn = Place(tmp_path / "whole"), Place(tmp_path / "torn")
    whole.run(whole.study(KEEPER))
    result = torn.run(torn.study(KEEPER), executor=Dying(after=after, tear=True))
    assert result.exit_code == 0
    protocol = "keeper-p"
    expected = {t.key: t.measured(protocol)[0].metrics for t in whole.trials()}
    assert {t.key: t.measured(protocol)[0].metrics for t in torn.trials()} == expected
    told = f"checkpoint-{start}.json" if start else "the beginning"
    assert sum(told in line for line in torn.said if line.startswith("note")) == 4
    for trial in torn.trials():
        last = trial.ordered[-1]
        assert last.closed is not None
        assert told in last.closed.info["checkpoint_fallback"]
        folder = torn.workspace.trial(trial.key) / "attempts" / last.folder_name
        steps = [json.loads(t)["report"]["step"] for t in (folder / "reports.jsonl").open()]
        assert steps == [1, 2, 3, 4, 4]


def test_kept_students_are_measured_again_not_trained(place: Place):
    place.run(place.study(KEEPER, protocol="p"))
    result = place.run(place.study(KEEPER, protocol="q"))
    assert result.exit_code == 0
    for trial in place.trials():
        assert [a.opened.mode for a in trial.ordered] == ["train", "measure"]
        assert trial.measured("keeper-q")[0].metrics == trial.measured("keeper-p")[0].metrics
    shutil.rmtree(place.workspace.root / "trials")  # the students are gone
    place.run(place.study(KEEPER, protocol="r"))
    assert {t.ordered[-1].opened.mode for t in place.trials()} == {"train"}


def test_changed_code_is_refused_until_told_what_to_do(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    place.run(place.study())
    original = stub.fingerprints

    def changed(recipe, protocol):
        return original(recipe, protocol).model_copy(update={"code": "other-code"})

    monkeypatch.setattr(stub, "fingerprints", changed)
    spy = Spy()
    with pytest.raises(StaleError, match="--rerun-stale") as caught:
        place.run(place.study(), tracker=spy)
    assert caught.value.exit_code == 2
    assert spy.calls == []
    with pytest.raises(run.HarnessError, match="not both"):
        place.run(place.study(), accept_stale=True, rerun_stale=True)
    accepted = place.run(place.study(), accept_stale=True)
    assert accepted.exit_code == 0
    assert all(len(t.attempts) == 1 for t in place.trials())
    rerun = place.run(place.study(), rerun_stale=True)
    assert rerun.exit_code == 0
    for trial in place.trials():
        assert [a.opened.code for a in trial.ordered] == ["stub-code", "other-code"]
        assert trial.superseded_to == 1
        assert trial.complete is trial.ordered[1]
    assert place.run(place.study()).tally is None


def test_changed_data_is_run_under_its_own_key(place: Place, monkeypatch: pytest.MonkeyPatch):
    place.run(place.study())
    original = stub.fingerprints
    monkeypatch.setattr(
        stub,
        "fingerprints",
        lambda recipe, protocol: original(recipe, protocol).model_copy(update={"data": "new"}),
    )
    with pytest.raises(StaleError):
        place.run(place.study())
    assert place.run(place.study(), rerun_stale=True).exit_code == 0
    assert len(place.trials()) == 8
    assert sorted({t.ordered[-1].opened.trial.data for t in place.trials()}) == ["new", "stub-data"]
    assert place.run(place.study()).tally is None


@pytest.mark.parametrize("moment", ["start", "opened", "report", "closed", "answer", "close"])
def test_a_broken_tracker_loses_nothing(place: Place, moment: str):
    result = place.run(place.study(), tracker=Spy(breaks=moment))
    assert result.exit_code == 0
    assert {t.state for t in place.trials()} == {"done"}
    assert "the server is gone" in " ".join(result.warnings)
    assert "stillhouse sync" in " ".join(result.warnings)


def test_a_tracker_that_cannot_be_made_loses_nothing(place: Place):
    def make() -> Spy:
        raise OSError("no such address")

    result = place.run(place.study(), tracker=make)
    assert result.exit_code == 0
    assert "no such address" in result.warnings[0]


def test_a_report_that_cannot_be_made_is_a_warning(place: Place, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("harness.report.page.write_report", lambda *given: 1 / 0)
    spy = Spy()
    result = place.run(place.study(), tracker=spy)
    assert result.exit_code == 0
    assert result.report is None
    assert "ZeroDivisionError" in result.warnings[0]
    assert "stillhouse report" in result.warnings[0]
    assert {t.state for t in place.trials()} == {"done"}


def test_a_second_run_of_the_study_is_refused(place: Place):
    made = place.study()
    with claims.claim_study(place.workspace, "demo"), pytest.raises(ClaimedError) as caught:
        place.run(made)
    assert f"pid {os.getpid()}" in str(caught.value)
    assert not list(place.workspace.journal.glob("*"))
    assert place.run(made).exit_code == 0


def finished_elsewhere(place: Place) -> list[TrialHistory]:
    """The trials of the same study as another workspace holds them."""
    other = Place(place.folder / "elsewhere")
    other.run(other.study())
    return other.trials()


def test_a_trial_claimed_by_another_study_is_awaited(place: Place, monkeypatch: pytest.MonkeyPatch):
    """Its driver finishes it meanwhile: it is not run again."""
    made = place.study()
    donor = finished_elsewhere(place)[2]
    claim = claims.try_claim(claims.trial_lock(place.workspace, donor.key), what="other-study")
    assert claim is not None

    def finish(driver: Driver) -> None:
        if claim.path.with_suffix(".json").exists():
            journal = Journal(place.workspace.journal)
            journal.append(donor.ordered[0].opened)
            assert donor.ordered[0].closed is not None
            journal.append(donor.ordered[0].closed)
            claim.release()

    monkeypatch.setattr(Driver, "_pause", finish)
    result = place.run(made)
    assert result.exit_code == 0
    assert result.tally is not None
    assert result.tally.elsewhere == {donor.key}
    assert any("other-study" in line for line in place.said)
    assert {len(t.attempts) for t in place.trials()} == {1}


def test_a_trial_let_go_unfinished_is_run(place: Place, monkeypatch: pytest.MonkeyPatch):
    made = place.study()
    key = finished_elsewhere(place)[0].key
    claim = claims.try_claim(claims.trial_lock(place.workspace, key))
    assert claim is not None
    monkeypatch.setattr(Driver, "_pause", lambda driver: claim.release())
    result = place.run(made)
    assert result.tally is not None
    assert result.tally.count("done") == 4


def test_a_workspace_that_cannot_be_written_is_refused_before_anything(place: Place):
    (place.folder / "file").write_text("in the way")
    place.workspace = Workspace(place.folder / "file" / "w")
    spy = Spy()
    with pytest.raises(WorkspaceError, match="cannot be written"):
        place.run(place.study(), tracker=spy)
    assert spy.calls == []


def test_a_full_workspace_is_refused_before_anything(place: Place, monkeypatch: pytest.MonkeyPatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1, 1, 0))
    with pytest.raises(WorkspaceError, match="0 MiB free"):
        place.run(place.study())
    assert not list(place.workspace.journal.glob("*"))


def test_a_journal_that_cannot_be_written_any_more_ends_the_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    """The disk fills up in the middle: no result is claimed that is not recorded."""
    original = Journal.append
    written: list[str] = []

    def append(self, record) -> None:
        if written.count("closed") == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(record.type)
        original(self, record)

    monkeypatch.setattr(Journal, "append", append)
    spy = Spy()
    with pytest.raises(WorkspaceError, match="No space left on device"):
        place.run(place.study(), tracker=spy)
    assert spy.calls[-1] == "close"
    assert sorted(t.state for t in place.trials()) == ["done", "done"]
    monkeypatch.undo()
    assert place.run(place.study()).exit_code == 0
    assert {t.state for t in place.trials()} == {"done"}


def test_smoke_tries_three_arms_and_records_nothing(place: Place):
    result = place.run(place.study(recipe="{cycles: 50}"), smoke=True)
    assert result.exit_code == 0
    assert sum("works" in line for line in place.said) == 2
    assert not any("step 4" in line for line in place.said)
    assert place.trials() == []
    assert not list(place.workspace.cache.iterdir())
    failing = place.run(place.study(recipe="{fault: raise}"), smoke=True)
    assert failing.exit_code == 1
    assert any("RuntimeError" in line for line in place.said)


def test_run_study_gives_the_exit_code(place: Place):
    code = run.run_study(
        place.study(), workspace=place.workspace, executor="inline", tracker=None, echo=print
    )
    assert code == 0
