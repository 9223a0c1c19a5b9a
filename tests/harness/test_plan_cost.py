"""What a plan costs, the devices it asks for, and how it reads."""

import gc
import json
import math
from pathlib import Path

import pytest

from harness.contract import Report
from harness.errors import HarnessError
from harness.journal.attempts import append_report
from harness.journal.history import History
from harness.journal.workspace import Workspace
from harness.planning import devices
from harness.planning.printed import hours_in_words, lines_of
from harness.study.load import load_study
from harness.study.model import Study
from harness.subjects.settings import StudentSettings, StudentsSettings, alike
from tests.harness.study_files import BODY, HEAD, add_planned, add_run, plan, study, write

THEIRS = {"command": "train.py x={recipe.part.x}", "code": ["train.py"], "cwd": ".",
          "metrics": {"score": {"higher_is_better": True, "headline": True}}}  # fmt: skip


@pytest.fixture
def made(tmp_path: Path) -> Study:
    return study(tmp_path)


def test_cost_comes_from_finished_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "gpus_here", lambda: 4)
    monkeypatch.setattr(devices, "cpus_here", lambda: 16)
    body = BODY + "resources: {gpus: 0.5, cpus: 4}\nbudget: {gpu_hours: 2.9}\n"
    made = study(tmp_path, body)
    history, planned = History(), plan(made)
    assert planned.cost.seconds_per_trial is None
    assert planned.cost.parallel == 4, "16 cores hold four trials of four"
    seconds = [600.0, 620.0, 640.0, 660.0, 680.0]
    for item, took in zip(planned.trials, seconds, strict=False):
        add_run(history, item.trial, seconds=took, gpus=0.5)
    add_run(history, planned.trials[5].trial, state="failed", seconds=360.0, gpus=0.5)
    found = plan(made, history).cost
    assert found.trials == 31
    assert found.seconds_per_trial == 640
    assert found.gpu_hours == pytest.approx(31 * 640 * 0.5 / 3600)
    assert found.hours == pytest.approx(31 * 640 / 4 / 3600)
    assert found.lo_hours == pytest.approx(31 * 608 / 4 / 3600)
    assert found.hi_hours == pytest.approx(31 * 672 / 4 / 3600)
    assert found.spent_gpu_hours == pytest.approx((sum(seconds) + 360) * 0.5 / 3600)
    assert found.basis == "5 finished trial(s) of this plan"
    planned = plan(made, history)
    assert any("over budget: 3.25 GPU-h in all (0.494 spent) of 2.9" in w for w in planned.warnings)
    assert "EXCEEDED" in "\n".join(lines_of(planned, "s.yaml"))
    assert plan(made, history, parallel=2).cost.hours == pytest.approx(31 * 640 / 2 / 3600)


def test_cost_falls_back_to_other_trials_and_says_so(tmp_path: Path, made: Study) -> None:
    history = History()
    for item in plan(made).trials:
        add_run(history, item.trial, seconds=30.0, study_name="elsewhere")
    other = study(tmp_path, BODY.replace("[0.0, 1.0, 2.0]", "[5.0, 6.0]").replace("x: 2.0", "x: 5")
                  .replace("x: 0.0", "x: 6"))  # fmt: skip
    assert plan(other, history).cost.seconds_per_trial is None, "whose trials they were is unknown"
    add_planned(history, "elsewhere", [], subject="another.subject")
    assert plan(other, history).cost.seconds_per_trial is None
    add_planned(history, "elsewhere", [])
    found = plan(other, history).cost
    assert found.basis == "36 finished trial(s) of other studies"
    assert found.seconds_per_trial == 30


def test_devices_that_do_not_exist_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidia0").touch()
    (tmp_path / "nvidiactl").touch()
    assert devices.gpus_here() == 1
    made = study(tmp_path, BODY + "resources: {gpus: 2}\n")
    with pytest.raises(HarnessError, match=r"gpus is 2 a trial, this machine offers 1"):
        plan(made)
    assert plan(made, check_devices=False).cost.parallel == 1
    for visible, count in (("", 0), ("-1", 0), ("0,1", 2), ("GPU-aa, GPU-bb,", 2)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert devices.gpus_here() == count


def test_cores_that_do_not_exist_are_an_error(tmp_path: Path) -> None:
    made = study(tmp_path, BODY + "resources: {cpus: 4096}\n")
    with pytest.raises(HarnessError, match=r"cpus is 4096 a trial"):
        plan(made)


def test_all_that_was_spent_counts_whatever_became_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpus_here", lambda: 4)
    text = BODY + "resources: {gpus: 0.5}\nbudget: {gpu_hours: 0.4}\n"
    trials = [item.trial for item in plan(study(tmp_path, text)).trials]
    history = History()
    add_run(history, trials[0], seconds=360.0, gpus=0.5)
    add_run(history, trials[1], seconds=360.0, gpus=0.5, state="failed")
    gone = next(t for t in trials if t.arm == "x2-warm")  # an orphan of the study below
    add_run(history, gone, seconds=360.0, gpus=0.5)
    elsewhere = next(t for t in trials if t.arm == "x2-cool")
    add_run(history, elsewhere, seconds=360.0, gpus=0.5, study_name="another")
    add_run(history, trials[2], state=None, gpus=0.5)  # its driver was killed, or is at it
    fewer = study(tmp_path, text.replace("1.0, 2.0]", "1.0]").replace("x: 2.0", "x: 1.0"))
    place = Workspace(tmp_path / "workspace")
    folder = place.trial(trials[2].key) / "attempts" / "1-n1"
    folder.mkdir(parents=True)
    append_report(folder, 100.0 + 720.0, Report(step=2))
    planned = plan(fewer, history)
    assert planned.cost.spent_gpu_hours == pytest.approx(0.5 * (3 * 360 + 720) / 3600)
    assert any("GPU-h in all (0.25 spent) of 0.4 GPU-h" in w for w in planned.warnings)


# text --------------------------------------------------------------------------------


def test_text_is_aligned_and_says_what_to_type(made: Study) -> None:
    lines = lines_of(plan(made), "studies/demo.yaml", arms=True)
    assert lines[0] == (
        "demo  6 arms x 6 = 36 trials   new 36  measure 0  reuse 0  stale 0  orphan 0"
    )
    assert lines[-1] == "next    stillhouse run studies/demo.yaml"
    assert "H1      2 vs 2 arms matched on score   6 seeds detect >= 1.43 SDs" in "\n".join(lines)
    assert "arm     x0-warm  new 6  (baseline)" in lines
    assert "a balanced study every 6 trials" in "\n".join(lines)
    assert all(ord(character) < 128 for line in lines for character in line)
    assert all(line[6:8] == "  " or line[:4] == "demo" for line in lines)


def test_text_when_all_is_done(made: Study) -> None:
    history = History()
    for item in plan(made).trials:
        add_run(history, item.trial)
    lines = lines_of(plan(made, history), "s.yaml")
    assert "reuse 36" in lines[0]
    assert lines[1].endswith("nothing to run")
    assert lines[-1].endswith("stillhouse report s.yaml")


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.01, "36 s"), (0.5, "30 min"), (3.17, "3 h 10"), (1.999, "2 h 00"), (60.0, "2.5 d")],
)
def test_durations(hours: float, text: str) -> None:
    assert hours_in_words(hours) == text
    assert not math.isnan(hours)


def test_the_garbage_collector_is_on_again(made: Study) -> None:
    plan(made)
    assert gc.isenabled()


@pytest.mark.parametrize(("recorded", "counts"), [
    (THEIRS, True),
    ({**THEIRS, "grace_seconds": 5.0}, True),
    ({**THEIRS, "command": "other.py"}, False),
    ({"odd": 1}, False),
    ("train.py", False),
])  # fmt: skip
def test_trials_of_the_same_trainer_in_other_studies_count(
    tmp_path: Path, recorded: object, counts: bool
) -> None:
    (tmp_path / "train.py").touch()
    head = HEAD.replace("subject: harness.testing.stub", f"subject: {json.dumps(THEIRS)}")
    made = load_study(write(tmp_path, BODY.replace("recipe: {", "recipe: {colour: red, "), head))
    history = History()
    for item in plan(made).trials[:3]:
        add_run(history, item.trial.model_copy(update={"key": item.trial.key[::-1]}), seconds=30.0,
                study_name="elsewhere")  # fmt: skip
    add_planned(history, "elsewhere", [], subject=recorded)
    assert (plan(made, history).cost.seconds_per_trial == 30.0) is counts


def test_checkpoints_measured_by_the_same_subject_are_alike() -> None:
    one, two = (
        StudentsSettings(students=[StudentSettings(path=path, levels={"arm": "a"})])
        for path in ("a", "b")
    )
    assert alike(one, two)
    assert not alike(one, two.model_copy(update={"measured_by": "lab.subject"}))
    assert not alike(one, "recipes.subject")
