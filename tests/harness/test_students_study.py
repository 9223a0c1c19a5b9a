"""Studies of checkpoints from elsewhere, whose data differ per arm and replicate, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.journal.workspace import Workspace
from harness.planning.fit import Limit, fitting_designs
from harness.study.opened_study import OpenedStudy
from tests.harness.run_place import Place
from tests.harness.study_files import plan

BODY = """\
name: strangers
question: Is b better?
subject:
  measured_by: harness.testing.stub_measured
  students: [{students}]
recipe: {{arm: a}}
factors: {{arm: [a, b]}}
baseline: {{arm: a}}
replicates: {replicates}
protocol: p
contrasts: [{{id: H, a: {{arm: b}}, b: {{arm: a}}}}]
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def body(place: Place, counts: dict[str, list[int]]) -> str:
    """A study of an arm's replicates, each a checkpoint of other content."""
    listed = []
    for arm, replicates in counts.items():
        for replicate in replicates:
            path = f"{arm}-{replicate}"
            write(place, path, {"a": 1.0, "b": 3.0}[arm] + 0.1 * replicate)
            listed.append(f"{{path: {path}, levels: {{arm: {arm}}}, replicate: {replicate}}}")
    most = 1 + max(r for replicates in counts.values() for r in replicates)
    return (
        BODY.format(students=", ".join(listed), replicates=most)
        .replace("{", "{{")
        .replace("}", "}}")
    )


def write(place: Place, name: str, score: float) -> None:
    folder = place.folder / name
    folder.mkdir(exist_ok=True)
    (folder / "weights.json").write_text(json.dumps({"score": score, "cost": 1.0}))


def warned(place: Place, text: str, **options) -> str:
    found = place.run(place.study(text), **options).answer
    assert found is not None
    (verdict,) = [v for v in found.verdicts if v.id == "H"]
    return " | ".join([*found.warnings, *verdict.notes])


def test_every_checkpoint_is_data_of_its_own_and_no_confound(place: Place):
    text = warned(place, body(place, {"a": [0, 1, 2], "b": [0, 1, 2]}))
    assert "data" not in text


def test_a_checkpoint_replaced_since_is_other_data(place: Place):
    text = body(place, {"a": [0, 1, 2], "b": [0, 1, 2]})
    place.run(place.study(text))
    write(place, "b-1", 7.0)
    place.workspace.study("strangers").joinpath("report.html").unlink()
    told = warned(place, text, accept_stale=True)
    assert "1 of 8 results were trained on other data than the files now" in told
    assert "data differs between trials: " in told


def test_unequal_replicates_are_planned_tried_run_and_fitted(place: Place):
    made = place.study(body(place, {"a": [0, 1, 2, 3], "b": [1, 2, 3]}))
    assert place.run(made, smoke=True).exit_code == 0
    assert place.run(made).exit_code == 0
    planned = plan(made, place.history())
    (contrast,) = planned.contrasts
    assert "no replicates in the history" not in contrast.notes
    (own, *_) = fitting_designs(
        OpenedStudy(made, Workspace(made.file.parent / "w"), history=place.history()),
        planned,
        Limit("hours", 1.0),
    )
    assert (own.replicates, own.trials) == (4, 0), "all are measured, and there are no others"
