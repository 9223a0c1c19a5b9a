"""`plan --fit`: which designs fit, with how many replicates, and what they detect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.commands import plan as plan_command
from harness.errors import HarnessError
from harness.journal.history import History
from harness.journal.records import Planned
from harness.journal.workspace import Workspace
from harness.planning import power
from harness.planning.fit import Fit, Limit, fit_lines, fitting_designs
from harness.study.model import Study
from harness.study.opened_study import OpenedStudy
from tests.harness.run_place import Place
from tests.harness.study_files import add_run, plan, study

BODY = """\
recipe: {}
factors: {part.x: [0.0, 1.0], part.y: [0, 1], cycles: [3, 4], colour: [red, blue, green]}
baseline: {part.x: 0.0, part.y: 0, cycles: 3, colour: red}
contrasts:
  - {id: H, a: {part.x: 1.0}, b: {part.x: 0.0}}
  - {id: C, a: {part.x: 1.0, colour: blue}, b: {part.x: 0.0, colour: red}}
replicates: 2
"""


def measured(made: Study, replicates: int = 1) -> History:
    history = History()
    for item in plan(made, check_devices=False).trials:
        if item.trial.replicate < replicates:
            add_run(history, item.trial, seconds=360.0)
    return history


def fits(made: Study, text: str, history: History | None = None) -> dict[tuple[str, str], Fit]:
    known = measured(made) if history is None else history
    found = fitting_designs(
        OpenedStudy(made, Workspace(made.file.parent / "w"), history=known),
        plan(made, known, parallel=2),
        Limit.read(text),
    )
    names = [f.design + (str(f.resolution) if f.resolution else "") for f in found]
    return {(n, f.levels): f for n, f in zip(names, found, strict=True)}


def test_replicates_are_the_most_that_the_hours_hold(tmp_path: Path):
    # 24 arms at 0.1 h, two at once: a replicate takes 1.2 h, and the first is there already.
    made = study(tmp_path, BODY)
    found = fits(made, "hours=5")
    full = found["full", "all"]
    assert (full.arms, full.replicates, full.trials, full.own) == (24, 5, 96, True)
    assert full.hours == pytest.approx(4.8)
    # 6 arms differ from the baseline in at most one factor: a replicate takes 0.3 h.
    one = found["one_factor", "all"]
    assert (one.arms, one.replicates, one.trials) == (6, 17, 96)
    assert found["full", "named"].arms == 16, "green is named by no contrast"
    assert found["fractional3", "named"].arms == 8
    assert ("fractional3", "all") not in found, "colour has three levels"
    assert ("leave_one_out", "all") not in found, "no factor has an off level"
    assert all(f.hours <= 5 for f in found.values() if f.fits)


def test_what_each_detects_is_what_its_own_plan_says(tmp_path: Path):
    made = study(tmp_path, BODY)
    history = measured(made)
    found = fits(made, "hours=5", history)
    compared = 0
    for (name, levels), fit in found.items():
        if levels == "named" or name.startswith("fractional"):
            continue
        body = BODY.replace("replicates: 2", f"replicates: {fit.replicates}\ndesign: {name}")
        if name == "one_factor":  # which has no answer to the second contrast
            continue
        own = plan(study(tmp_path, body), history).contrasts
        assert [c.detectable for c in fit.contrasts] == [c.detectable for c in own]
        compared += 1
    assert compared >= 2


SPREAD = BODY.replace("replicates: 2", "replicates: 4")


def spread_out(made: Study, arms: set[str] | None = None) -> History:
    """Three replicates, in which every arm has noise of its own."""
    history = History()
    for number, item in enumerate(plan(made).trials):
        trial = item.trial
        if trial.replicate < 3 and (arms is None or trial.arm in arms):
            noise = ((number * 7919) % 101) / 1000
            add_run(history, trial, seconds=360.0, metrics={"score": 5.0 + noise})
    return history


def test_a_larger_budget_never_detects_less(tmp_path: Path):
    made = study(tmp_path, SPREAD)
    history = spread_out(made)
    before: dict[tuple[str, str, str], float] = {}
    counted = 0
    for hours in (0.01, 1, 2, 3, 5, 8, 20, 50):
        for (name, levels), fit in fits(made, f"hours={hours}", history).items():
            for contrast in fit.contrasts:
                if contrast.detectable is None:
                    continue
                at = (name, levels, contrast.id)
                assert contrast.detectable <= before.get(at, float("inf"))
                before[at] = contrast.detectable
                counted += 1
    assert counted > 50


def test_designs_are_compared_in_one_unit(tmp_path: Path):
    """Only six arms have run: those of one factor at a time, and never the other cells' arms."""
    made = study(tmp_path, SPREAD)
    baseline = {"part.x": "0", "part.y": "0", "cycles": "3", "colour": "red"}
    same = {
        arm.name
        for arm in plan(made).arms
        if sum(arm.levels[factor] != label for factor, label in baseline.items()) < 2
    }
    assert len(same) == 6
    history = spread_out(made, same)
    found = fits(made, "hours=20", history)
    units = {c.detectable_in for f in found.values() for c in f.contrasts if c.arm_weights()}
    assert units == {"units"}
    text = fit_lines(list(found.values()), Limit.read("hours=20"))
    assert not any("SD" in line for line in text)
    nothing = fits(made, "hours=20", measured(made))
    told = [c for f in nothing.values() for c in f.contrasts if c.arm_weights()]
    assert {c.detectable_in for c in told} == {"sd"}
    pairs = nothing["full", "all"].contrasts[0]
    one = nothing["one_factor", "all"].contrasts[0]
    assert len(pairs.pairs) == 12
    assert len(one.pairs) == 1
    n = nothing["full", "all"].replicates
    assert pairs.detectable == pytest.approx(power.detectable(n, 0.05 / 2))


def test_the_family_is_that_of_the_first_run(tmp_path: Path):
    """A contrast that was taken out since still has its share of alpha, as in the plan."""
    made = study(tmp_path, SPREAD)
    history = spread_out(made)
    text = SPREAD.replace(
        "  - {id: C, a: {part.x: 1.0, colour: blue}, b: {part.x: 0.0, colour: red}}\n", ""
    )
    fewer = study(tmp_path, text)
    add_planned_first(history, made)
    planned = plan(fewer, history).contrasts[0]
    (own,) = [
        f
        for f in fitting_designs(
            OpenedStudy(fewer, Workspace(fewer.file.parent / "w"), history=history),
            plan(fewer, history, parallel=2),
            Limit.read("hours=5"),
        )
        if f.own
    ]
    assert planned.family == own.contrasts[0].family == 2


def add_planned_first(history: History, made: Study) -> None:
    history.add(
        Planned(
            at=1.0,
            study=made.name,
            digest=made.digest(),
            study_json=made.model_dump(mode="json", exclude={"file"}),
            trials=[],
        )
    )


def test_a_margin_that_a_design_may_miss_is_said(tmp_path: Path):
    body = SPREAD.replace("b: {part.x: 0.0}}\n", "b: {part.x: 0.0}, margin: 0.01}\n", 1)
    made = study(tmp_path, body)
    history = spread_out(made)
    found = fits(made, "hours=5", history)
    for fit in found.values():
        contrast = fit.contrasts[0]
        text = "\n".join(fit_lines([fit], Limit.read("hours=5")))
        said = "its margin 0.01 may go undecided" in text
        assert said == (fit.fits and (contrast.detectable or 0) > 0.01)
    assert any((f.contrasts[0].detectable or 0) > 0.01 for f in found.values() if f.fits)


def test_a_design_that_does_not_answer_says_so(tmp_path: Path):
    made = study(tmp_path, BODY)
    found = fits(made, "hours=5")
    assert found["one_factor", "all"].contrasts[0].pairs
    assert not found["one_factor", "all"].contrasts[1].arm_weights()
    text = "\n".join(fit_lines(list(found.values()), Limit.read("hours=5")))
    assert "C          not answered by this design" in text
    assert "full [as in the file]: 24 arms x 5, 96 trials to run, 4.8 h" in text


def test_that_replicates_end_where_no_more_are_looked_at_is_said(tmp_path: Path):
    made = study(tmp_path, BODY)
    limit = Limit.read("hours=1000")
    text = "\n".join(fit_lines(list(fits(made, "hours=1000").values()), limit))
    assert "full [as in the file]: 24 arms x 100 (no more are looked at), 2376 trials" in text
    assert "looked at" not in "\n".join(fit_lines(list(fits(made, "hours=5").values()), limit))


def test_what_does_not_fit_is_listed_with_its_price(tmp_path: Path):
    made = study(tmp_path, BODY)
    found = fits(made, "hours=0.5")
    assert not found["full", "all"].fits
    assert (found["full", "all"].replicates, found["full", "all"].trials) == (2, 24)
    assert found["one_factor", "all"].fits
    text = fit_lines(list(found.values()), Limit.read("hours=0.5"))
    assert text.index("do not fit:") < next(i for i, x in enumerate(text) if "full [as" in x)
    nothing = fit_lines(list(fits(made, "hours=0.01").values()), Limit.read("hours=0.01"))
    assert nothing[0] == "no design fits 0.01 h, not even with 2 replicates:"


def test_gpu_hours_count_gpus_not_parallel_trials(tmp_path: Path):
    made = study(tmp_path, BODY + "resources: {gpus: 0.5}\n")
    known = measured(made)
    planned = plan(made, known, parallel=2, check_devices=False)
    found = fitting_designs(
        OpenedStudy(made, Workspace(made.file.parent / "w"), history=known),
        planned,
        Limit.read("gpu_hours=5"),
    )
    full = next(f for f in found if f.own)
    assert (full.trials, full.gpu_hours) == (96, pytest.approx(4.8)), "0.05 GPU-h a trial"


def test_reruns_and_divergences_cost_what_the_plan_says(tmp_path: Path):
    made = study(tmp_path, BODY + "reruns: 3\n")
    history = History()
    for number, item in enumerate(plan(made).trials):
        if item.trial.replicate == 0 and item.trial.kind == "trial":
            add_run(history, item.trial, seconds=360.0, state="diverged" if number == 1 else "done")
    found = fits(made, "hours=5", history)["full", "all"]
    text = BODY.replace("replicates: 2", f"replicates: {found.replicates}") + "reruns: 3\n"
    assert found.trials == plan(study(tmp_path, text), history).cost.trials
    assert found.trials == 24 * (found.replicates - 1) + 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gpu_hour=3", "did you mean 'gpu_hours'"),
        ("hours=many", "'many' is not a number above 0"),
        ("hours=-1", "not a number above 0"),
        ("hours=inf", "not a number above 0"),
        ("hours", "not a number above 0"),
    ],
)
def test_wrong_limits(text: str, said: str):
    with pytest.raises(HarnessError, match=said):
        Limit.read(text)


def test_without_a_measured_trial_or_a_gpu_nothing_can_be_said(tmp_path: Path):
    made = study(tmp_path, BODY)
    with pytest.raises(HarnessError, match="no finished trial says what one costs"):
        fits(made, "hours=5", History())
    with pytest.raises(HarnessError, match="take no GPU"):
        fits(made, "gpu_hours=5")


def test_the_command_prints_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    place = Place(tmp_path / "project")
    made = place.study()
    place.run(made)
    plan_command.command(made.file, workspace=place.workspace.root, fit="hours=1")
    assert capsys.readouterr().out.startswith("designs that fit 1 h from now on:")
    plan_command.command(made.file, workspace=place.workspace.root, fit="hours=1", as_json=True)
    whole = json.loads(capsys.readouterr().out)
    assert whole["hours"] == 1
    assert whole["designs"][0]["own"]
