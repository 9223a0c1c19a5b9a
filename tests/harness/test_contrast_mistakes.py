"""Mistakes in contrasts: each with its place and what to write, all at once; what is no mistake."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from harness.study.load import load_study
from harness.study.model import StudyFile
from tests.harness.study_files import HEAD, mistakes, write

TOP = """\
recipe: {}
factors:
  part.x: {levels: [0, 1, 5], ordered: true}
  part.y: [1, 2]
  look: {levels: {warm: {colour: red}, cool: {colour: blue}, dim: {colour: green}}}
  cycles: [3]
measure_at: [1, 2]
contrasts:
"""
LINE = (HEAD + TOP).count("\n") + 1


def contrast(folder: Path, text: str, top: str = TOP) -> list[tuple[int, int, str]]:
    found = mistakes(write(folder, top + f"  - {{id: H, {text}}}\n")).problems
    return [(p.line, p.column, p.message) for p in found]


@pytest.mark.parametrize(
    ("text", "at", "said"),
    [
        ("metric: score", "{id", "says not what it compares: give one of a and b, trend"),
        ("a: {part.x: 0}", "{id", "required key 'b' is missing"),
        ("b: {part.x: 0}", "{id", "required key 'a' is missing"),
        ("trend: part.x, best: look", "best", "of one kind, and this one has `trend` already"),
        ("a: {part.x: 0}, b: {part.x: 1}, trend: part.x", "trend", "has `a` already"),
        ("trend: part.x, b: {part.x: 1}", "b:", "`b` needs a contrast of its own"),
        ("tremd: part.x", "tremd", "unknown key 'tremd'; did you mean 'trend'?"),
        ("trend: part.z", "part.z", "no factor 'part.z'; did you mean"),
        ("trend: look", "look", "'look' is not ordered, so it has no trend; give it `ord"),
        ("trend: part.y", "part.y", "a trend over 2 levels of 'part.y' is a difference; write a:"),
        ("trend: cycles", "cycles", "a trend over 1 level of 'cycles' says nothing"),
        ("trend: [part.x]", "[part.x", "valid string"),
        ("trend: part.x, at: {part.x: 0}", "part.x: 0", "is what `trend` is about"),
        ("trend: part.x, at: {look: blu}", "blu", "'blu' is not a level of 'look'"),
        ("interaction: [part.x]", "[part.x", "at least 2 items"),
        ("interaction: [part.x, part.x]", "part.x]", "different factors, given 'part.x' twice"),
        ("interaction: [part.x, lok]", "lok]", "no factor 'lok'; did you mean 'look'?"),
        ("interaction: [part.x, look]", "look]", "`levels: {look: [warm, dim]}`, or"),
        ("interaction: [part.x, cycles]", "cycles]", "has one level, so it moves nothing"),
        ("more: [part.x, look]", "look]", "has 3 levels and is not ordered: pick two"),
        ("more: [part.x, look], levels: {look: [dim, dim]}", "dim]}", "picks 'dim' of 'look' tw"),
        ("more: [part.x, look], levels: {look: [warm, coool]}", "coool]}", "did you mean 'cool'?"),
        ("more: [part.x, part.y], levels: {look: [warm, cool]}", "look: [", "picks two of part"),
        ("more: [part.x, part.y], margin: 1", "margin", "`margin` belongs to difference, trend,"),
        ("best: part.x, expect: higher", "expect", "`expect` belongs to difference, trend, inter"),
        ("trend: part.x, levels: {part.x: [0, 1]}", "levels", "belongs to interaction, more"),
        ("best: cycles", "cycles", "has one level, which is the best by itself"),
        ("best: loo", "loo}", "no factor 'loo'; did you mean 'look'?"),
        ("collapse: {part.x: 5}", "{id", "`collapse` needs a `margin`"),
        ("collapse: {part.x: 5}, margin: -1", "-1", "greater than 0"),
        ("collapse: {part.x: 4}, margin: 1", "4}", "4 is not a level of 'part.x'"),
        ("sooner: {a: {part.x: 5}, b: {part.x: 0}}", "{a:", "`sooner` needs a `threshold`"),
        ("sooner: {a: {part.x: 5}, threshold: 1}", "{a:", "required key 'b' is missing"),
        ("sooner: {a: {part.x: 5}, b: {part.x: 5}, threshold: 1}", "{part.x: 5}, t", "same"),
        ("sooner: {a: {part.x: 5}, b: {part.y: 1}, threshold: 1}", "{a:", "only one side names"),
        ("sooner: {a: {part.x: 5}, b: {part.x: 0}, treshold: 1}", "treshold", "mean 'threshold'?"),
        ("best: part.x, metric: dull", "dull", "'dull' has no better direction"),
        ("collapse: {part.x: 5}, margin: 1, metric: dull", "dull", "asks what is better"),
    ],
)  # fmt: skip
def test_one_mistake_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, at: str, said: str
):
    subject = "from harness.testing.stub import *\nfrom harness.testing import stub\n"
    subject += "from harness.contract import MetricSpec\n"
    subject += "metrics = {**stub.metrics, 'dull': MetricSpec()}\n"
    (tmp_path / "undirected.py").write_text(subject)
    monkeypatch.syspath_prepend(str(tmp_path))
    line = f"  - {{id: H, {text}}}\n"
    head = HEAD.replace("harness.testing.stub", "undirected")
    problems = mistakes(write(tmp_path, TOP + line, head)).problems
    (found,) = problems if len(problems) == 1 else problems[:1]
    assert said in found.message
    assert (found.line, found.column) == (LINE, line.index(at) + 1)
    assert len(problems) == 1, [p.message for p in problems]


@pytest.mark.parametrize(
    ("ordered", "said", "at"),
    [
        ("levels: [a, b, c], ordered: true", "`ordered: true` needs levels that are numbers", "a,"),
        ("levels: [0, 1, 2], ordered: log", "needs levels above 0, given 0", "0,"),
        ("levels: [1, 2, 3], ordered: lgo", "did you mean 'log'?", "lgo"),
        ("levels: [1, 2, 3], ordered: 3", "an order is one of true, log, rank", "3}"),
        ("levels: [1, 2, 3], ordered: {scores: [1, 2]}", "2 scores for 3 levels", "[1, 2]"),
        ("levels: [1, 2, 3], ordered: {scores: [1, 2, 2]}", "is that of two levels", "2]"),
        ("levels: [1, 2, 3], ordered: {scores: [1, 2, x]}", "valid number", "x]"),
        ("levels: [1, 2, 3], ordered: {score: [1]}", "did you mean 'scores'?", "score:"),
        ("levels: [1, 2, 1e300], ordered: true", "out of bounds", "1e300"),
    ],
)
def test_levels_that_have_no_order(tmp_path: Path, ordered: str, said: str, at: str):
    line = f"factors: {{part.z: {{path: seconds, {ordered}}}}}\n"
    body = "recipe: {}\n" + line + "contrasts:\n  - {id: H, trend: part.z}\n"
    problems = mistakes(write(tmp_path, body)).problems
    found = next(p for p in problems if said in p.message)
    assert (found.line, found.column) == (5, line.index(at) + 1)
    assert all(p.line == 5 for p in problems), "the trend over it is no mistake of its own"


def test_curves_need_two_measured_cycles(tmp_path: Path):
    for cycles, have in (("", "only the end"), ("measure_at: [2, 2]\n", "only cycle 2")):
        top = TOP.replace("measure_at: [1, 2]\n", cycles)
        for text in (
            "collapse: {part.x: 5}, margin: 1",
            "sooner: {a: {part.x: 5}, b: {part.x: 0}, threshold: 1}",
        ):
            ((_, column, said),) = contrast(tmp_path, text, top)
            assert have in said
            assert "`measure_at: [50, 100, 200]`" in said
            assert column == 13


def test_all_at_once(tmp_path: Path):
    lines = [
        "  - {id: H1, trend: look}",
        "  - {id: H1, best: part.x, at: {part.x: 1}}",
        "  - {id: H2, interaction: [look, part.y], expect: up}",
        "  - {id: H3, collapse: {part.q: 1}}",
        "  - {id: H4, sooner: {a: {look: warm}, b: {look: dimm}}}",
        "  - {id: H5, more: [part.y, part.y], margin: 1}",
        "  - {id: H6}",
    ]
    found = mistakes(write(tmp_path, TOP + "\n".join(lines) + "\n")).problems
    each = [sum(p.line == LINE + n for p in found) for n in range(len(lines))]
    assert each == [1, 2, 2, 2, 2, 2, 1]
    assert sum(each) == len(found)


GOOD = [
    "trend: part.x", "trend: part.x, at: {look: warm}, margin: 0.1, expect: lower",
    "interaction: [part.x, part.y]", "interaction: [part.x, look], levels: {look: [warm, dim]}",
    "more: [part.y, part.x], metric: score", "best: look, claim: warm is", "best: part.y",
    "collapse: {look: warm, part.x: 5}, margin: 1",
    "sooner: {a: {look: warm}, b: {look: cool}, threshold: 0, falls: true}",
    "a: {part.x: 0}, b: {part.x: 1}",
]  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_what_is_right_loads_and_suits_the_schema(tmp_path: Path, text: str):
    from harness.study.yaml_file import read

    file = write(tmp_path, TOP + f"  - {{id: H, {text}}}\n")
    made = load_study(file)
    again = type(made).model_validate_json(made.model_dump_json())
    assert again.contrasts == made.contrasts
    assert again.digest() == made.digest()
    jsonschema.validate(read(file).data, StudyFile.model_json_schema())


@pytest.mark.parametrize("text", ["trend: part.x, best: look", "claim: nothing", "a: {part.x: 0}"])
def test_the_schema_wants_one_kind(tmp_path: Path, text: str):
    from harness.study.yaml_file import read

    file = write(tmp_path, TOP + f"  - {{id: H, {text}}}\n")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(read(file).data, StudyFile.model_json_schema())


def test_a_study_without_kinds_has_the_digest_it_had(tmp_path: Path):
    body = TOP.replace(", ordered: true", "") + "  - {id: H, a: {part.x: 0}, b: {part.x: 1}}\n"
    made = load_study(write(tmp_path, body))
    content = made.model_dump(mode="json")
    assert list(content["contrasts"][0]) == [
        "id", "claim", "a", "b", "at", "metric", "expect", "margin",
    ]  # fmt: skip
    assert all(list(factor) == ["path", "levels"] for factor in content["factors"].values())
    assert "ordered" not in json.dumps(content)


def test_a_tag_of_no_known_meaning_is_a_mistake_with_its_place(tmp_path: Path):
    body = "recipe: {}\nfactors: {part.x: !linspace [0.0, 1.0, 5]}\nreplicates: 3\n"
    (found,) = mistakes(write(tmp_path, body)).problems
    assert "tag !linspace is not supported" in found.message
    assert (found.line, found.column) == (5, 19)
