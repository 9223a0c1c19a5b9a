"""Mistakes in study files: all reported at once, each with its place, and never a crash."""

import copy
import io
import textwrap
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from harness.errors import Problem, StudyError
from harness.study.load import load_study
from tests.harness.study_files import BODY, HEAD, mistakes, write

MANY = """\
name: demo study
question: Does x help?
subject: harness.testing.stub
recipe: base.yaml
replicate: 3
set: {part.z: 3, fault: 7}
factors:
  part.x: [0.0, 1e-1, high, 99]
  share: {path: mixture.b, levels: []}
  kolour: [red, green]
  look:
    levels:
      warm: {colour: red, part.y: 0, part.y: 1}
      cool: {colour: blu}
  more: {path: colour, levels: [red, red]}
where: ["not (lok == 'cool')", "part.x + 1 > 2", "look == 'col'", "part.x < 'a'"]
design: one_facto
baseline: {part.x: 0.7, look: warn}
replicates: six
primary: scor
budget: {gpu_hours: -3}
contrasts:
  - {id: H1, a: {part.x: 2}, b: {part.x: 0.1}, expect: hihger}
  - {id: H1, a: {look: cool}, b: {look: cool}, metric: scroe}
  - {id: H3, b: {look: cool}}
"""
BASE = """\
part: {x: 0.5, y: -1}
mixtrue: {a: 3}
colour: purple
"""
EXPECTED = [
    ("study.yaml", 1, 7, "'demo study' does not match"),
    ("study.yaml", 5, 1, "unknown key 'replicate'; did you mean 'replicates'? allowed: alpha"),
    ("study.yaml", 6, 7, "no field 'z' in 'part'; allowed: x, y"),
    ("study.yaml", 6, 25, "valid string, given 7"),
    ("study.yaml", 8, 23, "valid number, given 'high'"),
    ("study.yaml", 8, 29, "less than or equal to 10, given 99"),
    ("study.yaml", 9, 36, "at least 1 item"),
    ("study.yaml", 10, 3, "no recipe field 'kolour'; did you mean 'colour'?"),
    ("study.yaml", 13, 38, "duplicate key 'part.y', first on line 13"),
    ("study.yaml", 14, 22, "'blu' is not one of them; did you mean 'blue'?"),
    ("study.yaml", 15, 16, "'colour' is already assigned by factor 'look'"),
    ("study.yaml", 15, 38, "level 'red' is the same as 'red'"),
    ("study.yaml", 16, 9, "no factor 'lok'; did you mean 'look'?"),
    ("study.yaml", 16, 32, "binop is not allowed"),
    ("study.yaml", 16, 50, "'col' is not a level of 'look'; did you mean 'cool'?"),
    ("study.yaml", 16, 67, "cannot be evaluated"),
    ("study.yaml", 17, 9, "unknown design; did you mean 'one_factor'?"),
    ("study.yaml", 18, 1, "names no level of kolour, more, share"),
    ("study.yaml", 18, 20, "0.7 is not a level of 'part.x'; allowed: 0, 0.1, 99, high"),
    ("study.yaml", 18, 31, "'warn' is not a level of 'look'; did you mean 'warm'?"),
    ("study.yaml", 19, 13, "valid integer, given 'six'"),
    ("study.yaml", 20, 10, "no metric 'scor'; did you mean 'score'?"),
    ("study.yaml", 21, 21, "greater than 0, given -3"),
    ("study.yaml", 23, 26, "2 is not a level of 'part.x'"),
    ("study.yaml", 23, 56, "'hihger' is not one of them; did you mean 'higher'?"),
    ("study.yaml", 24, 10, "contrast id 'H1' is taken"),
    ("study.yaml", 24, 34, "sides a and b are the same"),
    ("study.yaml", 24, 56, "no metric 'scroe'; did you mean 'score'?"),
    ("study.yaml", 25, 5, "required key 'a' is missing"),
    ("base.yaml", 1, 19, "greater than or equal to 0, given -1"),
    ("base.yaml", 2, 10, "unknown key 'mixtrue'; did you mean 'mixture'?"),
    ("base.yaml", 3, 9, "'purple' is not one of them; allowed: blue, green, red"),
]


def test_every_mistake_is_reported_at_once_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "base.yaml").write_text(BASE)
    file = tmp_path / "study.yaml"
    file.write_text(MANY)
    error = mistakes(file)
    found = [(Path(p.file or error.file).name, p.line, p.column, p.message) for p in error.problems]
    places = [row[:3] for row in found]
    assert places == [row[:3] for row in EXPECTED], "\n".join(str(row) for row in found)
    for (*_, said), (*_, expected) in zip(found, EXPECTED, strict=True):
        assert expected in said
    text = str(error)
    assert f"{len(EXPECTED)} mistakes; nothing was written" in text
    assert f"{file}:24:56: no metric" in text
    assert f"{tmp_path / 'base.yaml'}:2:10: unknown key" in text


@pytest.mark.parametrize(
    ("body", "place", "said"),
    [
        ("recipe: {}\n", (1, 1), "required key 'factors' is missing"),
        ("recipe: {}\nfactors: {}\n", (5, 10), "at least 1 item"),
        ("recipe: {}\nfactors: [part.x]\n", (5, 10), "valid dictionary"),
        ("recipe: {}\nfactors: {part.x: 3}\n", (5, 19), "valid dictionary"),
        ("recipe: {}\nfactors: {part-x: [3]}\n", (5, 11), "does not match"),
        ("recipe: none.yaml\nfactors: {part.x: [3]}\n", (4, 9), "no recipe file 'none.yaml'"),
        ("recipe: [1]\nfactors: {part.x: [3]}\n", (4, 9), "valid"),
        ("recipe: {mixture: {a: 0}}\nfactors: {part.x: [3]}\n", (4, 19), "all zero"),
        ("recipe: {}\nfactors: {look: {levels: {a: 3}}}\n", (5, 30), "mapping of recipe path"),
        ("recipe: {}\nfactors: {part.x: [.inf]}\n", (5, 20), "not finite"),
        ("recipe: {}\nfactors: {part.y: [1.5]}\n", (5, 20), "valid integer"),
        ("recipe: {}\nfactors: {part.x: [true]}\n", (5, 20), "valid number"),
        ("recipe: {}\nfactors: {part.x: [!!python/name:os.x 3]}\n", (5, 20), "not supported"),
        ("recipe: {}\nfactors: {part.x: [10000000000000000000]}\n", (5, 20), "2**53"),
        ("recipe: {}\nfactors: {part: [1], part.x: [1]}\n", (5, 22), "already assigned"),
        ("recipe: {}\nset: {part.x: 1}\nfactors: {part.x: [1]}\n", (6, 11), "by `set`"),
        ("recipe: {}\nset: {part: {}, part.x: 1}\nfactors: {cycles: [1]}\n", (5, 17), "already"),
        ("recipe: {}\nfactors: {mixture.q: [0.5]}\n", (5, 11), "no field 'q' in 'mixture'"),
        ("recipe: {}\nfactors: {mixture: [{a: -1}]}\n", (5, 21), "0 or more"),
        ("recipe: {}\nfactors: {part.x.deep: [1]}\n", (5, 11), "plain value"),
        ("recipe: {}\nfactors: {part.x: [1]}\ndesign: pairs\n", (6, 9), "needs a `baseline`"),
        ("recipe: {}\nfactors: {part.x: [1]}\ndesign: one_factor\n", (6, 9), "needs a `baseline`"),
        ("recipe: {}\nfactors: {part.x: [1]}\ndesign: explicit\n", (6, 9), "needs `arms`"),
        ("recipe: {}\nfactors: {part.x: [1]}\narms: [{part.x: 1}]\n", (6, 1), "belongs to design"),
        (
            "recipe: {}\nfactors: {part.x: [1], part.y: [1]}\n"
            "design: explicit\narms: [{part.x: 1}]\n",
            (7, 8),
            "names no level of part.y",
        ),
        ("recipe: {}\nfactors: {part.x: [1]}\nwhere: ['part.x > 1']\n", (6, 1), "leaves no arm"),
        (
            "recipe: {}\nfactors: {part.x: [1, 2]}\nwhere: ['part.x > 1']\nbaseline: {part.x: 1}\n",
            (7, 11),
            "baseline is not among the arms",
        ),
        (
            "recipe: {}\nfactors: {part.x: [1, 2], part.y: [1, 2]}\n"
            "where: ['part.x == 1 or part.y == 2', 'part.x == 2 or part.y == 1']\n"
            "contrasts: [{id: H, a: {part.x: 1}, b: {part.x: 2}}]\n",
            (7, 13),
            "matches no pair of arms",
        ),
        (
            "recipe: {}\nfactors: {part.x: [1, 2], part.y: [1, 2]}\n"
            "contrasts: [{id: H, a: {part.x: 1}, b: {part.y: 2}}]\n",
            (6, 13),
            "only one side names part.x, part.y",
        ),
        (
            "recipe: {}\nfactors: {part.x: [1, 2]}\n"
            "contrasts: [{id: H, a: {part.x: 1}, b: {part.x: 2}, at: {part.x: 1}}]\n",
            (6, 58),
            "already fixed by a side",
        ),
        ("recipe: {}\nfactors: {part.x: [1]}\nresources: {gpus: 1.5}\n", (6, 19), "whole number"),
        ("recipe: {}\nfactors: {part.x: [1]}\nmeasure_at: [0]\n", (6, 14), "greater than or equal"),
        ("recipe: {}\nfactors: &f {part.x: [1], y: *f}\n", (5, 10), "alias"),
        ("recipe: {}\nfactors:\n  <<: {part.x: [1]}\n", (6, 3), "merge keys"),
        ("recipe: {}\nfactors: {part.x: [1}\n", (5, 21), "not YAML"),
        ("recipe: {}\nfactors:\n\tpart.x: [1]\n", (6, 1), "not YAML"),
    ],
)  # fmt: skip
def test_one_mistake(tmp_path: Path, body: str, place: tuple[int, int], said: str) -> None:
    error = mistakes(write(tmp_path, body))
    hits = [p for p in error.problems if said in p.message]
    assert hits, str(error)
    assert (hits[0].line, hits[0].column) == place, str(error)


@pytest.mark.parametrize(("text", "said"), [("", "is empty"), ("3", "mapping"), ("[a]", "mapping")])
def test_files_that_are_no_study(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    assert said in str(mistakes(file))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in str(mistakes(file))


def test_a_subject_that_does_not_import_leaves_the_other_checks(tmp_path: Path) -> None:
    file = write(tmp_path, BODY + "replicats: 3\n", HEAD.replace("stub", "stubb"))
    text = str(mistakes(file))
    assert "study.yaml:3:10: subject 'harness.testing.stubb' cannot be imported" in text
    assert "did you mean 'replicates'" in text


def test_a_command_needs_its_code(tmp_path: Path) -> None:
    head = HEAD.replace("subject: harness.testing.stub", "subject: {command: python train.py}")
    error = mistakes(write(tmp_path, BODY, head))
    (problem,) = error.problems
    assert (problem.line, problem.column) == (3, 10)
    assert "required key 'code' is missing (in subject)" in problem.message


@pytest.mark.parametrize(
    "body",
    [
        BODY.replace("{part.x: 0.0, look: warm}", "[part.x]") + "design: one_factor\n",
        BODY + "design: explict\narms: [{}]\n",
        BODY.replace("recipe: {part", "recipe: [part").replace("c: 0}}", "c: 0}]"),
    ],
)
def test_one_mistake_does_not_cause_others(tmp_path: Path, body: str) -> None:
    assert len(mistakes(write(tmp_path, body)).problems) == 1


def test_factors_may_be_called_like_fields(tmp_path: Path) -> None:
    body = "recipe: {}\nfactors: {arms: {path: part.x, levels: []}, part.y: [1, 2]}\n"
    body += "baseline: {arms: 3, part.y: 1}\n"
    (problem,) = mistakes(write(tmp_path, body)).problems
    assert "at least 1 item" in problem.message


def test_a_combination_the_recipe_refuses_is_placed_at_its_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each level alone is right; the model refuses them together."""
    (tmp_path / "picky.py").write_text(
        textwrap.dedent(
            """
            from harness.testing.stub import *
            from harness.testing import stub
            from pydantic import model_validator

            class Recipe(stub.Recipe):
                @model_validator(mode="after")
                def _together(self):
                    if self.colour == "blue" and self.part.x > 1:
                        raise ValueError("blue needs x of at most 1")
                    return self
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    body = "recipe: {}\nfactors:\n  part.x: [0, 2]\n  colour: [red, blue]\n"
    error = mistakes(write(tmp_path, body, HEAD.replace("harness.testing.stub", "picky")))
    assert len(error.problems) == 1
    assert "1 arm(s) have a recipe that is refused, e.g. {part.x: 2, colour: blue}" in str(error)
    assert "blue needs x of at most 1" in str(error)
    body = "recipe: {}\nfactors:\n  part.y: [0, 2]\n  colour: [red, blue]\nset: {part.x: 2}\n"
    error = mistakes(write(tmp_path, body, HEAD.replace("harness.testing.stub", "picky")))
    assert [(p.line, p.column) for p in error.problems] == [(7, 17)]


ODD: list[Any] = [None, 3, "x", [], {}, [1], {"a": {"b": None}}, True, [None], [{}], "a.b"]


def _paths(data: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data)
    found = [prefix]
    for key, value in items:
        inside = (*prefix, key)
        found += _paths(value, inside) if isinstance(value, dict | list) else [inside]
    return found


def test_odd_values_anywhere_are_mistakes_not_crashes(tmp_path: Path) -> None:
    good = YAML(typ="safe", pure=True).load(HEAD + BODY + "where: [part.x < 2]\n")
    writer = YAML(typ="safe", pure=True)
    file = write(tmp_path)
    refused: list[Problem] = []
    for number, path in enumerate(_paths(good)):
        for value in ODD[number % 3 :: 3]:
            changed = copy.deepcopy(good)
            if path:
                here = changed
                for key in path[:-1]:
                    here = here[key]
                here[path[-1]] = value
            out = io.StringIO()
            writer.dump(changed if path else value, out)
            file.write_text(out.getvalue())
            try:
                load_study(file)
            except StudyError as error:
                refused += error.problems
    assert len(refused) > 100
    assert all(p.line and p.column and p.message for p in refused)


def test_an_expression_that_only_some_combinations_cannot_evaluate(tmp_path: Path) -> None:
    body = (
        "recipe: {}\nfactors: {fault: {levels: {a: {part.x: 0}, b: {part.x: 1}}}, part.y: [0, 1]}\n"
        "where: ['True', fault == 'a' or part.y == 0 or 'x' in part.y]\n"
    )
    error = mistakes(write(tmp_path, body))
    (problem,) = error.problems
    assert "cannot be evaluated: argument of type 'int'" in problem.message
    assert (problem.line, problem.column) == (6, 17)
