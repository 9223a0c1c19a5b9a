"""Reproducing a claim by the fewest trials, and recipes with fresh seeds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.errors import HarnessError
from harness.journal.trial import key_of
from tests.harness.reproduce_lab import CLAIM, Lab

SECOND = (
    CLAIM + "  - {{id: H2, claim: colour, a: {{part.x: 1.0}}, b: {{part.x: 0.0}}, metric: cost}}\n"
)


@pytest.fixture(autouse=True, scope="module")
def _spread() -> Iterator[None]:
    """Trials have noise of their own: without any, nothing is decided."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUB_SPREAD", "1e-10")
        yield


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Lab:
    return Lab(tmp_path_factory.mktemp("claims") / "lab", replicates=5, more=SECOND)


@pytest.fixture
def lab(ran, tmp_path) -> Lab:
    return ran.copy(tmp_path / "lab")


def test_a_clear_claim_takes_two_replicates_of_both_arms(ran):
    said: list[str] = []
    found = ran.again("measure", "", contrast="H1", echo=said.append)
    assert (found.decision, found.exit_code, found.contrast) == ("bit-equal", 0, "H1")
    assert {p.key for p in found.parts} == {ran.key_at(x, r) for x in (0.0, 1.0) for r in (0, 1)}
    assert found.verdict_changed is False
    assert any(line.startswith("ladder") for line in said)
    assert any("the first 2 of 5 replicates" in line for line in said)


def test_a_claim_that_rests_on_later_replicates_takes_more(lab):
    """Two replicates that say nothing: only the whole study shows the difference."""
    lab.move({lab.key_at(1.0, 0): -0.5, lab.key_at(1.0, 1): -0.5, lab.key_at(1.0, 2): -0.45})
    found = lab.again("record", "", contrast="H1")
    assert len(found.parts) > 4
    assert found.decision == "as recorded"


def test_a_claim_whose_verdict_comes_out_otherwise_is_not_reproduced(lab):
    """Recorded as harming by a shift of every replicate; run again it improves."""
    lab.move({lab.key_at(1.0, r): -1.5 for r in range(5)})
    found = lab.again("train", "", contrast="H1")
    assert (found.decision, found.exit_code) == ("not reproduced", 1)
    assert found.verdict_changed is True
    assert "H1 was harms" in found.verdicts
    assert "it is improves" in found.verdicts


def test_only_the_claims_own_metric_is_judged_and_all_trials_share_the_false_rate(lab):
    lab.move({lab.key_at(1.0, 0): 1e-3})
    found = lab.again("train", "", contrast="H1")
    moved = next(p for p in found.parts if p.key == lab.key_at(1.0, 0))
    (judged,) = [v for v in moved.values if v.judged]
    assert judged.metric == "score"
    assert judged.replicates is not None
    assert judged.replicates.level == pytest.approx(1 - 0.05 / 4)
    assert found.decision == "consistent with a new replicate"


def test_tables_of_a_claim_are_its_own_verdict_alone(lab):
    found = lab.again("tables", "", contrast="H1")
    assert found.decision == "bit-equal"
    assert found.contrast == "H1"


def test_an_unknown_claim_names_those_there_are_and_where_it_looked(ran):
    with pytest.raises(HarnessError, match=r"again: H1, H2(?s:.*)journal"):
        ran.again("auto", "", contrast="H9")
    with pytest.raises(HarnessError, match="give a trial key, or --contrast"):
        ran.again("auto", "")


def test_fresh_seeds_are_new_trials_beyond_the_studys(ran):
    key = ran.key_at(1.0, 3)
    found = ran.again("auto", key, fresh_seeds=2)
    assert (found.decision, found.exit_code) == ("consistent with a new replicate", 0)
    trial = ran.history.trials[key].ordered[0].opened.trial
    assert [p.key for p in found.parts] == [
        key_of(trial.recipe, r, trial.data, subject=trial.subject) for r in (5, 6)
    ]
    assert {p.key for p in found.parts}.isdisjoint(ran.history.trials)
    score = next(v for v in found.values if v.metric.startswith("score"))
    assert score.replicates is not None
    assert score.replicates.df == 4
    assert "width" in found.reason


def test_fresh_seeds_that_give_other_numbers_are_not_reproduced(lab):
    lab.move({lab.key_at(1.0, r): 5.0 for r in range(5)})
    found = lab.again("auto", lab.key_at(1.0, 3), fresh_seeds=1)
    assert (found.decision, found.exit_code) == ("not reproduced", 1)
    assert "What differs: nothing that is recorded" in found.reason


def test_fresh_seeds_of_a_claim_give_differences_and_a_larger_study(ran):
    found = ran.again("auto", "", contrast="H1", fresh_seeds=2)
    assert (found.decision, found.exit_code) == ("consistent with a new replicate", 0)
    assert len(found.parts) == 4
    (value,) = found.values
    assert value.now == pytest.approx(0.5, abs=0.1)
    assert "H1 was improves" in found.verdicts
    assert "it is improves" in found.verdicts
    assert found.verdict_changed is False


def test_fresh_seeds_and_a_lesser_depth_contradict(ran):
    with pytest.raises(HarnessError, match="--level measure does not go with it"):
        ran.again("measure", fresh_seeds=1)


UNFINISHED = [
    ("one arm's last replicate", [(1.0, 4)]),
    ("a pair", [(0.0, 1), (1.0, 1)]),
    ("the first trial of an arm", [(0.0, 0)]),
]


@pytest.mark.parametrize(("what", "missing"), UNFINISHED)
def test_a_claim_of_an_unfinished_study_rests_on_what_is_done(what, missing, lab):
    lab.forget([lab.key_at(x, r) for x, r in missing])
    said: list[str] = []
    found = lab.again("record", "", contrast="H1", echo=said.append)
    assert found.decision == "as recorded", found.reason
    keys = {p.key for p in found.parts}
    assert keys <= set(lab.history.trials)
    assert {t.trial.recipe["part"]["x"] for t in _opened(lab, keys)} == {0.0, 1.0}
    fresh = lab.again("auto", "", contrast="H1", fresh_seeds=1)
    assert (fresh.decision, len(fresh.parts)) == ("consistent with a new replicate", 2)


def _opened(lab, keys):
    return [lab.history.trials[key].ordered[0].opened for key in keys]


def test_a_claim_that_waits_for_a_side_is_not_judged_and_names_it(lab):
    lab.forget([lab.key_at(1.0, r) for r in range(5)])
    for options in ({}, {"fresh_seeds": 1}):
        found = lab.again("auto", "", contrast="H1", **options)
        assert (found.decision, found.exit_code) == ("not judged", 3)
        assert "no replicate has both sides" in found.reason
        assert "(pending)" in found.reason


def test_a_trial_that_failed_is_left_out_and_told(lab):
    """As undecided, the claim rests on all that have a result."""
    key = lab.key_at(1.0, 3)

    def fail(record):
        if record["type"] == "closed" and record["key"] == key:
            record["state"], record["measurements"] = "failed", []

    lab.edit_journal(fail)
    said: list[str] = []
    found = lab.again("record", "", contrast="H1", echo=said.append)
    assert found.decision == "as recorded", found.reason
    assert key not in {p.key for p in found.parts}


def test_fresh_replicates_of_a_claim_are_pairs_where_another_study_ran_more(lab):
    """The other study has the same arms, one of them with more replicates and another name."""
    for levels, replicates in (("[1.0]", 8), ("[0.0, 1.0]", 7)):
        text = lab.file.read_text()
        text = text[: text.index("baseline:")].replace("name: again", f"name: more-{replicates}")
        text = text.replace("[0.0, 1.0]", levels).replace(
            "replicates: 5", f"replicates: {replicates}"
        )
        lab.run_other(f"more-{replicates}", text)
    found = lab.again("auto", "", contrast="H1", fresh_seeds=2)
    assert found.decision == "consistent with a new replicate", found.reason
    trials = [lab.key_at(x, 0) for x in (0.0, 1.0)]
    recipes = [o.trial for o in _opened(lab, trials)]
    assert {p.key for p in found.parts} == {
        key_of(t.recipe, r, t.data, subject=t.subject) for t in recipes for r in (8, 9)
    }
