"""A study is complete or interim, never both: over many states of trials, wherever it is said."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from harness.analysis.answer import answer
from harness.analysis.answered_study import AnsweredStudy
from harness.journal.history import History
from harness.journal.workspace import Workspace
from harness.planning.plan import Plan
from harness.report.page import write_report
from harness.running.display import Outlook
from harness.study.model import Study
from harness.study.opened_study import OpenedStudy
from harness.testing import stub
from harness.tracking.mlflow_tracker import Interim
from harness.tracking.pages import note
from harness.tracking.projection import Projection
from harness.tracking.run_write import TAG
from tests.harness.study_files import add_run, plan, study

BODY = """\
recipe: {}
factors: {part.x: {levels: [0, 1, 2], ordered: true}}
replicates: 3
measure_at: [1, 3]
contrasts:
  - {id: H1, a: {part.x: 1}, b: {part.x: 0}}
  - {id: H2, best: part.x}
  - {id: H3, trend: part.x}
  - {id: H4, collapse: {part.x: 2}, margin: 0.1}
"""
STATES = ("done", "failed", "diverged", "killed", "running", "pending", "unmeasured")
ENDED = ("done", "failed", "diverged")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(tmp_path_factory.mktemp("project"), BODY)


def drawn(seed: int, planned: Plan) -> dict[str, str]:
    """Key -> state; of every second seed only states of trials that ended, so that all is over."""
    dice = random.Random(seed)
    weights = [9, 2, 2, 0, 0, 0, 0] if seed % 2 else [9, 1, 1, 1, 1, 2, 1]
    keys = [t.trial.key for t in planned.trials]
    return dict(zip(keys, dice.choices(STATES, weights, k=len(keys)), strict=True))


def recorded(planned: Plan, states: dict[str, str]) -> History:
    history = History()
    for number, item in enumerate(planned.trials):
        state = states[item.trial.key]
        if state == "pending":
            continue
        told = None if state == "running" else "done" if state == "unmeasured" else state
        add_run(
            history,
            item.trial,
            state=told,
            protocol="another" if state == "unmeasured" else "stub-default",
            metrics={"score": 1.0 + 0.1 * number + 0.01 * (number * 7 % 5)},
        )
    return history


def test_never_both(made: Study, tmp_path: Path):
    bare = plan(made)
    seen = set()
    for seed in range(150):
        states = drawn(seed, bare)
        history = recorded(bare, states)
        first = random.Random(seed).choice([None, 2, 3, 4])
        planned = bare.model_copy(update={"frozen_replicates": first})
        found = answer(planned, made, history, metrics=stub.metrics)
        state = found.headline.split(",")[0]
        over = all(s in ENDED for s in states.values())
        assert (state == "Complete") == (over and (first or 0) <= 3 and "done" in states.values())
        texts = [found.model_dump_json(), note(planned, found, "")]
        if seed < 12:
            place = Workspace(tmp_path / str(seed))
            texts.append(
                write_report(
                    AnsweredStudy(OpenedStudy(made, place), planned, history).answered_by(found)
                ).read_text()
            )
        seen.add(state)
        for text in texts:
            assert not ("Complete," in text and "interim" in text), (seed, found.headline)
            assert not ("Complete," in text and "Interim" in text), (seed, found.headline)
    assert seen == {"Complete", "Interim"}


def test_while_it_runs_all_is_interim_until_the_last_trial_ended(made: Study):
    planned = plan(made)
    for seed in range(1, 60, 2):
        states = drawn(seed, planned)
        history = recorded(planned, states)
        outlook = Outlook(planned, History())
        rows = Interim(Projection(planned, ["score"], Path(), {}, workspace="w"))
        rows._next = 0.0
        said: dict[str, str] = {}
        for item in planned.trials:
            assert all("interim" in line for line in outlook.lines())
            closed = history.trials[item.trial.key].ordered[-1].closed
            assert closed is not None
            outlook.add(closed)
            rows._next = 0.0
            said |= {w.ident: w.tags[TAG + "state"] for w in rows.add(closed)}
        assert not any("interim" in line for line in outlook.lines())
        assert len(said) == len(planned.arms)
        assert not any("interim" in state for state in said.values())


def test_a_contrast_without_arms_waits_for_none(made: Study):
    planned = plan(made)
    empty = [c.model_copy(update={"parts": [], "pairs": []}) for c in planned.contrasts]
    states = dict.fromkeys((t.trial.key for t in planned.trials), "done")
    history = recorded(planned, states)
    bare = planned.model_copy(update={"contrasts": empty[1:2]})
    found = answer(bare, made, history, metrics=stub.metrics)
    assert found.headline.startswith("Complete")
    assert not any("interim" in text for v in found.verdicts for text in v.notes)
