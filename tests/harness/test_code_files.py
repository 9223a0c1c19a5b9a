"""Arms that run different source files: recorded, planned, guarded by what they share."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.guard import changes_since, confounds
from harness.contract import Fingerprints
from harness.journal.code import changed, conflict, differing, names_in_words
from harness.planning.make import make_plan
from harness.study.opened_study import OpenedStudy
from harness.testing import stub
from tests.harness.run_place import STUB, Place

SHARED = {"cycle.py": "1", "flow.py": "1"}


def test_only_a_file_of_both_can_differ():
    one, two = {**SHARED, "dmd.py": "1"}, {**SHARED, "lcm.py": "1"}
    assert differing([one, two]) == []
    assert differing([one, {**two, "flow.py": "2", "dmd.py": "2"}]) == ["dmd.py", "flow.py"]
    assert not conflict({"a": one, "b": two})
    assert conflict({"a": one, "b": {**two, "flow.py": "2"}})
    assert conflict({"a": one, "b": {}}), "nothing is known of b"
    assert not conflict({"a": {}})


def test_what_changed_itself_is_named_and_not_all_that_uses_it():
    then = {"a.py#f": "1-5", "a.py#g": "2-6", "a.py#h": "3-7", "a.py": "4", "b.py#gone": "9"}
    now = {**then, "a.py#f": "1-8", "a.py#g": "0-6", "c.py#new": "7"}
    del now["b.py#gone"]
    assert changed(then, now) == ["a.py#g", "b.py#gone", "c.py#new"]
    assert differing([then, now]) == ["a.py#g"]
    assert changed(then, {**then, "a.py#f": "1-8"}) == ["a.py#f"], "another of the same text"
    assert differing([then, {**then, "a.py#f": "1-8"}]) == ["a.py#f"]
    assert changed(then, then) == []


def test_a_definition_that_moved_is_no_change_and_no_conflict():
    then = {"a.py#f": "1-5", "a.py#g": "2"}
    moved = {"b.py#f": "1-5", "a.py#g": "2"}
    assert changed(then, moved) == []
    assert not conflict({"then": then, "moved": moved})
    rewritten = {"b.py#f": "3-5", "a.py#g": "2"}
    assert changed(then, rewritten) == ["a.py#f", "b.py#f"]
    assert conflict({"then": {**then, "a.py#user": "4-1"}, "now": {**moved, "a.py#user": "4-2"}})


def test_names_are_told_by_file_and_few():
    assert names_in_words(["a.py", "b.py"]) == "a.py, b.py"
    assert names_in_words([f"{n}.py" for n in range(5)]) == "0.py, 1.py, 2.py and 2 more"
    names = ["evaluation/edit.py#EditScores", "evaluation/edit.py#following", "recipes/flow.py"]
    assert names_in_words(names) == "evaluation/edit.py: EditScores, following; recipes/flow.py"
    many = [f"a.py#f{n}" for n in range(5)]
    assert names_in_words([*many, "b.py#g"]) == "a.py: f0, f1, f2 and 2 more; b.py: g"
    assert names_in_words([]) == ""


class _Code:
    """What the stub says of its code: a file of its own for each level of `x`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.files = dict(SHARED)
        self.own = "1"
        self._usual = stub.fingerprints
        monkeypatch.setattr(stub, "fingerprints", self)

    def __call__(self, recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        x = recipe["part"]["x"] if "part" in recipe else "row"
        files = {**self.files, f"x{x}.py": self.own}
        code = "-".join(f"{name}:{digest}" for name, digest in sorted(files.items()))
        prints = self._usual(recipe, protocol)
        return prints.model_copy(update={"code": code, "code_files": files})


def test_each_trial_is_recorded_with_its_own_code_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    code, place = _Code(monkeypatch), Place(tmp_path)
    study = place.study()
    assert place.run(study).exit_code == 0
    trials = place.trials()
    for trial in trials:
        x = trial.complete.opened.trial.recipe["part"]["x"]
        assert trial.complete.opened.code_files == {**SHARED, f"x{x}.py": "1"}
    assert len({t.complete.opened.code for t in trials}) == 2
    assert place.run(study).tally is None, "nothing is stale"

    def planned():
        return make_plan(OpenedStudy(study, place.workspace, history=place.history()))

    plan, keys = planned(), [t.key for t in trials]
    assert not plan.warnings
    assert not confounds(place.history(), keys, plan.fingerprints.protocol)
    assert not changes_since(plan, place.history())
    code.own = "2"
    stale = planned()
    assert {t.state for t in stale.trials} == {"stale"}
    assert {t.why for t in stale.trials} == {
        f"x{t.trial.recipe['part']['x']}.py" for t in stale.trials
    }
    assert "4 of 4 results were made by other code" in changes_since(stale, place.history())[0]


def test_a_changed_file_of_both_arms_is_a_confound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _Code(monkeypatch)
    place = Place(tmp_path)
    study = place.study()
    place.run(study)
    plan = make_plan(OpenedStudy(study, place.workspace, history=place.history()))
    keys = [t.trial.key for t in plan.trials]
    history = place.history()
    for trial in list(history.trials.values())[:1]:
        opened = trial.complete.opened
        files = {**opened.code_files, "flow.py": "2"}
        trial.complete.opened = opened.model_copy(update={"code": "other", "code_files": files})
    found = confounds(history, keys, plan.fingerprints.protocol)
    assert [text.split(":")[0] for text in found] == ["code differs between trials (flow.py)"]
    trial.complete.opened = opened.model_copy(update={"code": "other", "code_files": {}})
    assert confounds(history, keys, plan.fingerprints.protocol)[0].startswith("code differs")


def test_reference_rows_have_digests_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from harness.testing import stub_measured

    usual = stub_measured.fingerprints

    def prints(recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        own = {"data": f"data of {recipe['row']}"} if "row" in recipe else {}
        return usual(recipe, protocol).model_copy(update=own)

    monkeypatch.setattr(stub_measured, "fingerprints", prints)
    place = Place(tmp_path)
    text = STUB.replace("harness.testing.stub", "harness.testing.stub_measured")
    study = place.study(text)
    plan = make_plan(OpenedStudy(study, place.workspace, history=place.history()))
    data = {t.trial.arm: t.trial.data for t in plan.trials if t.trial.kind == "reference"}
    assert data == {"truth": "data of truth", "untrained": "data of untrained"}
