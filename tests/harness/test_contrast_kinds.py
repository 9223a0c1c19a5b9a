"""Every kind of contrast under every design, resolved to cells: weights checked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from harness.errors import StudyError
from harness.planning.plan import Plan
from harness.planning.printed import lines_of
from harness.study.contrasts import quadratic_weights, slope_weights
from harness.study.planned_contrast import PlannedContrast
from tests.harness.study_files import plan, study

X, LOOK = (
    "part.x: {levels: [0, 1, 5], ordered: true}",
    "look: {levels: {warm: {colour: red}, cool: {colour: blue}}}",
)


def made(folder: Path, factors: list[str], contrast: str, *lines: str) -> Plan:
    body = "recipe: {}\nfactors:\n" + "".join(f"  {factor}\n" for factor in factors)
    body += "".join(f"{line}\n" for line in lines)
    return plan(study(folder, body + f"contrasts:\n  - {{id: H, {contrast}}}\n"))


def one(folder: Path, factors: list[str], contrast: str, *lines: str) -> PlannedContrast:
    (found,) = made(folder, factors, contrast, *lines).contrasts
    return found


def parts(found: PlannedContrast) -> dict[tuple[str, str], list[dict[str, float]]]:
    return {
        (part.name, part.level): [pytest.approx(cell, rel=1e-12) for cell in part.cells]
        for part in found.parts
    }


BASE = "baseline: {part.x: 0, look: warm}"

# trends ---------------------------------------------------------------------------------------


def test_a_trend_is_the_slope_per_unit_of_score(tmp_path: Path):
    found = one(tmp_path, [X, LOOK], "trend: part.x")
    # scores 0, 1, 5: mean 2, centred -2 -1 3, squares 14
    slope = [
        {f"x0-{look}": -2 / 14, f"x1-{look}": -1 / 14, f"x5-{look}": 3 / 14}
        for look in ("warm", "cool")
    ]
    # squares 4 1 9 less their mean 14/3, less 18/14 of the line: 20/21 x (2, -2.5, 0.5)
    bent = [4 - 14 / 3 + 36 / 14, 1 - 14 / 3 + 18 / 14, 9 - 14 / 3 - 54 / 14]
    size = sum(q * q for q in bent)
    quadratic = [
        {f"x{x}-{look}": q / size for x, q in zip((0, 1, 5), bent, strict=True)}
        for look in ("warm", "cool")
    ]
    assert parts(found) == {
        ("slope", ""): slope,
        ("quadratic", ""): quadratic,
        ("neighbour", "0 to 1"): [{f"x0-{v}": -1, f"x1-{v}": 1} for v in ("warm", "cool")],
        ("neighbour", "1 to 5"): [{f"x1-{v}": -1, f"x5-{v}": 1} for v in ("warm", "cool")],
    }
    assert found.cells() == found.parts[0].cells
    assert found.arm_weights() == pytest.approx(
        {arm: w / 2 for cell in found.cells() for arm, w in cell.items()}
    )


@pytest.mark.parametrize("scores", [[0, 1, 5], [3, 1, 2, 8], [0.1, 0.2, 0.3], [-1e9, 0, 4, 1e9]])
def test_slope_and_quadratic_find_what_they_are_of(scores: list[float]):
    slope, bent = slope_weights(scores), quadratic_weights(scores)
    assert bent is not None
    for weights, wanted in ((slope, (0, 1, None)), (bent, (0, 0, 1))):
        for power, value in enumerate(wanted):
            if value is not None:
                terms = [w * s**power for w, s in zip(weights, scores, strict=True)]
                size = sum(abs(t) for t in terms)
                assert sum(terms) == pytest.approx(value, abs=1e-9 * size, rel=1e-9)
    assert sum(a * b for a, b in zip(slope, bent, strict=True)) == pytest.approx(
        0, abs=1e-9 * math.hypot(*slope) * math.hypot(*bent)
    )


@pytest.mark.parametrize(
    ("levels", "ordered", "weights"),
    [
        ("[1, 2, 4]", "log", {"y1": -0.5, "y4": 0.5}),  # 0, 1, 2: a doubling is a unit
        ("[4, 1, 2]", "log", {"y1": -0.5, "y4": 0.5}),
        ("[4, 1, 2]", "rank", {"y4": -0.5, "y2": 0.5}),
        ("[4, 1, 2]", "{scores: [10, 30, 20]}", {"y4": -0.05, "y1": 0.05}),
        ("{low: 1, mid: 2, top: 3}, path: part.y", "true", {"low": -0.5, "top": 0.5}),
    ],
)
def test_what_the_levels_stand_at(
    tmp_path: Path, levels: str, ordered: str, weights: dict[str, float]
):
    factor = f"part.y: {{levels: {levels}, ordered: {ordered}}}"
    found = one(tmp_path, [factor], "trend: part.y")
    assert found.cells() == [pytest.approx(weights)]
    unit = {"log": "doubling", "rank": "step"}.get(ordered, "unit")
    assert f"per {unit} of" in found.about


def test_trend_cells_that_lack_a_level_are_dropped_and_listed(tmp_path: Path):
    where = "where: [\"not (part.x == 1 and look == 'cool')\"]"
    planned = made(tmp_path, [X, LOOK], "trend: part.x", where)
    (found,) = planned.contrasts
    assert found.cells() == [
        pytest.approx({"x0-warm": -2 / 14, "x1-warm": -1 / 14, "x5-warm": 3 / 14})
    ]
    assert found.unmatched == ["x0-cool", "x5-cool"]
    assert "2 arms without a partner, dropped" in "\n".join(lines_of(planned, "s.yaml"))


def test_a_level_that_no_arm_has_is_no_part_of_a_trend(tmp_path: Path):
    factor = "part.x: {levels: [0, 1, 5, 9], ordered: true}"
    found = one(tmp_path, [factor, LOOK], "trend: part.x", "where: [part.x < 9]")
    assert found.cells()[0] == pytest.approx(
        {"x0-warm": -2 / 14, "x1-warm": -1 / 14, "x5-warm": 3 / 14}
    )


@pytest.mark.parametrize(
    ("design", "cells"),
    [
        ("full", 2), ("one_factor", 1), ("pairs", 2),
    ],
)  # fmt: skip
def test_trends_by_design(tmp_path: Path, design: str, cells: int):
    found = one(tmp_path, [X, LOOK], "trend: part.x", f"design: {design}", BASE)
    assert len(found.cells()) == cells
    assert found.cells()[0] == pytest.approx(
        {"x0-warm": -2 / 14, "x1-warm": -1 / 14, "x5-warm": 3 / 14}
    )


def test_pins_leave_one_cell(tmp_path: Path):
    found = one(tmp_path, [X, LOOK], "trend: part.x, at: {look: cool}")
    assert [sorted(cell) for cell in found.cells()] == [["x0-cool", "x1-cool", "x5-cool"]]
    assert "at look=cool" in found.about


def test_a_trend_under_zip_says_what_advances_with_it(tmp_path: Path):
    factors = [X, "part.y: [1, 2, 3]"]
    found = one(tmp_path, factors, "trend: part.x", "design: zip")
    assert found.cells() == [pytest.approx({"x0-y1": -2 / 14, "x1-y2": -1 / 14, "x5-y3": 3 / 14})]
    assert found.confounded == [
        "the sides' recipes also differ in part.y, which no factor of the contrast sets"
    ]


def test_a_trend_over_listed_arms(tmp_path: Path):
    listed = "arms: [{part.x: 0}, {part.x: 1}, {part.x: 5}, {part.x: 5, look: cool}]"
    found = one(tmp_path, [X, LOOK], "trend: part.x", "design: explicit", BASE, listed)
    assert [sorted(cell) for cell in found.cells()] == [["x0-warm", "x1-warm", "x5-warm"]]
    assert found.unmatched == ["x5-cool"]


# interactions ---------------------------------------------------------------------------------

TWO = "part.y: [1, 2]"


def test_an_interaction_is_four_corners(tmp_path: Path):
    found = one(tmp_path, [TWO, LOOK], "interaction: [part.y, look]")
    corners = {"y1-warm": 1, "y1-cool": -1, "y2-warm": -1, "y2-cool": 1}
    assert parts(found) == {("", ""): [corners]}
    assert found.arm_weights() == corners


def test_an_interaction_does_not_hang_on_the_order_of_levels_where_there_is_a_baseline(
    tmp_path: Path,
):
    base = "baseline: {part.y: 1, look: warm}"
    turned = "look: {levels: {cool: {colour: blue}, warm: {colour: red}}}"
    found = [
        one(tmp_path, [TWO, look], "interaction: [part.y, look]", base) for look in (LOOK, turned)
    ]
    assert found[0].arm_weights() == found[1].arm_weights()
    assert found[0].arm_weights()["y2-cool"] == 1


def test_linear_by_linear(tmp_path: Path):
    y = "part.y: {levels: [1, 2, 3], ordered: true}"
    found = one(tmp_path, [X, y], "interaction: [part.x, part.y]")
    slope = {0: -2 / 14, 1: -1 / 14, 5: 3 / 14}
    wanted = {f"x{x}-y{y}": w * v for x, w in slope.items() for y, v in ((1, -0.5), (3, 0.5))}
    assert found.cells() == [pytest.approx(wanted)]


def test_a_slope_by_a_difference_and_two_picked_levels(tmp_path: Path):
    found = one(tmp_path, [X, LOOK], "interaction: [part.x, look]")
    slope = {0: -2 / 14, 1: -1 / 14, 5: 3 / 14}
    wanted = {f"x{x}-{v}": w * s for x, w in slope.items() for v, s in (("warm", -1), ("cool", 1))}
    assert found.cells() == [pytest.approx(wanted)]
    found = one(tmp_path, [X, LOOK], "interaction: [part.x, look], levels: {part.x: [1, 0]}")
    assert found.cells() == [{"x1-warm": 1, "x1-cool": -1, "x0-warm": -1, "x0-cool": 1}]


@pytest.mark.parametrize("design", ["full", "pairs"])
def test_interactions_by_design(tmp_path: Path, design: str):
    third = "part.x: [0, 5]"
    base = "baseline: {part.x: 0, part.y: 1, look: warm}"
    found = one(
        tmp_path, [third, TWO, LOOK], "interaction: [part.y, look]", f"design: {design}", base
    )
    corners = {"x0-y1-warm": 1, "x0-y1-cool": -1, "x0-y2-warm": -1, "x0-y2-cool": 1}
    assert found.cells()[0] == corners
    assert len(found.cells()) == (2 if design == "full" else 1)


@pytest.mark.parametrize(
    ("contrast", "lines", "said"),
    [
        ("interaction: [part.x, look]", ("design: one_factor", BASE), "take pairs or full"),
        ("interaction: [part.y, look]", ("design: zip",), "all factors advance together"),
        ("more: [part.y, look]", ("design: zip",), "all factors advance together"),
        ("trend: part.x", ("where: [part.x > 0]",), "at least three of its levels"),
        (
            "collapse: {part.x: 5}, margin: 1",
            ("where: [part.x < 5]", "measure_at: [1, 2]"),
            "an arm",
        ),
    ],
)
def test_what_the_arms_cannot_answer(
    tmp_path: Path, contrast: str, lines: tuple[str, ...], said: str
):
    factors = [TWO, LOOK] if "zip" in lines[0] else [X, LOOK]
    with pytest.raises(StudyError, match="contrast H matches no arms") as error:
        made(tmp_path, factors, contrast, *lines)
    assert said in str(error.value)


# fractions ------------------------------------------------------------------------------------

FIVE = ["part.x: [0, 5]", "part.y: [1, 2]", LOOK, "cycles: [1, 3]", "seconds: [0.0, 0.001]"]


def fraction(folder: Path, contrast: str, resolution: int, *lines: str) -> PlannedContrast:
    design = ("design: fractional", f"resolution: {resolution}")
    return one(folder, FIVE, contrast, *design, *lines)


def test_an_interaction_in_a_fraction_by_least_squares(tmp_path: Path):
    found = fraction(tmp_path, "interaction: [part.x, part.y]", 5)
    (cell,) = found.cells()
    assert len(cell) == 16
    for arm, weight in cell.items():
        high = arm.startswith("x5") == ("-y2-" in arm)
        assert weight == (4 / 16 if high else -4 / 16)
    assert found.aliases == []
    assert any("least squares over 16 arms, clear of interactions" in n for n in found.notes)


def test_in_a_coarse_fraction_an_interaction_says_which_main_effect_it_is(tmp_path: Path):
    planned = made(
        tmp_path, FIVE, "interaction: [part.x, part.y]", "design: fractional", "resolution: 3"
    )
    (found,) = planned.contrasts
    assert planned.fraction is not None
    same = {e: {e, *a} for e, a in planned.fraction.aliases.items()}
    whole = next(
        {name.lstrip("-") for name in group}
        for group in same.values()
        if "part.x*part.y" in {name.lstrip("-") for name in group}
    )
    assert {alias.lstrip("-") for alias in found.aliases} == whole - {"part.x*part.y"}
    assert any("*" not in alias for alias in found.aliases), "a main effect among them"
    (cell,) = found.cells()
    assert sorted({abs(w) for w in cell.values()}) == [0.5]


def test_more_best_and_sooner_in_a_fraction(tmp_path: Path):
    more = fraction(tmp_path, "more: [part.x, part.y]", 5)
    first, second = (part.cells for part in more.parts)
    assert {arm: w for arm, w in first[0].items()} == {
        arm: 1 / 8 if arm.startswith("x5") else -1 / 8 for arm in first[0]
    }
    assert all(w == (1 / 8 if "-y2-" in arm else -1 / 8) for arm, w in second[0].items())
    best = fraction(tmp_path, "best: part.x", 5)
    assert [part.level for part in best.parts] == ["0", "5"]
    assert all(
        w == 1 / 8 and arm.startswith(f"x{part.level}")
        for part in best.parts
        for arm, w in part.cells[0].items()
    )
    words = "sooner: {a: {part.x: 5}, b: {part.x: 0}, threshold: 1}"
    sooner = fraction(tmp_path, words, 5, "measure_at: [1, 2]")
    assert [part.name for part in sooner.parts] == ["a", "b"]
    assert sooner.parts[0].cells[0] == {arm: 1 / 8 for arm in sooner.parts[0].cells[0]}
    assert len(sooner.arms()) == 16


# more, best, collapse, sooner ------------------------------------------------------------------


def test_more_compares_effects_from_end_to_end(tmp_path: Path):
    found = one(tmp_path, [X, LOOK], "more: [part.x, look]", "design: one_factor", BASE)
    # the slope times the distance of 5 between its ends
    slope = {"x0-warm": -10 / 14, "x1-warm": -5 / 14, "x5-warm": 15 / 14}
    assert parts(found) == {
        ("first", ""): [slope],
        ("second", ""): [{"x0-warm": -1, "x0-cool": 1}],
    }
    assert found.arm_weights() == {}
    assert found.arms() == ["x0-warm", "x1-warm", "x5-warm", "x0-cool"]


@pytest.mark.parametrize("design", ["full", "one_factor", "pairs"])
def test_best_has_a_part_a_level_in_one_order(tmp_path: Path, design: str):
    found = one(tmp_path, [X, LOOK], "best: part.x", f"design: {design}", BASE)
    assert [(part.name, part.level) for part in found.parts] == [
        ("level", "0"), ("level", "1"), ("level", "5"),
    ]  # fmt: skip
    looks = ["warm"] if design == "one_factor" else ["warm", "cool"]
    for part in found.parts:
        assert part.cells == [{f"x{part.level}-{look}": 1.0} for look in looks]


def test_best_where_one_is_left_out(tmp_path: Path):
    factors = [
        "look: {levels: {warm: {colour: red}, cool: {colour: blue}}, off: cool}",
        "part.x: {levels: [0, 5], off: 0}",
    ]
    found = one(tmp_path, factors, "best: look", "design: leave_one_out")
    assert [part.cells for part in found.parts] == [[{"warm-x5": 1}], [{"cool-x5": 1}]]


def test_a_collapse_is_of_all_arms_with_its_levels(tmp_path: Path):
    found = one(tmp_path, [X, LOOK], "collapse: {part.x: 5}, margin: 0.1", "measure_at: [1, 2]")
    assert parts(found) == {("arm", ""): [{"x5-warm": 1}, {"x5-cool": 1}]}
    pinned = "collapse: {part.x: 5}, margin: 0.1, at: {look: cool}"
    found = one(tmp_path, [X, LOOK], pinned, "measure_at: [1, 2]")
    assert found.cells() == [{"x5-cool": 1}]


def test_sooner_is_matched_like_a_difference(tmp_path: Path):
    contrast = "sooner: {a: {part.x: 5}, b: {part.x: 0}, threshold: 0.5, falls: true}"
    found = one(tmp_path, [X, LOOK], contrast, "measure_at: [1, 2]")
    assert parts(found) == {
        ("a", ""): [{"x5-warm": 1}, {"x5-cool": 1}],
        ("b", ""): [{"x0-warm": 1}, {"x0-cool": 1}],
    }
    assert (found.threshold, found.falls) == (0.5, True)
    filled = one(
        tmp_path, [X, LOOK], "sooner: {a: {part.x: 5}, b: {look: cool}, threshold: 1}",
        "measure_at: [1, 2]", BASE,
    )  # fmt: skip
    assert filled.parts[0].cells == [{"x5-warm": 1}]
    assert filled.parts[1].cells == [{"x0-cool": 1}]


def test_a_difference_is_one_part_of_its_pairs(tmp_path: Path):
    found = one(tmp_path, [X, LOOK], "a: {part.x: 5}, b: {part.x: 0}")
    assert found.kind == "difference"
    assert parts(found) == {
        ("", ""): [{"x5-warm": 1, "x0-warm": -1}, {"x5-cool": 1, "x0-cool": -1}]
    }
    assert found.arms() == ["x5-warm", "x0-warm", "x5-cool", "x0-cool"]


def test_levels_that_are_one_recipe_are_no_comparison(tmp_path: Path):
    look = "look: {levels: {plain: {colour: red}, again: {colour: red}, blue: {colour: blue}}}"
    with pytest.raises(StudyError, match="at least two of its levels"):
        one(tmp_path, [look], "best: look", "where: [look != 'blue']")
    found = one(tmp_path, [look], "best: look")
    assert [part.cells for part in found.parts] == [[{"plain": 1}], [{"plain": 1}], [{"blue": 1}]]
