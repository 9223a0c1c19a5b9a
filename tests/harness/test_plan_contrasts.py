"""Planned contrasts: matched sides, what they can detect, and what they cannot reach."""

import statistics
from pathlib import Path

import pytest

from harness.analyse import power
from harness.journal import History
from harness.plan import Plan
from harness.planning.plan_text import lines_of
from harness.study import Study
from tests.harness.study_files import BODY, add_run, plan, study


@pytest.fixture
def made(tmp_path: Path) -> Study:
    return study(tmp_path)


def test_sides_are_matched_cell_by_cell(tmp_path: Path) -> None:
    body = BODY.replace(
        "contrasts:", "where: ['not (part.x == 2 and look == \"cool\")']\ncontrasts:"
    )
    body += "  - {id: H2, a: {look: cool}, b: {look: warm}, at: {part.x: 1.0}}\n"
    body += "  - {id: H3, a: {part.x: 1.0}, b: {look: cool}}\n"
    first, second, third = plan(study(tmp_path, body)).contrasts
    assert first.pairs == [("x2-warm", "x0-warm")]
    assert first.unmatched == ["x0-cool"]
    assert second.pairs == [("x1-cool", "x1-warm")]
    assert third.pairs == [("x1-warm", "x0-cool")], "what a side leaves open is at the baseline"


def test_arms_without_a_partner_are_said_unless_the_design_makes_them(tmp_path: Path) -> None:
    where = "where: ['not (part.x == 2 and look == \"cool\")']\n"
    said = []
    for number, extra in enumerate((where, "design: one_factor\n")):
        place = tmp_path / str(number)
        place.mkdir()
        planned = plan(study(place, BODY + extra))
        assert planned.contrasts[0].unmatched == ["x0-cool"]
        said.append("without a partner" in "\n".join(lines_of(planned, "s.yaml")))
    assert said == [True, False]


def test_cells_with_one_recipe_on_both_sides_are_dropped_and_said(tmp_path: Path) -> None:
    body = """\
        recipe: {}
        factors:
          look: {levels: {plain: {colour: red}, again: {colour: red}, blue: {colour: blue}}}
        contrasts:
          - {id: H1, a: {look: blue}, b: {look: plain}}
          - {id: H2, a: {look: blue}, b: {look: again}}
        """
    made = study(tmp_path, body)
    planned = plan(made)
    assert [c.pairs for c in planned.contrasts] == [[("blue", "plain")]] * 2
    assert "stands for 2 combinations that are the same recipe" in planned.warnings[0]


def test_detectable_is_in_sds_without_a_history(made: Study) -> None:
    (contrast,) = plan(made).contrasts
    assert contrast.detectable == pytest.approx(1.4, abs=0.05)
    assert contrast.detectable_in == "sd"


def _record_differences(planned: Plan, history: History, differences: list[float]) -> None:
    """x2 is above x0 by a difference of its own in each replicate."""
    for item in planned.trials:
        trial = item.trial
        if trial.replicate < len(differences):
            up = differences[trial.replicate] if trial.levels["part.x"] == "2" else 0.0
            add_run(history, trial, metrics={"score": 5.0 + trial.replicate + up})


def test_detectable_is_in_units_from_three_replicates_on(tmp_path: Path) -> None:
    made = study(tmp_path, BODY.replace("expect: higher", "expect: higher, margin: 0.01"))
    history = History()
    differences = [0.10, 0.14, 0.09]
    _record_differences(plan(made), history, differences[:2])
    assert plan(made, history).contrasts[0].detectable_in == "sd"
    history = History()
    _record_differences(plan(made), history, differences)
    (contrast,) = plan(made, history).contrasts
    spread = statistics.stdev(differences)
    assert contrast.detectable_in == "units"
    assert contrast.detectable == pytest.approx(power.detectable(6) * spread)
    needed = power.replicates_needed(0.01 / spread)
    assert f"margin 0.01: may end undecided; {needed} replicates reach it" in contrast.notes
    assert "spread from 3 replicates in the history" in contrast.notes


def test_differences_without_spread_say_nothing(made: Study) -> None:
    history = History()
    _record_differences(plan(made), history, [0.1, 0.1, 0.1])
    assert plan(made, history).contrasts[0].detectable_in == "sd"


def test_holm_makes_it_harder_and_the_floor_of_the_sign_flip_is_said(tmp_path: Path) -> None:
    body = BODY + "".join(
        f"  - {{id: G{i}, a: {{part.x: {i}.0}}, b: {{part.x: 0.0}}}}\n" for i in (1, 2)
    )
    one, three = plan(study(tmp_path)).contrasts[0], plan(study(tmp_path, body)).contrasts[0]
    assert three.detectable is not None
    assert one.detectable is not None
    assert three.detectable == pytest.approx(power.detectable(6, 0.05 / 3))
    assert three.detectable > one.detectable
    assert one.notes == []
    (note,) = three.notes
    assert note == (
        "cannot reach p < 0.05 after Holm (3 contrasts) with 6 replicates by sign-flip "
        "(at best 0.094); 7 can"
    )
    assert 3 * power.sign_flip_floor(7) < 0.05 <= 3 * power.sign_flip_floor(6)


@pytest.mark.parametrize(
    ("replicates", "notes"),
    [
        (1, ["one replicate: nothing about recipes can be judged; give 2 or more, better 6"]),
        (
            3,
            [
                "cannot reach p < 0.05 with 3 replicates by sign-flip (at best 0.25); 6 can",
                "fewer than 6 replicates: judged with the residual variance of the arm x replicate "
                "model (10 df)",
            ],
        ),
    ],
)
def test_few_replicates_are_said(tmp_path: Path, replicates: int, notes: list[str]) -> None:
    (contrast,) = plan(study(tmp_path, BODY + f"replicates: {replicates}\n")).contrasts
    assert contrast.notes == notes
    if replicates == 1:
        assert contrast.detectable is None
    else:
        assert contrast.detectable == pytest.approx(power.detectable(3, df=10))
        assert contrast.detectable < power.detectable(3)
