"""Plans: states against the history, order, contrasts, cost, what can be detected."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.contract import Artifact, Fingerprints
from harness.journal import claims
from harness.journal.history import History
from harness.journal.records import Superseded
from harness.journal.trial import key_of
from harness.journal.workspace import Workspace
from harness.planning.make import _joined
from harness.planning.plan import Plan
from harness.planning.printed import lines_of
from harness.study.model import Study
from harness.testing import stub
from tests.harness.run_place import put_subject
from tests.harness.study_files import BODY, add_planned, add_run, plan, study


@pytest.fixture
def made(tmp_path: Path) -> Study:
    return study(tmp_path)


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put extra names on the stub subject."""

    def put(**names: Any) -> None:
        subject = SimpleNamespace(**{k: getattr(stub, k) for k in dir(stub)} | names)
        put_subject(monkeypatch, subject)

    return put


def states(planned: Plan) -> dict[str, int]:
    return {s: planned.count(s) for s in ("new", "measure", "reuse", "stale", "running")}  # type: ignore[arg-type]


def done(planned: Plan, history: History, **options: Any) -> None:
    for item in planned.trials:
        add_run(history, item.trial, **options)


# order and identity ---------------------------------------------------------------------


def test_order_is_replicate_major_with_the_baseline_first(made: Study) -> None:
    planned = plan(made)
    rows = [(t.trial.replicate, t.trial.arm) for t in planned.trials]
    arms = [arm.name for arm in planned.arms]
    assert arms[0] == "x0-warm"
    assert planned.arms[0].baseline
    assert rows == [(r, a) for r in range(6) for a in arms]


def test_keys_are_those_of_the_recipe_replicate_and_data(made: Study) -> None:
    for item in plan(made).trials[:9]:
        trial = item.trial
        assert trial.key == key_of(
            trial.recipe, trial.replicate, "stub-data", subject=trial.subject
        )


def test_reusing_the_file_name_does_not_matter(tmp_path: Path, made: Study) -> None:
    again = study(tmp_path, BODY.replace("look:", "appearance:").replace("look:", "appearance:"))
    keys = {t.trial.key for t in plan(made).trials}
    assert {t.trial.key for t in plan(again).trials} == keys, "names of factors are no identity"


def test_references_come_first_once_each(made: Study, offer: Any) -> None:
    def references(recipe: dict[str, Any], protocol: str) -> dict[str, dict[str, Any]]:
        return {
            "teacher": {"steps": 20},
            "source": {"row": "source", "x": recipe["part"]["x"]},
            "x0-warm": {"row": "clash"},
        }

    offer(references=references)
    planned = plan(made)
    rows = [t.trial for t in planned.trials if t.trial.kind == "reference"]
    assert [t.trial.kind for t in planned.trials[: len(rows)]] == ["reference"] * len(rows)
    assert rows[0].key == key_of(
        {"steps": 20}, 0, "stub-data", kind="reference", subject=rows[0].subject
    )
    names = [row.arm for row in rows]
    assert names[:2] == ["teacher", "source"]
    assert len(names) == len(set(names)) == 5, "teacher and clash once, source for each x"
    assert "x0-warm" not in names
    assert "+ 5 references" in lines_of(planned, "s.yaml")[0]


def test_select_is_part_of_how_it_is_measured(tmp_path: Path) -> None:
    ema = plan(study(tmp_path)).fingerprints.protocol
    last = plan(study(tmp_path, BODY + "select: last\n")).fingerprints.protocol
    assert (ema, last) == ("stub-default", "stub-default+last")


# states --------------------------------------------------------------------------------


def test_everything_is_new_without_a_history(made: Study) -> None:
    planned = plan(made)
    assert states(planned) == {"new": 36, "measure": 0, "reuse": 0, "stale": 0, "running": 0}
    assert len(planned.missing()) == planned.cost.trials == 36


def test_what_is_done_under_the_protocol_is_reused(made: Study) -> None:
    history, planned = History(), plan(made)
    for item in planned.trials[:6]:
        add_run(history, item.trial)
    add_run(history, planned.trials[6].trial, state="diverged")
    again = plan(made, history)
    assert [t.state for t in again.trials[:8]] == ["reuse"] * 7 + ["new"]
    assert again.trials[6].why == "diverged"


@pytest.mark.parametrize(
    ("state", "why"),
    [("failed", "failed before"), ("killed", "killed before"), (None, "interrupted")],
)
def test_what_did_not_end_is_new_again(made: Study, state: str | None, why: str) -> None:
    history = History()
    add_run(history, plan(made).trials[0].trial, state=state)
    first = plan(made, history).trials[0]
    assert (first.state, first.why) == ("new", why)


def test_what_another_driver_runs_is_running(made: Study) -> None:
    history, trial = History(), plan(made).trials[0].trial
    add_run(history, trial, state=None)
    place = Workspace(made.file.parent / "workspace")
    claim = claims.try_claim(claims.trial_lock(place, trial.key))
    assert claim is not None
    with claim:
        assert plan(made, history).trials[0].state == "running"
    assert plan(made, history).trials[0].state == "new"


def test_other_code_is_stale_and_names_the_files(made: Study, offer: Any) -> None:
    history = History()
    before = {"evaluation/edit.py": "1", "recipes/flow.py": "1", "gone.py": "1"}
    done(plan(made), history, code="old", code_files=before)
    now = {"evaluation/edit.py": "2", "recipes/flow.py": "1", "new.py": "1"}
    prints = Fingerprints(data="stub-data", protocol="stub-default", code="new", code_files=now)
    offer(fingerprints=lambda recipe, protocol: prints)
    planned = plan(made, history)
    assert states(planned)["stale"] == 36
    assert planned.trials[0].why == "evaluation/edit.py, gone.py, new.py"
    text = lines_of(planned, "s.yaml")
    assert "stale 36 (evaluation/edit.py, gone.py, new.py)" in text[0]
    assert "--rerun-stale" in text[-1]


def test_other_definitions_are_named_by_file(made: Study, offer: Any) -> None:
    history = History()
    before = {"evaluation/edit.py#following": "1-1", "evaluation/edit.py#user": "2-1"}
    done(plan(made), history, code="old", code_files=before)
    now = {"evaluation/edit.py#following": "3-1", "evaluation/edit.py#user": "2-2"}
    prints = Fingerprints(data="stub-data", protocol="stub-default", code="new", code_files=now)
    offer(fingerprints=lambda recipe, protocol: prints)
    text = lines_of(plan(made, history), "s.yaml")
    assert "stale 36 (evaluation/edit.py: following)" in text[0]


def test_other_data_is_stale_until_superseded(made: Study, offer: Any) -> None:
    history = History()
    old = plan(made).trials
    done(plan(made), history)
    prints = Fingerprints(data="data-2", protocol="stub-default", code="stub-code")
    offer(fingerprints=lambda recipe, protocol: prints)
    planned = plan(made, history)
    assert states(planned)["stale"] == 36
    assert [t.trial.key for t in planned.trials] == [t.trial.key for t in old], "accepting finds it"
    assert planned.trials[0].why == "data changed"
    assert planned.orphans == []
    for item in planned.trials:
        history.add(Superseded(at=1e9, key=item.trial.key, attempt=1))
    again = plan(made, history)
    assert states(again)["new"] == 36
    assert again.trials[0].trial.data == "data-2"
    assert again.trials[0].trial.key != old[0].trial.key


def test_another_protocol_measures_kept_students(made: Study, offer: Any) -> None:
    history, planned = History(), plan(made)
    place = Workspace(made.file.parent / "workspace")
    student = Artifact(kind="student", path="student", step=3)
    for item in planned.trials[:2]:
        add_run(history, item.trial, protocol="stub-older", artifacts=[student])
    (place.trial(planned.trials[0].trial.key) / "attempts" / "1-n1" / "student").mkdir(parents=True)
    assert [t.state for t in plan(made, history).trials[:2]] == ["new", "new"]
    offer(measure=lambda student, protocol, context: iter(()))
    again = plan(made, history)
    assert [t.state for t in again.trials[:3]] == ["measure", "new", "new"]
    assert again.trials[1].why == "protocol not yet run, student not kept"
    add_run(history, planned.trials[0].trial, number=2, mode="measure")
    assert plan(made, history).trials[0].state == "reuse"


def test_measure_at_asks_for_every_cycle(tmp_path: Path) -> None:
    made = study(tmp_path, BODY + "measure_at: [50, 100, 200, 900]\n")
    history, planned = History(), plan(made)
    add_run(history, planned.trials[0].trial, steps=(50, 100, 200))
    add_run(history, planned.trials[1].trial, steps=(100, 200))
    again = plan(made, history)
    assert again.trials[0].state == "reuse", "cycle 900 is beyond its end"
    assert (again.trials[1].state, again.trials[1].why) == ("new", "not measured at cycle 50")


def test_orphans_were_planned_and_run_but_are_no_longer(tmp_path: Path, made: Study) -> None:
    history, whole = History(), plan(made)
    add_planned(history, "demo", [t.trial for t in whole.trials])
    done(whole, history)
    smaller = study(tmp_path, BODY.replace("[0.0, 1.0, 2.0]", "[0.0, 2.0]"))
    gone = {t.trial.key for t in whole.trials if t.trial.levels["part.x"] == "1"}
    assert set(plan(smaller, history).orphans) == gone
    assert plan(made, history).orphans == []


@pytest.mark.parametrize(
    ("scopes", "said"),
    [
        (["on the stub"], "on the stub"),
        (["on the stub, 3 cycles"] * 2, "on the stub, 3 cycles"),
        (["on the stub, 3 cycles", "on the stub, 5 cycles"], "on the stub, 3 cycles or 5 cycles"),
        (["here, now", "there, now"], "here, now or there, now"),
        (["here", "there"], "here or there"),
    ],
)
def test_a_scope_says_in_what_arms_differ(scopes: list[str], said: str):
    assert _joined(scopes) == said
