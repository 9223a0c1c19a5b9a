"""Names of factors that are none: told once, though baseline, contrasts and where use them."""

from pathlib import Path

import pytest

from harness.study.load import load_study
from tests.harness.study_files import mistakes, write

FOLLOWED = """\
recipe: {}
factors:
  part.x: [0, 1]
  look: {path: colour, levels: [red, blue]}
where: ["not (part.x == 1 and look == 'blue')"]
design: one_factor
baseline: {part.x: 0, look: red}
contrasts:
  - {id: H1, a: {part.x: 1}, b: {part.x: 0}}
  - {id: H2, a: {look: blue}, b: {look: red}, at: {part.x: 0}}
"""


@pytest.mark.parametrize(
    ("right", "wrong", "place", "said"),
    [
        ("  part.x: [", "  part.xx: [", (6, 3), "no field 'xx' in 'part'; did you mean 'x'?"),
        ("  part.x: [", "  prt.x: [", (6, 3), "no recipe field 'prt.x'; did you mean 'part.x'?"),
        ("  look: {p", "  lok: {p", (8, 9), "no factor 'look'; did you mean 'lok'?"),
        ("e: {part.x: 0", "e: {prt.x: 0", (10, 12), "no factor 'prt.x'; did you mean 'part.x'?"),
        ("(part.x == 1", "(part.y == 1", (8, 9), "no factor 'part.y'; did you mean 'part.x'?"),
    ],
)
def test_a_misspelt_factor_is_reported_once(
    tmp_path: Path, right: str, wrong: str, place: tuple[int, int], said: str
) -> None:
    """Baseline, contrasts and where name it too, or rest on where it was named."""
    load_study(write(tmp_path, FOLLOWED))
    assert FOLLOWED.count(right) == 1
    error = mistakes(write(tmp_path, FOLLOWED.replace(right, wrong)))
    (problem,) = error.problems
    assert said in problem.message
    assert (problem.line, problem.column) == place


def test_a_name_that_is_no_factor_says_where_else_it_is(tmp_path: Path) -> None:
    (problem,) = mistakes(write(tmp_path, FOLLOWED.replace("  look: {", "  lok: {"))).problems
    assert problem.message.endswith("; also on line 10, 13")


def test_an_independent_mistake_is_not_taken_for_a_consequence(tmp_path: Path) -> None:
    body = FOLLOWED.replace("  part.x: [", "  part.xx: [").replace("at: {part.x", "at: {cycles")
    first, second = mistakes(write(tmp_path, body)).problems
    assert "no field 'xx'" in first.message
    assert "no factor 'cycles'" in second.message


@pytest.mark.parametrize("place", ["baseline: {part.x: 0", "where", "contrast"])
def test_the_path_of_a_factor_is_not_its_name(tmp_path: Path, place: str) -> None:
    """A factor may be called otherwise than its path; writing the path is a mistake of its own."""
    body = FOLLOWED.replace("  part.x: [0, 1]", "  part_x: {path: part.x, levels: [0, 1]}")
    body = body.replace("part.x: 0, l", "part_x: 0, l").replace("(part.x", "(part_x")
    body = body.replace("{part.x:", "{part_x:")
    load_study(write(tmp_path, body))
    wrong = {
        "baseline: {part.x: 0": body.replace("part_x: 0, l", "part.x: 0, l"),
        "where": body.replace("(part_x ==", "(part.x =="),
        "contrast": body.replace("a: {part_x: 1}", "a: {part.x: 1}"),
    }[place]
    assert wrong != body
    messages = [problem.message for problem in mistakes(write(tmp_path, wrong)).problems]
    assert any("no factor 'part.x'; did you mean 'part_x'?" in message for message in messages)
