"""The designs of a study: their arms by count and by hand, their contrasts, their wrong uses."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from harness.analysis.inference import one_group, over_seeds
from harness.planning.printed import lines_of
from harness.study.arms import baseline_of, combinations, layout, most_combinations
from harness.study.model import DESIGNS
from harness.subjects.load import load_subject
from tests.harness.study_files import mistakes, plan, study, write

STUB = load_subject("harness.testing.stub")
FOUR = """\
recipe: {}
factors:
  part.x: [0.0, 1.0, 2.0]
  part.y: [0, 1]
  colour: [red, green, blue]
  cycles: [3, 4]
baseline: {part.x: 0.0, part.y: 0, colour: red, cycles: 3}
"""
TWOS = """\
recipe: {}
factors:
  part.x: [0.0, 1.0]
  part.y: [0, 1]
  colour: [red, green]
  cycles: [3, 4]
"""
OFF = """\
recipe: {}
factors:
  part.x: {levels: [1.0, 0.0], off: 0.0}
  part.y: {levels: [0, 1], off: 0}
  colour: {levels: [red, green, blue], off: red}
"""


def changes(folder: Path, body: str) -> list[int]:
    """For each combination, in how many factors it is not at the baseline."""
    made = study(folder, body)
    start = baseline_of(made) or {}
    return [sum(start[f] != v for f, v in c.items()) for c in combinations(made)]


def test_pairs_are_the_baseline_single_changes_and_pairs_of_changes(tmp_path: Path):
    found = changes(tmp_path, FOUR + "design: pairs\n")
    others = [2, 1, 2, 1]  # levels beside the baseline's
    pairs = sum(a * b for a, b in itertools.combinations(others, 2))
    assert (found.count(0), found.count(1), found.count(2)) == (1, sum(others), pairs)
    assert len(found) == 1 + 6 + 13 == most_combinations(study(tmp_path, FOUR + "design: pairs\n"))


def test_pairs_of_two_factors_are_the_full_design(tmp_path: Path):
    body = "recipe: {}\nfactors: {part.x: [0.0, 1.0, 2.0], part.y: [0, 1]}\n"
    body += "baseline: {part.x: 1.0, part.y: 0}\n"
    full = {tuple(c.values()) for c in combinations(study(tmp_path, body))}
    assert {
        tuple(c.values()) for c in combinations(study(tmp_path, body + "design: pairs\n"))
    } == full


def test_leave_one_out_is_everything_on_and_each_factor_off(tmp_path: Path):
    body = OFF + "design: leave_one_out\nbaseline: {part.x: 1.0, part.y: 1, colour: blue}\n"
    assert [tuple(c.values()) for c in combinations(study(tmp_path, body))] == [
        ("1", "1", "blue"), ("0", "1", "blue"), ("1", "0", "blue"), ("1", "1", "red"),
    ]  # fmt: skip


def test_of_two_levels_the_one_that_is_not_off_is_on(tmp_path: Path):
    body = OFF.replace(", blue", "") + "design: leave_one_out\n"
    body += "contrasts: [{id: H, a: {part.x: 0.0}, b: {}}]\n"
    made = study(tmp_path, body)
    assert baseline_of(made) == {"part.x": "1", "part.y": "1", "colour": "green"}
    planned = plan(made)
    assert [arm.baseline for arm in planned.arms] == [True, False, False, False]
    ((a, b),) = planned.contrasts[0].pairs
    assert planned.arm(a).levels["part.x"] == "0"
    assert planned.arm(b).baseline


def test_null_is_an_off_level_like_any_other(tmp_path: Path):
    body = "recipe: {}\nfactors: {fault: {path: fault, levels: {none: '', some: x}, off: none}}\n"
    made = study(tmp_path, body + "design: leave_one_out\n")
    again = type(made).model_validate(made.model_dump(mode="json"), strict=False)
    assert again.factors["fault"].has_off
    assert not type(made.factors["fault"]).model_validate({"levels": [1], "path": "x"}).has_off


def test_zip_advances_all_factors_together_and_may_repeat_a_level(tmp_path: Path):
    body = "recipe: {}\nfactors: {part.x: [0.0, 0.0, 1.0], part.y: [0, 1, 2]}\ndesign: zip\n"
    body += "contrasts: [{id: H, a: {part.x: 1.0, part.y: 2}, b: {part.x: 0.0, part.y: 0}}]\n"
    made = study(tmp_path, body)
    assert [tuple(c.values()) for c in combinations(made)] == [("0", "0"), ("0", "1"), ("1", "2")]
    assert len(plan(made).contrasts[0].pairs) == 1


@pytest.mark.parametrize("design", DESIGNS)
def test_where_applies_to_every_design(tmp_path: Path, design: str):
    body = {
        "leave_one_out": OFF.replace(", blue", ""),
        "fractional": TWOS + "resolution: 4\n",
        "zip": TWOS,
        "explicit": TWOS + "arms: [{part.x: 1.0, part.y: 1, colour: red, cycles: 3},"
        "{part.x: 0.0, part.y: 1, colour: red, cycles: 3}]\n",
    }.get(design, FOUR)
    body += f"design: {design}\n"
    dropped = {
        "one_factor": {"part.x": 0, "part.y": 1},
        "zip": {"part.x": 0, "part.y": 0},
    }.get(design, {"part.x": 0, "part.y": 1})
    text = " and ".join(f"{factor} == {level}" for factor, level in dropped.items())
    before = combinations(study(tmp_path, body))
    kept = combinations(study(tmp_path, body + f"where: [not ({text})]\n"))
    gone = [c for c in before if all(c[f] == str(v) for f, v in dropped.items())]
    assert gone
    assert kept == [c for c in before if c not in gone]


# fractional ---------------------------------------------------------------------------------


def test_a_fraction_is_planned_with_its_alias_table(tmp_path: Path):
    made = study(tmp_path, TWOS + "design: fractional\nresolution: 4\n")
    planned = plan(made)
    assert len(planned.arms) == 8
    assert planned.fraction is not None
    assert (planned.fraction.resolution, planned.fraction.combinations) == (4, 16)
    assert planned.fraction.aliases["part.x*part.y"] == ["colour*cycles"]
    text = "\n".join(lines_of(planned, "s.yaml"))
    assert "8 of 16 combinations, resolution 4; cycles = part.x*part.y*colour" in text
    assert "part.x*part.y = colour*cycles" in text
    assert (
        "clear of main effects and two-factor interactions: part.x, part.y, colour, cycles" in text
    )


def test_the_fraction_goes_through_the_baseline(tmp_path: Path):
    for levels in itertools.product((0.0, 1.0), (0, 1), ("red", "green"), (3, 4)):
        start = ", ".join(
            f"{f}: {v}"
            for f, v in zip(("part.x", "part.y", "colour", "cycles"), levels, strict=True)
        )
        body = TWOS + f"design: fractional\nresolution: 4\nbaseline: {{{start}}}\n"
        assert layout(study(tmp_path, body), STUB).arms[0].baseline


@pytest.mark.parametrize(
    "where", ["", "where: [not (part.x == 1.0 and part.y == 1 and cycles == 3)]\n"]
)
def test_a_contrast_no_cell_of_a_fraction_holds_is_least_squares(tmp_path: Path, where: str):
    contrast = "contrasts: [{id: H, a: {part.x: 1.0}, b: {part.x: 0.0}}]\n"
    planned = plan(study(tmp_path, TWOS + "design: fractional\nresolution: 3\n" + where + contrast))
    (found,) = planned.contrasts
    assert found.pairs == []
    codes = {
        arm.name: [-1 if arm.levels[f] == labels[0] else 1 for f, labels in planned.factors.items()]
        for arm in planned.arms
    }
    design = np.array([[1, *row] for row in codes.values()], dtype=float)
    rng = np.random.default_rng(1)
    y = rng.normal(size=len(codes))
    beta = np.linalg.lstsq(design, y, rcond=None)[0]
    values = {arm: {0: value} for arm, value in zip(codes, y, strict=True)}
    assert over_seeds(values, one_group(found.cells())).difference == pytest.approx(2 * beta[1])
    # An interaction that is named shows up in the estimate; one that is not named does not.
    names = list(planned.factors)
    aliased = {a.lstrip("-").split(" ")[-1] for a in found.aliases}
    for i, j in itertools.combinations(range(len(names)), 2):
        product = {arm: {0: float(row[i] * row[j])} for arm, row in codes.items()}
        held = abs(over_seeds(product, one_group(found.cells())).difference) > 1e-9
        assert held == (f"{names[i]}*{names[j]}" in aliased)
    assert bool(where) == any(" " in a for a in found.aliases), "unbalanced arms: partial aliases"
    assert any("least squares over" in note for note in found.notes)


def test_a_contrast_that_cells_of_a_fraction_hold_is_matched(tmp_path: Path):
    both = "contrasts: [{id: H, a: {part.x: 1.0, part.y: 1}, b: {part.x: 0.0, part.y: 0}}]\n"
    (found,) = plan(study(tmp_path, TWOS + "design: fractional\nresolution: 4\n" + both)).contrasts
    assert len(found.pairs) == 2
    assert not found.weights


def test_at_takes_a_part_of_the_fraction(tmp_path: Path):
    pinned = "contrasts: [{id: H, a: {part.x: 1.0}, b: {part.x: 0.0}, at: {part.y: 1}}]\n"
    (found,) = plan(
        study(tmp_path, TWOS + "design: fractional\nresolution: 4\n" + pinned)
    ).contrasts
    assert len(found.weights) == 4
    assert found.aliases == ["colour*cycles"]


# wrong uses ---------------------------------------------------------------------------------

HEADER = "recipe: {}\nfactors: {part.x: [0.0, 1.0], part.y: [0, 1], cycles: [3, 4, 5]}\n"


@pytest.mark.parametrize(
    ("body", "place", "said"),
    [
        (HEADER + "design: pairs\n", (6, 9), "design pairs needs a `baseline`"),
        (HEADER + "design: leave_one_out\n", (5, 11), "needs an `off` level for every factor"),
        (HEADER + "design: fractional\nresolution: 3\n", (5, 47), "two levels a factor; this one"),
        (HEADER + "design: fractional\n", (6, 9), "needs a `resolution`: 3, 4 or 5"),
        (HEADER + "design: zip\n", (5, 47), "'part.x' has 2 levels, this one 3"),
        (HEADER + "resolution: 3\n", (6, 1), "`resolution` belongs to design fractional"),
        (HEADER + "design: fractional\nresolution: 2\n", (7, 13), "greater than or equal to 3"),
        (OFF, (6, 32), "`off` belongs to design leave_one_out; this is design full"),
        (OFF + "design: leave_one_out\n", (8, 3), "2 levels are on; the `baseline` must say"),
        (
            OFF.replace("off: red", "off: rod") + "design: leave_one_out\n",
            (8, 45),
            "'rod' is not a level of 'colour'; did you mean 'red'?",
        ),
        (
            OFF + "design: leave_one_out\nbaseline: {part.x: 1.0, part.y: 0, colour: blue}\n",
            (10, 33),
            "everything on; this is the `off` level",
        ),
        (
            TWOS + "design: fractional\nresolution: 5\n",
            (11, 13),
            "no fraction of 4 factors has resolution 5",
        ),
        (
            TWOS + "design: zip\ncontrasts: [{id: H, a: {part.x: 1.0}, b: {part.x: 0.0}}]\n",
            (11, 13),
            "under design zip they advance together, so name all of them on both sides",
        ),
        (
            TWOS + "design: fractional\nresolution: 4\nwhere: [part.x == part.y]\n"
            "contrasts: [{id: H, a: {part.x: 1.0}, b: {part.x: 0.0}}]\n",
            (13, 13),
            "nor do the arms of the fraction determine the difference",
        ),
        (
            OFF.replace(", blue", "") + "design: leave_one_out\nwhere: [part.x == 0.0]\n",
            (10, 1),
            "the baseline is not among the arms",
        ),
        (
            f"recipe: {{}}\nfactors: {{part.y: {list(range(50))}, cycles: {list(range(1, 51))}, "
            f"fault_replicate: {list(range(50))}}}\n",
            (5, 1),
            "design full has 125000 combinations; at most 100000",
        ),
        (
            "recipe: {}\nfactors: {cycles: [" + ", ".join(map(str, range(1, 500))) + "]}\n"
            "replicates: 900\n",
            (6, 13),
            "499 combinations x 900 replicates are 449100 trials",
        ),
    ],
)  # fmt: skip
def test_wrong_uses_are_told_with_their_place(
    tmp_path: Path, body: str, place: tuple[int, int], said: str
):
    error = mistakes(write(tmp_path, body))
    hits = [p for p in error.problems if said in p.message]
    assert hits, str(error)
    assert (hits[0].line, hits[0].column) == place
