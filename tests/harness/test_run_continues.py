"""`run` against what is there: retries, resumes, stale results, other drivers."""

import json
import os
import shutil
from pathlib import Path

import pytest

from harness.contract import Report
from harness.errors import ClaimedError, HarnessError
from harness.executors.inline import InlineExecutor
from harness.journal import attempts, claims
from harness.journal.shards import claim_run
from harness.journal.writer import Journal
from harness.planning import devices
from harness.running.driver import Driver
from harness.running.refusals import StaleError
from harness.running.study_status import study_status
from harness.testing import stub
from tests.harness.run_place import KEEPER, STUB, Dying, Place, Spy, finished_elsewhere, scores


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


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


def test_what_a_dead_worker_wrote_and_did_not_send_is_told_the_tracker(place: Place):
    """Reports travel in bundles, and the last bundle of a dead worker never arrives."""

    class Silent(Dying):
        def run(self, jobs, on_event, stop) -> None:
            def tell(job, event, at) -> None:
                if not isinstance(event, Report) or event.step != 2 or job.attempt > 1:
                    on_event(job, event, at)

            super().run(jobs, tell, stop)

    told: list[tuple[str, int, int]] = []

    class Listener(Spy):
        def report(self, key, attempt, report, folder, at) -> None:
            told.append((key, attempt, report.step))

    result = place.run(place.study(recipe="{cycles: 4}"), executor=Silent(), tracker=Listener())
    assert result.exit_code == 0
    for trial in place.trials():
        steps = [(attempt, step) for key, attempt, step in told if key == trial.key]
        assert steps == [(1, 1), (1, 2), (2, 3), (2, 4), (2, 4)]


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
        patch.setattr("harness.planning.devices.gpus_here", lambda: 1, raising=False)
        patch.setenv("CUDA_VISIBLE_DEVICES", "0")
        result = place.run(made, executor=OnShare())
    assert result.exit_code == 0
    assert sorted(seen) == [(0.5, 1)] * 4 + [(1.0, 2)] * 4


def test_an_interrupted_attempt_is_closed_and_continued(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    """As a SIGKILL of the driver leaves it: opened, reported, never closed, claim gone."""
    monkeypatch.setattr(devices, "gpus_here", lambda: 1)
    made = place.study(KEEPER + "resources: {{gpus: 0.5}}\n")

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
    standing = study_status("kept", place.history(), place.workspace)
    assert standing.counts == {"pending": 3, "interrupted": 1}
    result = place.run(made)
    assert result.exit_code == 0
    (broken,) = [t for t in place.trials() if len(t.attempts) == 2]
    first, second = broken.ordered
    assert first.closed is not None
    assert (first.closed.state, first.closed.step) == ("killed", 3)
    assert "interrupted" in first.closed.reason
    assert first.closed.gpus == 0.5, "what it took is spent"
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
    with pytest.raises(HarnessError, match="not both"):
        place.run(place.study(), accept_stale=True, rerun_stale=True)
    accepted = place.run(place.study(), accept_stale=True)
    assert accepted.exit_code == 0
    assert all(len(t.attempts) == 1 for t in place.trials())
    rerun = place.run(place.study(), rerun_stale=True)
    assert rerun.exit_code == 0
    for trial in place.trials():
        assert [a.opened.code for a in trial.ordered] == ["stub-code", "other-code"]
        assert list(trial.superseded["demo"]) == ["stub-code"]
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


def test_a_second_run_of_the_study_is_refused(place: Place):
    made = place.study()
    with claim_run(place.workspace, "demo", None), pytest.raises(ClaimedError) as caught:
        place.run(made)
    assert f"pid {os.getpid()}" in str(caught.value)
    assert not list(place.workspace.journal.glob("*"))
    assert place.run(made).exit_code == 0


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


def test_a_trial_awaited_is_only_measured_where_the_protocol_alone_is_another(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    text = STUB.replace("testing.stub", "testing.stub_measured")
    other = Place(place.folder / "elsewhere")
    other.run(other.study(text))
    donor = next(t for t in other.trials() if t.ordered[0].opened.trial.kind == "trial")
    claim = claims.try_claim(claims.trial_lock(place.workspace, donor.key), what="other-study")
    assert claim is not None

    def finish(driver: Driver) -> None:
        if claim.path.with_suffix(".json").exists():
            made = donor.ordered[0]
            folders = [attempts.folder_of(p.workspace, made) for p in (other, place)]
            shutil.copytree(*folders)
            journal = Journal(place.workspace.journal)
            for record in (made.opened, made.closed):
                assert record is not None
                journal.append(record)
            claim.release()

    monkeypatch.setattr(Driver, "_pause", finish)
    result = place.run(place.study(text, protocol="noisy"))
    assert result.exit_code == 0
    known = place.history().trials[donor.key]
    assert [a.opened.mode for a in known.ordered] == ["train", "measure"]
    assert known.measured("stub-noisy")
    assert known.measured("stub-p") == donor.measured("stub-p")


def test_a_trial_let_go_unfinished_is_run(place: Place, monkeypatch: pytest.MonkeyPatch):
    made = place.study()
    key = finished_elsewhere(place)[0].key
    claim = claims.try_claim(claims.trial_lock(place.workspace, key))
    assert claim is not None
    monkeypatch.setattr(Driver, "_pause", lambda driver: claim.release())
    result = place.run(made)
    assert result.tally is not None
    assert result.tally.count("done") == 4
