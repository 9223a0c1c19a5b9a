"""Planned contrasts: matched sides, what they can detect, and what they cannot reach."""

import statistics
from pathlib import Path

import pytest

from harness.journal.history import History
from harness.planning import power
from harness.planning.plan import Plan
from harness.planning.printed import lines_of
from harness.study.model import Study
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


def test_the_spread_of_a_pilot_is_taken_with_its_own_uncertainty(tmp_path: Path) -> None:
    made = study(tmp_path, BODY.replace("expect: higher", "expect: higher, margin: 0.01"))
    history = History()
    differences = [0.10, 0.14, 0.09]
    _record_differences(plan(made), history, differences[:1])
    assert plan(made, history).contrasts[0].detectable_in == "sd", "one replicate has no spread"
    for count, factor in ((2, 3.95), (3, 2.12)):
        history = History()
        _record_differences(plan(made), history, differences[:count])
        (contrast,) = plan(made, history).contrasts
        spread = statistics.stdev(differences[:count]) * power.assured(count - 1)
        assert power.assured(count - 1) == pytest.approx(factor, abs=0.005)
        assert contrast.detectable_in == "units"
        assert contrast.spread == pytest.approx(spread)
        assert contrast.spread_replicates == count
        assert contrast.detectable == pytest.approx(power.detectable(6) * spread)
        said = f"spread from {count} replicates in the history, times {factor} for its own"
        assert any(note.startswith(said) for note in contrast.notes)
    needed = power.replicates_needed(0.01 / spread)
    assert f"margin 0.01: may end undecided; {needed} seeds reach it" in contrast.notes
    assert [enough.seeds for enough in contrast.margin_reached_by] == [needed]


def test_the_replicates_that_reach_a_margin_reach_it_when_they_are_planned(tmp_path: Path) -> None:
    """At 4 replicates and at 8: earlier, fewer than 6 went by another rule, and 5 beat 6."""
    history = History()
    differences = [0.10, 0.14, 0.09, 0.12]
    for margin, replicates in ((0.3, 2), (0.05, 2), (0.02, 4)):
        body = BODY.replace("expect: higher", f"expect: higher, margin: {margin}")
        made = study(tmp_path, body + f"replicates: {replicates}\n")
        four = study(tmp_path, body + "replicates: 4\n")
        _record_differences(plan(four), history, differences)
        (enough,) = plan(made, history).contrasts[0].margin_reached_by
        then = {
            n: plan(study(tmp_path, body + f"replicates: {n}\n"), history).contrasts[0].detectable
            for n in (enough.seeds, enough.seeds - 1)
        }
        if replicates == 4:
            assert then[enough.seeds] <= margin < then[enough.seeds - 1]
        assert enough.seeds > replicates


def test_what_is_detected_falls_with_every_further_replicate(tmp_path: Path) -> None:
    history = History()
    _record_differences(plan(study(tmp_path, BODY + "replicates: 2\n")), history, [0.1, 0.14])
    for recorded in (History(), history):
        found = [
            plan(study(tmp_path, BODY + f"replicates: {n}\n"), recorded).contrasts[0].detectable
            for n in range(2, 12)
        ]
        assert found == sorted(found, reverse=True)
        assert len(set(found)) == len(found)


def test_missing_pairs_leave_a_spread(tmp_path: Path) -> None:
    """No replicate has both cells, and each cell has three."""
    made = study(tmp_path)
    history = History()
    values = {("warm", 0): 0.1, ("warm", 1): 0.14, ("warm", 2): 0.09}
    values |= {("cool", 3): 0.2, ("cool", 4): 0.25, ("cool", 5): 0.21}
    for item in plan(made).trials:
        trial = item.trial
        up = values.get((trial.levels["look"], trial.replicate))
        if up is not None and trial.levels["part.x"] in ("0", "2"):
            score = 5.0 + (up if trial.levels["part.x"] == "2" else 0.0)
            add_run(history, trial, metrics={"score": score})
    (contrast,) = plan(made, history).contrasts
    assert contrast.spread_replicates == 6
    # CR2 in closed form: per cell sum e^2 / (4 n^2 (1 - 1/n)), of the mean over 6 replicates.
    squares = [
        sum((v - statistics.fmean(cell)) ** 2 for v in cell)
        for cell in ((0.1, 0.14, 0.09), (0.2, 0.25, 0.21))
    ]
    expected = (6 * sum(squares) / (4 * 9 * (1 - 1 / 3))) ** 0.5 * power.assured(2)
    assert contrast.spread == pytest.approx(expected)


def test_one_list_has_one_unit(tmp_path: Path) -> None:
    """A contrast whose arms have not run borrows the others' spread; a new metric has none."""
    body = BODY + "  - {id: G, a: {part.x: 1.0}, b: {part.x: 0.0}}\n"
    body += "  - {id: N, a: {part.x: 1.0}, b: {part.x: 0.0}, metric: cost}\n"
    made = study(tmp_path, body)
    history = History()
    differences = [0.10, 0.14, 0.09]
    for item in plan(made).trials:
        trial = item.trial
        if trial.replicate < 3 and trial.levels["part.x"] != "1":
            up = differences[trial.replicate] if trial.levels["part.x"] == "2" else 0.0
            add_run(history, trial, metrics={"score": 5.0 + trial.replicate + up})
    planned = plan(made, history)
    own, lent, new = planned.contrasts
    assert [c.detectable_in for c in (own, lent, new)] == ["units", "units", "sd"]
    assert "spread of other arms, as its own have not run, from 3 replicates" in lent.notes[0]
    # Two arms up by d_r and two not: the residual spread of four arms in three replicates.
    squares = sum((d - statistics.fmean(differences)) ** 2 for d in differences)
    expected = (2 * squares / 6) ** 0.5 * power.assured(2)
    assert lent.spread == pytest.approx(expected)
    text = lines_of(planned, "s.yaml")
    (row,) = [line for line in text if line.startswith("N ")]
    assert row.endswith("6 seeds as one of 3: its spread is not known yet")
    assert not any("SDs" in line for line in text)


def test_differences_without_spread_say_nothing(made: Study) -> None:
    history = History()
    _record_differences(plan(made), history, [0.1, 0.1, 0.1])
    assert plan(made, history).contrasts[0].detectable_in == "sd"


def test_alpha_is_shared_among_the_contrasts(tmp_path: Path) -> None:
    body = BODY + "".join(
        f"  - {{id: G{i}, a: {{part.x: {i}.0}}, b: {{part.x: 0.0}}}}\n" for i in (1, 2)
    )
    one, three = plan(study(tmp_path)).contrasts[0], plan(study(tmp_path, body)).contrasts[0]
    assert three.detectable == pytest.approx(power.detectable(6, 0.05 / 3))
    assert one.detectable == pytest.approx(power.detectable(6))
    assert (one.family, three.family) == (1, 3)
    assert one.notes == three.notes == []
    text = "\n".join(lines_of(plan(study(tmp_path, body)), "s.yaml"))
    assert (
        "6 seeds detect >= 1.88 SDs of the difference (80 %) as one of 3, on exactly these prompts"
    ) in text


@pytest.mark.parametrize(
    ("replicates", "notes"),
    [
        (1, ["one replicate: nothing about recipes can be judged; give 2 or more, better 6"]),
        (
            3,
            ["below 4 replicates only very large differences can be found; better 6 or more"],
        ),
        (4, []),
    ],
)
def test_few_replicates_are_said(tmp_path: Path, replicates: int, notes: list[str]) -> None:
    (contrast,) = plan(study(tmp_path, BODY + f"replicates: {replicates}\n")).contrasts
    assert contrast.notes == notes
    if replicates == 1:
        assert contrast.detectable is None
    else:
        assert contrast.detectable == pytest.approx(power.detectable(replicates))


def test_few_replicates_are_told_what_more_would_detect(tmp_path: Path) -> None:
    made = study(tmp_path, BODY + "replicates: 3\n")
    history = History()
    _record_differences(plan(made), history, [0.10, 0.14, 0.09])
    (contrast,) = plan(made, history).contrasts
    assert contrast.spread is not None
    four, six = (power.detectable(n) * contrast.spread for n in (4, 6))
    assert contrast.notes[1] == (
        "below 4 replicates only large differences can be found; "
        f"4 seeds detect {four:.3g}, 6 seeds detect {six:.3g}"
    )
