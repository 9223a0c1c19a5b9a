"""What leaves a planned contrast planned: other names, other sentences, another order."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.analysis.answer import answer
from harness.planning.make import make_plan
from harness.planning.plan import Plan
from harness.study.opened_study import OpenedStudy
from harness.testing import stub
from tests.harness.run_place import Place

BODY = """\
name: demo
question: Does x help?
subject: harness.testing.stub
recipe: {{cycles: 2}}
factors:
  part.x: {{levels: [0.0, 1.0, 2.0], ordered: true}}
  look:
    levels:
      warm: {{colour: red, part.y: 0}}
      cool: {{colour: blue, part.y: 2}}
replicates: 2
measure_at: [1, 2]
protocol: {protocol}
contrasts:
  - {{id: H1, a: {{look: cool}}, b: {{look: warm}}, margin: 0.01, expect: lower}}
  - {{id: H2, trend: part.x, at: {{look: cool}}}}
  - {{id: H3, interaction: [look, part.x]}}
  - {{id: H4, more: [look, part.x]}}
  - {{id: H5, best: look}}
  - {{id: H6, collapse: {{look: cool}}, margin: 0.1}}
  - {{id: H7, sooner: {{a: {{look: cool}}, b: {{look: warm}}, threshold: 0.5}}}}
"""
ALL = [f"H{n}" for n in range(1, 8)]


@pytest.fixture(scope="module")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Place(tmp_path_factory.mktemp("first") / "project")
    assert made.run(made.study(BODY)).exit_code == 0
    return made.folder


@pytest.fixture
def place(tmp_path: Path, first_run: Path) -> Place:
    shutil.copytree(first_run, tmp_path / "project")
    return Place(tmp_path / "project")


def planned(place: Place, body: str) -> Plan:
    study = place.study(body)
    return make_plan(OpenedStudy(study, place.workspace))


def amended(place: Place, body: str) -> list[str]:
    """Ids of the contrasts that are exploratory now; every trial must still be the recorded one."""
    made = planned(place, body)
    assert {t.trial.key for t in made.trials} == place.history().trials.keys()
    return [c.id for c in made.contrasts if c.amended]


def of_earlier_versions(place: Place) -> None:
    """Records as they were before recipes were noted beside the names of arms."""
    for file in place.workspace.journal.glob("*.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines:
            if line["type"] == "planned":
                assert line["frozen"].pop("compared")
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))


RENAMED = BODY.replace("cool", "cold").replace("warm", "hot")
REORDERED = BODY.replace(
    """      warm: {{colour: red, part.y: 0}}
      cool: {{colour: blue, part.y: 2}}
""",
    """      cool: {{colour: blue, part.y: 2}}
      warm: {{colour: red, part.y: 0}}
""",
).replace("[0.0, 1.0, 2.0]", "[2.0, 0.0, 1.0]")
REWORDED = BODY.replace("Does x help?", "Does x really help?").replace(
    "id: H1,", "id: H1, claim: cold is worse,"
)


@pytest.mark.parametrize("earlier", [False, True])
@pytest.mark.parametrize("body", [BODY, RENAMED, REWORDED, BODY.replace("look", "hue")])
def test_names_and_sentences_are_not_what_is_compared(place: Place, body: str, earlier: bool):
    if earlier:
        of_earlier_versions(place)
    assert amended(place, body) == []
    study = place.study(body)
    made = make_plan(OpenedStudy(study, place.workspace))
    told = answer(made, study, OpenedStudy(study, place.workspace).history, metrics=stub.metrics)
    assert [v.id for v in told.verdicts if v.planned] == ALL


def test_the_order_of_levels_and_of_contrasts_is_not(place: Place):
    head, _, tail = REORDERED.partition("contrasts:\n")
    lines = tail.splitlines(keepends=True)
    assert amended(place, head + "contrasts:\n" + "".join(reversed(lines))) == []


def test_a_run_after_the_renaming_keeps_what_the_first_one_froze(place: Place):
    place.run(place.study(RENAMED))
    assert amended(place, RENAMED) == []
    assert amended(place, BODY) == []


def test_names_that_change_places_are_a_change(place: Place):
    swapped = BODY.replace("warm:", "x:").replace("cool:", "warm:").replace("x:", "cool:")
    swapped = swapped.replace("part.cool:", "part.x:")
    assert swapped != BODY
    # The interaction, the larger effect and the best level are of both names alike.
    assert amended(place, swapped) == ["H1", "H2", "H6", "H7"]


@pytest.mark.parametrize(
    ("before", "after", "ids"),
    [
        ("margin: 0.01", "margin: 0.02", ["H1"]),
        ("expect: lower", "expect: higher", ["H1"]),
        ("trend: part.x, at: {{look: cool}}", "trend: part.x", ["H2"]),
        ("ordered: true", "ordered: {{scores: [0, 1, 3]}}", ["H2", "H3", "H4"]),
        ("ordered: true", "ordered: {{scores: [0, 1, 2]}}", []),
        ("threshold: 0.5", "threshold: 0.6", ["H7"]),
        ("threshold: 0.5", "threshold: 0.5, falls: true", ["H7"]),
        ("best: look", "best: part.x", ["H5"]),
        ("more: [look, part.x]", "more: [part.x, look]", ["H4"]),
        ("interaction: [look, part.x]", "interaction: [part.x, look]", []),
        ("trend: part.x,", "best: part.x,", ["H2"]),
    ],
)
def test_what_is_compared_and_what_decides_it(
    place: Place, before: str, after: str, ids: list[str]
):
    assert before in BODY
    assert amended(place, BODY.replace(before, after)) == ids


def test_curves_are_judged_on_the_cycles_of_the_first_run(place: Place):
    assert amended(place, BODY.replace("measure_at: [1, 2]", "measure_at: [2, 1, 2]")) == []
    assert amended(place, BODY.replace("measure_at: [1, 2]", "measure_at: [1, 3]")) == ["H6", "H7"]


def test_another_recipe_behind_the_same_names_is_a_change(place: Place):
    made = planned(place, BODY.replace("cycles: 2", "cycles: 3"))
    assert [c.id for c in made.contrasts if c.amended] == ALL
    assert made.contrasts[0].amended.startswith("compares other arms than before the first run")
