"""A study whose trials report values by prompt: verdicts over both, and the claim beside them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.analysis.answer import answer
from harness.analysis.model import Answer, Verdict
from harness.planning.make import make_plan
from harness.study.opened_study import OpenedStudy
from tests.harness.run_place import Place
from tests.support import stub_prompts

BODY = """\
name: prompts
question: Does x help?
subject: tests.support.stub_prompts
recipe: {recipe}
factors: {{x: [0.0, 1.0, 1.1]}}
design: one_factor
baseline: {{x: 0.0}}
replicates: 4
protocol: {protocol}
contrasts:
  - {{id: H1, a: {{x: 1.0}}, b: {{x: 0.0}}, expect: higher, margin: 0.3}}
  - {{id: H2, a: {{x: 1.0}}, b: {{x: 0.0}}, metric: cost}}
"""


def verdicts(found: Answer | None) -> dict[str, Verdict]:
    assert found is not None
    return {v.id: v for v in found.verdicts}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("prompts") / "project")
    place.result = place.run(place.study(BODY))
    return place


def again(place: Place) -> Answer:
    study = place.study(BODY)
    history = OpenedStudy(study, place.workspace).history
    plan = make_plan(OpenedStudy(study, place.workspace, history=history))
    return answer(plan, study, history, metrics=stub_prompts.metrics)


def test_the_verdict_is_over_seeds_and_prompts_and_the_narrower_claim_beside_it(ran: Place):
    h1 = verdicts(ran.result.answer)["H1"]
    assert (h1.n, h1.n_prompts) == (4, 24)
    assert "over 4 seeds and 24 prompts" in h1.words
    assert h1.narrow is not None
    assert "on exactly these prompts" in h1.narrow.words
    assert h1.narrow.p < h1.p
    assert h1.narrow.lo < h1.difference < h1.narrow.hi
    assert h1.spread.prompts > 0


def test_distances_are_judged_by_pseudo_values(ran: Place):
    h2 = verdicts(ran.result.answer)["H2"]
    assert h2.n_prompts == 24
    assert "jackknife pseudo-values of 24 prompts in 2 strata" in h2.method
    assert h2.difference == pytest.approx(sum(h2.per_replicate.values()) / 4)


def test_exploratory_comparisons_and_arms_reach_over_prompts_too(ran: Place):
    found = ran.result.answer
    assert {v.n_prompts for v in found.verdicts if v.factor} == {24}
    arm = next(row for row in found.arms if row.kind == "arm")
    assert {m: arm.cells[m].n_prompts for m in ("score", "cost")} == {"score": 24, "cost": 24}


def test_a_trial_without_its_table_leaves_the_claim_on_these_prompts(ran: Place, tmp_path: Path):
    shutil.copytree(ran.folder, tmp_path / "project")
    place = Place(tmp_path / "project")
    tables = sorted(place.workspace.root.glob("trials/*/attempts/*/items-*.csv"))
    before, whole = verdicts(ran.result.answer)["H1"], verdicts(again(place))["H1"]
    assert whole == before
    for table in tables:
        table.unlink()
    left = verdicts(again(place))["H1"]
    assert (left.n_prompts, left.narrow) == (0, None)
    assert "on exactly these prompts" in left.words
    assert (left.lo, left.hi, left.verdict) == (
        before.narrow.lo,
        before.narrow.hi,
        before.narrow.verdict,
    )
    assert any("on exactly these prompts: " in note for note in left.notes)
    assert verdicts(again(place))["H2"].n_prompts == 24
