"""What is said of a study agrees with itself: after edits, with fewer replicates, cut short."""

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.commands import plan, report, status
from harness.commands.opening import answered
from harness.errors import STOPPED
from harness.report.page import write_report
from harness.reproduce.entry import reproduction
from harness.study.load import load_study

from .run_place import Place

NAMED = """\
name: demo
question: Does x help?
subject: harness.testing.stub
recipe: {recipe}
factors:
  amount: {{path: part.x, levels: {{none: 0.0, some: 1.0}}}}
baseline: {{amount: none}}
replicates: 3
protocol: {protocol}
contrasts:
  - {{id: H1, a: {{amount: some}}, b: {{amount: none}}}}
"""


def call(command, *words: str):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(
    ("old", "new"), [("some", "much"), ("amount", "dose"), ("replicates: 3", "replicates: 4")]
)
def test_a_report_of_an_edited_file_unmakes_no_record(old: str, new: str, tmp_path: Path):
    """Other names for the same trials: until `run` records them, the last run's answer counts."""
    place = Place(tmp_path)
    place.run(place.study(NAMED))
    key = place.trials()[0].key

    def again():
        return reproduction(key, workspace=place.workspace, depth="tables", echo=lambda _: None)

    assert again().decision == "bit-equal"
    made = answered(place.study(NAMED.replace(old, new)).file, place.workspace.root)
    page = write_report(made)
    assert new.split(":")[0] in page.read_text()
    assert again().decision == "bit-equal"
    if old == "amount":  # the arms have the names they had
        return
    folder = place.workspace.study("demo") / "results"
    (folder / "answer.json").write_text(made.answer.model_dump_json())  # as an export may leave it
    found = again()
    assert found.decision == "not judged", found.reason
    assert "edited since the last run" in found.reason
    place.run(load_study(made.study.file))
    assert again().decision == "bit-equal"


def test_nothing_is_bit_equal_where_nothing_was_computed(tmp_path: Path):
    place = Place(tmp_path)
    place.run(place.study(recipe="{fault: diverge}"))
    key = place.trials()[0].key
    found = reproduction(key, workspace=place.workspace, depth="tables", echo=lambda _: None)
    assert found.decision == "not judged", found.reason
    assert "nothing to work out" in found.reason


def test_fewer_replicates_than_first_planned_are_interim(tmp_path: Path):
    place = Place(tmp_path)
    place.run(place.study(NAMED))
    made = place.study(NAMED.replace("replicates: 3", "replicates: 2"))
    result = place.run(made)
    assert result.answer is not None
    (verdict,) = [v for v in result.answer.verdicts if v.declared]
    assert any(note.startswith("interim: 1 of 3") for note in verdict.notes)
    assert result.answer.headline.startswith("Interim, 4 of 4 trials done, 2 of the 3 replicates")


def test_the_number_of_trials_to_run_is_one(tmp_path: Path):
    place = Place(tmp_path)
    made = place.study(recipe="{fault: raise, fault_replicate: 1}")
    assert place.run(made, deadline=0.0).exit_code == STOPPED
    place.run(made)
    where = ["--workspace", str(place.workspace.root)]
    planned = json.loads(call(plan.command, str(made.file), *where, "--json").stdout)["counts"]
    wanted = planned["new"] + planned["measure"]
    assert wanted == 2, (planned, place.said)
    for words in ([str(made.file)], ["demo"], []):
        told = call(status.command, *words, *where).stdout
        assert re.findall(r"(\d+) to run", told)[0] == str(wanted)
        assert set(re.findall(r"(\d+) trials to run", told)) <= {str(wanted)}
        content = json.loads(call(status.command, *words, *where, "--json").stdout)
        assert [x["to_run"] for x in content["studies"] if x["study"] == "demo"] == [wanted]
    assert call(report.command, str(made.file), *where).exit_code == 0
