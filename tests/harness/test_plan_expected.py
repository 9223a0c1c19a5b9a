"""Cost before any trial has run, GPUs that are elsewhere, and what is not on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.contract import Expected
from harness.errors import HarnessError
from harness.journal.history import History
from harness.journal.workspace import Workspace
from harness.planning import cost
from harness.planning.printed import lines_of
from harness.running.refusals import refuse_missing
from harness.running.run_study import run
from harness.study.opened_study import OpenedStudy
from harness.testing import stub
from tests.harness.study_files import BODY, add_planned, add_run, plan, study

GPU = BODY + "resources: {gpus: 2}\nmeasure_at: [1, 3]\n"


def _expected(recipe, protocol, resources):
    assert resources == {"gpus": 2, "cpus": 1, "measurements": 2}
    hour = 3600.0 * (1 + recipe["part"]["x"])
    return Expected(
        seconds=hour, lo=hour / 2, hi=2 * hour, memory_gb=60 + hour / 3600, basis="a guess"
    )


def _plan(made, history=None, **options):
    return plan(made, history or History(), check_devices=False, **options)


def test_each_arm_costs_what_its_subject_expects(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(stub, "expected_cost", _expected, raising=False)
    made = study(tmp_path, GPU)
    planned = _plan(made, gpus=8)
    # x is 0, 1 and 2 in two arms of six replicates each.
    whole = 12 * (1 + 2 + 3)
    assert planned.cost.gpu_hours == pytest.approx(2 * whole)
    assert planned.cost.parallel == 4
    assert planned.cost.hours == pytest.approx(whole / 4)
    assert planned.cost.lo_hours == pytest.approx(whole / 8)
    assert planned.cost.hi_hours == pytest.approx(whole / 2)
    text = "\n".join(lines_of(planned, "s.yaml"))
    assert "estimated, no trial measured: a guess" in text
    assert "63 GB a GPU: fits one of 80 GB" in text


def test_measured_trials_of_the_study_count_more_and_those_of_others_less(
    tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(stub, "expected_cost", _expected, raising=False)
    made = study(tmp_path, GPU)
    history = History()
    for item in _plan(made).trials[:3]:
        elsewhere = item.trial.model_copy(update={"key": item.trial.key[::-1]})
        add_run(history, elsewhere, seconds=7.0, study_name="elsewhere")
    add_planned(history, "elsewhere", [])
    assert _plan(made, history).cost.basis.startswith("estimated")
    monkeypatch.delattr(stub, "expected_cost")
    assert _plan(made, history).cost.basis.endswith("of other studies")
    monkeypatch.setattr(stub, "expected_cost", _expected, raising=False)
    add_run(history, _plan(made).trials[0].trial, seconds=50.0)
    assert _plan(made, history).cost.seconds_per_trial == 50


def test_a_subject_that_cannot_tell_leaves_the_cost_unknown(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(stub, "expected_cost", lambda *_: None, raising=False)
    assert _plan(study(tmp_path, GPU)).cost.seconds_per_trial is None


def test_a_cluster_too_small_for_one_trial_is_an_error(tmp_path: Path):
    with pytest.raises(HarnessError, match=r"--gpus plans for 1\. Give at least 2"):
        plan(study(tmp_path, GPU), gpus=1)
    with pytest.raises(HarnessError, match=r"resources\.gpus of this study is 0"):
        plan(study(tmp_path), gpus=4)


@pytest.mark.parametrize(
    ("memory", "told"), [(75.9, "one of 80 GB"), (76.1, "one of 141 GB"), (300, "fits none")]
)
def test_memory_leaves_some_room(memory, told):
    assert told in cost.fitting(memory)


def test_what_is_missing_is_planned_around_and_stops_a_run(tmp_path: Path, monkeypatch):
    def missing(recipe, protocol):
        assert protocol
        return ["weights: /nowhere (fetch them)", f"file for {recipe['part']['x']:g}"]

    monkeypatch.setattr(stub, "missing", missing, raising=False)
    made = study(tmp_path)
    planned = plan(made)
    assert planned.not_here == [
        "weights: /nowhere (fetch them)", "file for 0", "file for 1", "file for 2",
    ]  # fmt: skip
    lines = lines_of(planned, "s.yaml")
    assert sum(line.startswith("not here yet") for line in lines) == 4
    assert "bring what is not here yet" in lines[-1]
    place = Workspace.find(made.file, None)
    with pytest.raises(HarnessError, match=r"weights: /nowhere \(fetch them\)"):
        run(OpenedStudy(made, place), executor="inline", tracker=None, echo=lambda _: None)
    assert not place.journal.exists()


def test_what_is_missing_does_not_matter_where_nothing_would_run(tmp_path: Path, monkeypatch):
    made = study(tmp_path)
    history = History()
    for item in plan(made).trials:
        add_run(history, item.trial)
    monkeypatch.setattr(stub, "missing", lambda *_: ["weights"], raising=False)
    whole = plan(made, history)
    assert whole.not_here == ["weights"]
    refuse_missing(whole, whole.trials, False)
