"""The confound guard: one test for each thing that may differ beside the declared factors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import model_validator

from harness.analysis.answer import answer
from harness.analysis.answered_study import AnsweredStudy
from harness.analysis.model import Answer, Verdict
from harness.contract import Fingerprints
from harness.errors import StudyError
from harness.journal.history import History
from harness.planning.make import make_plan
from harness.planning.printed import lines_of
from harness.report.results import result_files
from harness.study.load import load_study
from harness.study.model import Study
from harness.study.opened_study import OpenedStudy
from harness.testing import stub, stub_measured
from tests.harness.run_place import Place, put_subject

BODY = """\
name: demo
question: Does x help?
subject: harness.testing.stub_measured
recipe: {{cycles: 2}}
factors: {{part.x: [0.0, 1.0]}}
baseline: {{part.x: 0.0}}
replicates: 3
protocol: {protocol}
contrasts: [{{id: H, a: {{part.x: 1.0}}, b: {{part.x: 0.0}}}}]
"""
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "project")


def judged(place: Place, made: Study) -> tuple[Answer, Verdict]:
    history = History.read([place.workspace.journal])
    planned = make_plan(OpenedStudy(made, place.workspace, history=history))
    found = answer(planned, made, history, metrics=stub.metrics)
    return found, next(v for v in found.verdicts if v.id == "H")


def notes(place: Place, made: Study) -> str:
    return " | ".join(judged(place, made)[1].notes)


def rewrite(place: Place, change: Change, kind: str = "opened", arm: str = "x1") -> None:
    """Change the records of one arm, as if it had been run elsewhere."""
    for file in place.workspace.journal.glob("*.jsonl"):
        records = [json.loads(line) for line in file.read_text().splitlines()]
        keys = {r["key"] for r in records if r["type"] == "opened" and r["trial"]["arm"] == arm}
        for record in records:
            if record["type"] == kind and record["key"] in keys:
                change(record)
        file.write_text("".join(json.dumps(r) + "\n" for r in records))


def test_nothing_differs_in_an_honest_study(place: Place):
    made = place.study(BODY)
    place.run(made)
    text = notes(place, made)
    assert not [
        w for w in (" differ between", "differs between", "recipes also", "cycles") if w in text
    ]


def test_device(place: Place):
    made = place.study(BODY)
    place.run(made)
    rewrite(place, lambda r: r.update(device="NVIDIA H200"))
    assert "device models differ between trials: " in notes(place, made)
    assert "NVIDIA H200 (3 trials)" in notes(place, made)


def test_environment(place: Place):
    made = place.study(BODY)
    place.run(made)
    rewrite(place, lambda r: r["environment"].update(torch="1.0", python="2.7"))
    assert "environments differ between trials: python " in notes(place, made)
    assert "torch 1.0" in notes(place, made)


def test_code(place: Place, monkeypatch: pytest.MonkeyPatch):
    made = place.study(BODY.replace("[0.0, 1.0]", "[0.0]").replace("contrasts", "#"))
    place.run(made)
    monkeypatch.setenv("STUB_CODE", "newer")
    made = place.study(BODY)
    place.run(made, accept_stale=True)
    found, verdict = judged(place, made)
    text = " | ".join(verdict.notes)
    assert "code differs between trials (stub.py): newer (3 trials), stub-code (3 trials)" in text
    assert any("made by other code than the files now (stub.py)" in w for w in found.warnings)


def test_data(place: Place, monkeypatch: pytest.MonkeyPatch):
    made = place.study(BODY.replace("[0.0, 1.0]", "[0.0]").replace("contrasts", "#"))
    place.run(made)
    monkeypatch.setenv("STUB_DATA", "newer")
    made = place.study(BODY)
    place.run(made, accept_stale=True)
    found, verdict = judged(place, made)
    assert "data differs between trials: newer (3 trials), stub-data (3 trials)" in verdict.notes
    assert any("trained on other data than the files now" in w for w in found.warnings)


def test_data_that_a_factor_chooses_is_no_confound(place: Place, monkeypatch: pytest.MonkeyPatch):
    def prints(recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        own = stub.fingerprints(recipe, protocol)
        return own.model_copy(update={"data": f"data-{recipe.get('part', {}).get('x')}"})

    monkeypatch.setattr(stub_measured, "fingerprints", prints)
    made = place.study(BODY)
    place.run(made)
    assert "data" not in notes(place, made)


def test_cycles_measured(place: Place):
    made = place.study(BODY)
    place.run(made)
    rewrite(place, lambda r: [m.update(step=1) for m in r["measurements"]], "closed")
    assert "measured at different cycles: 1 (3 trials), 2 (3 trials)" in notes(place, made)


def test_a_recipe_field_that_follows_the_factor(place: Place, monkeypatch: pytest.MonkeyPatch):
    class Derived(stub.Recipe):
        @model_validator(mode="before")
        @classmethod
        def _more_cycles(cls, value: Any) -> Any:
            x = value.get("part", {}).get("x", 0.0)
            return {**value, "cycles": 2 + int(x)}

    names = {k: getattr(stub, k) for k in dir(stub) if not k.startswith("__")}
    derived = SimpleNamespace(**{**names, "Recipe": Derived})
    put_subject(monkeypatch, derived)
    made = place.study(BODY)
    place.run(made)
    planned = make_plan(OpenedStudy(made, place.workspace, history=place.history()))
    said = "the sides' recipes also differ in cycles, which no factor of the contrast sets"
    assert said in "\n".join(lines_of(planned, "study.yaml"))
    text = notes(place, made)
    assert said in text
    assert "measured at different cycles: 2 (3 trials), 3 (3 trials)" in text


def test_one_share_moves_the_others_without_being_a_confound(place: Place):
    body = BODY.replace("part.x: [0.0, 1.0]", "mixture.a: [0.2, 0.8]").replace(
        "part.x: ", "mixture.a: "
    )
    body = body.replace("1.0", "0.8").replace("0.0", "0.2")
    made = place.study(body.replace("{{cycles: 2}}", "{{mixture: {{a: 1, b: 1, c: 1}}}}"))
    planned = make_plan(OpenedStudy(made, place.workspace, history=History()))
    assert planned.contrasts[0].confounded == []


def test_a_number_of_another_protocol_is_in_no_table(place: Place):
    place.run(place.study(BODY))
    other = place.study(BODY, protocol="noisy")
    found, verdict = judged(place, other)
    assert verdict.n == 0
    assert all(cell.n == 0 for row in found.arms for cell in row.cells.values())
    assert any("are not measured under this protocol" in w for w in found.warnings)


def test_weights_measured_otherwise_are_in_no_table(place: Place):
    place.run(place.study(BODY))
    last = place.study(BODY + "select: last\n")
    found, verdict = judged(place, last)
    assert found.protocol.endswith("+last")
    assert verdict.n == 0
    assert any("are not measured under this protocol" in w for w in found.warnings)


def test_arms_whose_protocols_differ_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch):
    def prints(recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        own = stub.fingerprints(recipe, protocol)
        return own.model_copy(update={"protocol": f"p-{recipe.get('part', {}).get('x')}"})

    monkeypatch.setattr(stub_measured, "fingerprints", prints)
    with pytest.raises(StudyError, match=r":5:\d+: arm x1 is measured otherwise than x0"):
        place.study(BODY)


# trials shared between studies ---------------------------------------------------------------


def test_two_studies_share_their_trials_by_key(place: Place):
    first = place.study(BODY)
    place.run(first)
    more = BODY.replace("name: demo", "name: other").replace("[0.0, 1.0]", "[0.0, 1.0, 2.0]")
    folder = place.folder / "second"
    folder.mkdir()
    (folder / "study.yaml").write_text(more.format(protocol="p"))
    second = load_study(folder)
    planned = make_plan(OpenedStudy(second, place.workspace, history=place.history()))
    by_arm = {(t.trial.arm, t.state) for t in planned.trials if t.trial.kind == "trial"}
    assert by_arm == {("x0", "reuse"), ("x1", "reuse"), ("x2", "new")}
    before = {t.key: len(t.attempts) for t in place.trials()}
    result = place.run(second)
    after = {t.key: len(t.attempts) for t in place.trials()}
    assert {key: after[key] for key in before} == before, "nothing was run again"
    one, theirs = judged(place, first)
    two, ours = judged(place, second)
    shared = {row.arm: row.keys for row in one.arms if row.kind == "arm"}
    assert {row.arm: row.keys for row in two.arms if row.arm in shared} == shared
    assert ours.per_replicate == theirs.per_replicate
    assert result.report is not None
    assert "shares these trials are counted in full" in result.report.read_text()
    assert all(
        key in result.report.read_text() for keys in shared.values() for key in keys.values()
    )


def test_two_protocols_in_one_workspace_each_keep_their_reference_rows(place: Place):
    first = place.study(BODY)
    place.run(first)
    (place.folder / "second").mkdir()
    text = BODY.replace("name: demo", "name: other").format(protocol="noisy")
    (place.folder / "second" / "study.yaml").write_text(text)
    second = load_study(place.folder / "second")
    place.run(second)
    for made in (first, second):
        planned = make_plan(OpenedStudy(made, place.workspace, history=place.history()))
        assert {t.state for t in planned.trials} == {"reuse"}
        rows = [row for row in judged(place, made)[0].arms if row.kind == "reference"]
        assert [row.n_done for row in rows] == [1, 1]
        files = result_files(
            AnsweredStudy.of(OpenedStudy(made, place.workspace, history=place.history()))
        )
        folder = place.folder / made.name
        folder.mkdir()
        (folder / "journal.jsonl").write_text(files["journal.jsonl"])
        exported = History.read([folder])
        under = planned.fingerprints.protocol
        assert all(exported.trials[t.trial.key].measured(under) for t in planned.trials)
