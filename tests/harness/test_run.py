"""`run` on the stub, in this process: what is run, recorded and printed."""

import json
from pathlib import Path

import pytest

from harness.contract import Fingerprints
from harness.errors import HarnessError
from harness.running import run_study
from harness.study.opened_study import OpenedStudy
from harness.testing import stub
from tests.harness.run_place import KEEPER, STUB, Dying, Place, Spy


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


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
    assert len(list(folder.rglob("checkpoint.json"))) == 1, "no student: it is all there is"
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


def test_smoke_does_not_call_a_dead_worker_good(place: Place):
    result = place.run(place.study(recipe="{cycles: 50}"), smoke=True, executor=Dying(after=1))
    assert result.exit_code == 1


def test_smoke_takes_the_baseline_and_both_ends_of_the_design(place: Place, monkeypatch):
    monkeypatch.setattr(
        stub, "references", lambda recipe, protocol: {"teacher": {"steps": 3}}, raising=False
    )
    text = STUB.replace("[0.0, 1.0]", "[0.0, 1.0, 2.0, 3.0]")
    text = text.replace("baseline: {{part.x: 0.0}}", "baseline: {{part.x: 1.0}}")
    result = place.run(place.study(text), smoke=True)
    assert result.exit_code == 0
    assert "teacher" in {t.trial.arm for t in result.plan.trials}
    worked = [line.split()[1].split("-")[0] for line in place.said if "works" in line]
    assert worked == ["x1", "x0", "x3"]
    assert "smoke   3 of 4 arms" in place.said[0]


def test_a_budget_is_kept_unless_told_otherwise(place: Place, monkeypatch):
    text = STUB + "budget: {{hours: 1.0e-9}}\n"
    assert place.run(place.study(text)).exit_code == 0, "nothing is known of its cost yet"
    assert place.run(place.study(text)).exit_code == 0, "there is nothing to run"
    more = place.study(text.replace("replicates: 2", "replicates: 3"))
    with pytest.raises(HarnessError, match=r"over budget: .* h of 1e-09 h, with 2 trials") as error:
        place.run(more)
    assert error.value.exit_code == 2
    assert "--over-budget" in str(error.value)
    assert len(place.trials()) == 4
    assert place.run(more, over_budget=True).exit_code == 0
    assert len(place.trials()) == 6
    prints = Fingerprints(data="stub-data", protocol="stub-p", code="other")
    monkeypatch.setattr(stub, "fingerprints", lambda recipe, protocol: prints)
    assert place.run(more, accept_stale=True).exit_code == 0
    with pytest.raises(HarnessError, match="with 6 trials to run"):
        place.run(more, rerun_stale=True)


def test_what_cannot_be_run_again_is_not_superseded(place: Place, monkeypatch):
    made = place.study()
    place.run(made)
    lacking = lambda recipe, protocol: ["weights: fetch them"]  # noqa: E731
    monkeypatch.setattr(stub, "missing", lacking, raising=False)
    assert place.run(made).exit_code == 0, "nothing is to run"
    prints = Fingerprints(data="stub-data", protocol="stub-p", code="other")
    monkeypatch.setattr(stub, "fingerprints", lambda recipe, protocol: prints)
    with pytest.raises(HarnessError, match="weights: fetch them"):
        place.run(made, rerun_stale=True)
    assert all(t.complete for t in place.trials()), "the old results still count"


def test_run_study_gives_the_exit_code(place: Place):
    code = run_study.run(
        OpenedStudy(place.study(), place.workspace), executor="inline", tracker=None, echo=print
    ).exit_code
    assert code == 0
