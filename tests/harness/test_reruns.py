"""Same-seed repetitions of the baseline: planned last, keyed apart, run, in no table."""

from __future__ import annotations

import json

from harness.analysis.answer import answer
from harness.journal.trial import identity, key_of
from harness.planning.make import make_plan
from harness.planning.printed import lines_of
from harness.reproduce.recorded import find
from harness.study.opened_study import OpenedStudy
from harness.testing import stub
from tests.harness.run_place import STUB, Place

RERUNS = STUB + "reruns: 3\n"


def test_only_reruns_name_the_repetition_in_their_identity() -> None:
    assert "rerun" not in identity({"a": 1}, 0, "d", subject="s")
    again = (key_of({"a": 1}, 0, "d", "rerun", n, subject="s") for n in (1, 2))
    keys = {key_of({"a": 1}, 0, "d", subject="s"), *again}
    assert len(keys) == 3


def test_reruns_repeat_the_baseline_spread_over_its_replicates(tmp_path) -> None:
    place = Place(tmp_path)
    made = place.study(RERUNS)
    plan = make_plan(OpenedStudy(made, place.workspace, history=place.history()))
    last = [t.trial for t in plan.trials[-3:]]
    assert [(t.kind, t.rerun, t.replicate) for t in last] == [
        ("rerun", 1, 0),
        ("rerun", 2, 1),
        ("rerun", 3, 0),
    ]
    baseline = plan.arms[0]
    assert all(t.arm == baseline.name and t.recipe == baseline.recipe for t in last)
    assert len({t.trial.key for t in plan.trials}) == 4 + 3
    assert "+ 3 reruns" in lines_of(plan, "study.yaml")[0]


def test_a_study_without_reruns_keeps_its_digest_and_its_keys(tmp_path) -> None:
    place = Place(tmp_path)
    plain, repeated = place.study(), place.study(RERUNS)
    plans = [
        make_plan(OpenedStudy(s, place.workspace, history=place.history()))
        for s in (plain, repeated)
    ]
    assert [t.trial for t in plans[0].trials] == [t.trial for t in plans[1].trials[:4]]
    assert "reruns" in plain.model_dump()
    assert plain.digest() != repeated.digest()
    assert plain.digest() == repeated.model_copy(update={"reruns": 0}).digest()


def test_reruns_have_the_seeds_of_their_trial_and_stay_out_of_the_answer(tmp_path) -> None:
    place = Place(tmp_path)
    without = place.run(place.study())
    result = place.run(place.study(RERUNS))
    assert result.exit_code == 0
    assert result.answer is not None
    assert without.answer is not None
    assert [v.per_replicate for v in result.answer.verdicts] == [
        v.per_replicate for v in without.answer.verdicts
    ]
    assert [row.n_done for row in result.answer.arms] == [2, 2]
    history = place.history()
    reruns = [t for t in place.trials() if t.ordered[0].opened.trial.kind == "rerun"]
    assert len(reruns) == 3
    trained = {
        t.complete.opened.trial.replicate: t.measured("stub-p")[-1].metrics
        for t in place.trials()
        if t.complete and t.complete.opened.trial.arm == result.plan.arms[0].name
    }
    for rerun in reruns:
        trial = rerun.ordered[0].opened.trial
        assert rerun.measured("stub-p")[-1].metrics == trained[trial.replicate]
        stored = json.loads((place.workspace.trial(rerun.key) / "trial.json").read_text())
        assert stored["rerun"] == trial.rerun
        assert find(trial.short, place.workspace).key == rerun.key
    again = answer(result.plan, place.study(RERUNS), history, stub.metrics)
    assert again.attempts == 4 + 3  # but their time is counted
