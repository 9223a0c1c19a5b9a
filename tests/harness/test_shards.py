"""Shards: an even split that keeps replicates together, and who may run beside whom."""

import itertools

import pytest

from harness.errors import ClaimedError, HarnessError
from harness.executors.inline import InlineExecutor
from harness.journal import shards
from harness.journal.shards import Shard
from harness.journal.trial import Trial
from harness.planning.make import make_plan
from harness.planning.plan import PlannedTrial
from harness.running.refusals import BudgetError
from harness.study.opened_study import OpenedStudy
from harness.testing import stub
from tests.harness.run_place import STUB, Place


def trials(arms: int, replicates: int, references: int = 0) -> list[PlannedTrial]:
    """A plan's order: references, then replicate by replicate."""
    made = [
        PlannedTrial(
            trial=Trial(
                key=f"{kind}{r}-{a}", kind=kind, arm=f"a{a}", replicate=r, recipe={}, data="d"
            ),
            state="new",
        )
        for kind, r, a in [
            *(("reference", 0, a) for a in range(references)),
            *(("trial", r, a) for r, a in itertools.product(range(replicates), range(arms))),
        ]
    ]
    return made


@pytest.mark.parametrize(
    ("arms", "replicates", "references", "count"),
    [(4, 6, 5, 4), (33, 6, 0, 4), (3, 2, 1, 9), (1, 1, 0, 3), (5, 7, 2, 1)],
)
def test_every_trial_has_one_shard_and_shares_are_even(arms, replicates, references, count):
    plan = trials(arms, replicates, references)
    shares = [Shard(i, count).share(plan) for i in range(1, count + 1)]
    assert sorted(t.trial.key for s in shares for t in s) == sorted(t.trial.key for t in plan)
    for kind in ("trial", "reference"):
        sizes = [sum(t.trial.kind == kind for t in s) for s in shares]
        assert max(sizes) - min(sizes) <= 1
    order = [t.trial.key for t in plan]
    for share in shares:
        places = [order.index(t.trial.key) for t in share]
        assert places == sorted(places)


def test_replicates_stay_whole_where_numbers_allow():
    for index in range(1, 4):
        share = Shard(index, 3).share(trials(4, 6))
        assert {t.trial.replicate for t in share} == {2 * index - 2, 2 * index - 1}
        assert len(share) == 8


def test_what_was_run_already_moves_no_trial():
    plan = trials(4, 6)
    later = [t.model_copy(update={"state": "reuse"}) for t in plan[:13]] + plan[13:]
    for index in (1, 2, 3, 4):
        keys = [[t.trial.key for t in Shard(index, 4).share(p)] for p in (plan, later)]
        assert keys[0] == keys[1]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4", "1/2/3", ""])
def test_a_wrong_shard_is_refused_with_an_example(text: str):
    with pytest.raises(HarnessError, match="1/4, 2/4") as caught:
        Shard.parse(text)
    assert repr(text) in str(caught.value)


def test_a_shard_is_read():
    assert Shard.parse(" 2/4 ") == Shard(2, 4)
    assert str(Shard(2, 4)) == "2/4"


def test_a_whole_run_stands_alone_and_shards_stand_beside_each_other(tmp_path):
    workspace = Place(tmp_path).workspace
    with shards.claim_run(workspace, "demo", None):
        with pytest.raises(ClaimedError, match="another process"):
            shards.claim_run(workspace, "demo", Shard(1, 2))
        with pytest.raises(ClaimedError):
            shards.refuse_claimed(workspace, "demo", Shard(1, 2))
    with shards.claim_run(workspace, "demo", Shard(1, 2)):
        with shards.claim_run(workspace, "demo", Shard(2, 2)):
            told = shards.holders(workspace, "demo")
            assert "shard 1/2 on host" in told
            assert "shard 2/2 on host" in told
        with pytest.raises(ClaimedError, match="another process"):
            shards.claim_run(workspace, "demo", Shard(1, 2))
        with pytest.raises(ClaimedError, match=r"in shards .*shard 1/2.* --shard"):
            shards.claim_run(workspace, "demo", None)
        shards.refuse_claimed(workspace, "other", None)
    assert shards.holders(workspace, "demo") == ""
    shards.claim_run(workspace, "demo", None).release()


def test_shards_run_their_share_and_the_last_one_answers_for_all(tmp_path):
    place = Place(tmp_path)
    made = place.study()
    first = place.run(made, shard=Shard(2, 2))
    assert first.exit_code == 0
    assert first.left == {"pending": 2}
    assert {t.ordered[0].opened.trial.replicate for t in place.trials()} == {1}
    assert first.answer is not None
    assert [row.n_done for row in first.answer.arms] == [1, 1]
    again = place.run(made, shard=Shard(2, 2))
    assert again.tally is None
    assert place.said[-1] == "nothing to run: all 2 trials of this shard are there"
    last = place.run(made, shard=Shard(1, 2))
    assert last.left == {}
    assert last.answer is not None
    assert [row.n_done for row in last.answer.arms] == [2, 2]
    assert len(place.trials()) == 4
    assert {len(t.attempts) for t in place.trials()} == {1}
    whole = place.run(made)
    assert whole.tally is None, "and a run without shards finds everything there"


def test_what_a_lost_shard_left_is_run_without_shard(tmp_path):
    place = Place(tmp_path)
    made = place.study()
    place.run(made, shard=Shard(1, 3))
    result = place.run(made)
    assert result.exit_code == 0
    assert result.tally is not None
    assert len(result.tally.ended) == 3
    assert {t.state for t in place.trials()} == {"done"}


def test_a_shard_without_trials_has_nothing_to_do(tmp_path):
    place = Place(tmp_path)
    shares = [Shard(i, 9).share(trials(2, 2)) for i in range(1, 10)]
    empty = next(i for i, share in enumerate(shares, 1) if not share)
    result = place.run(place.study(), shard=Shard(empty, 9))
    assert result.exit_code == 0
    assert place.trials() == []


def test_each_shard_reruns_its_own_stale_trials(tmp_path, monkeypatch: pytest.MonkeyPatch):
    place = Place(tmp_path)
    made = place.study()
    place.run(made)
    original = stub.fingerprints
    monkeypatch.setattr(
        stub,
        "fingerprints",
        lambda recipe, protocol: original(recipe, protocol).model_copy(update={"code": "new"}),
    )
    place.run(made, shard=Shard(1, 2), rerun_stale=True)
    assert sorted(len(t.attempts) for t in place.trials()) == [1, 1, 2, 2]
    place.run(made, shard=Shard(2, 2), rerun_stale=True)
    assert sorted(len(t.attempts) for t in place.trials()) == [2, 2, 2, 2]


def test_a_shard_answers_from_what_the_others_ran_again(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Data changed: the other shard's new results have keys that this one's first plan lacks."""
    place = Place(tmp_path)
    made = place.study(STUB.replace("testing.stub", "testing.stub_measured"))
    place.run(made)
    monkeypatch.setenv("STUB_DATA", "newer")

    class OtherEndsMeanwhile(InlineExecutor):
        def run(self, jobs, on_event, stop) -> None:
            super().run(jobs, on_event, stop)
            other = place.run(made, shard=Shard(2, 2), rerun_stale=True)
            assert other.exit_code == 0

    last = place.run(made, shard=Shard(1, 2), rerun_stale=True, executor=OtherEndsMeanwhile())
    assert last.left == {}
    assert last.answer is not None
    rows = [row for row in last.answer.arms if row.kind == "arm"]
    assert [row.n_done for row in rows] == [2, 2]
    history = place.history()
    keys = {key for row in rows for key in row.keys.values()}
    assert {history.trials[key].ordered[0].opened.trial.data for key in keys} == {"newer"}
    planned = history.latest_plan("demo")
    assert planned is not None
    assert keys <= {t.key for t in planned.trials}, "status counts them too"


def test_hours_of_a_budget_are_those_of_the_shard(tmp_path):
    place = Place(tmp_path)
    place.run(place.study())
    more = STUB.replace("replicates: 2", "replicates: 8")
    planned = make_plan(
        OpenedStudy(place.study(more), place.workspace, history=place.history()), parallel=1
    )
    assert planned.cost.hours

    def within(share: float):
        return place.study(f"{more}budget: {{{{hours: {share * planned.cost.hours}}}}}\n")

    one_at_a_time = {"parallel": 1}
    with pytest.raises(BudgetError, match="with 12 trials to run"):
        place.run(within(0.9), **one_at_a_time)
    half = Shard(2, 2)  # 8 of the 12 that are missing
    with pytest.raises(BudgetError, match="with 8 trials to run"):
        place.run(within(0.6), shard=half, **one_at_a_time)
    assert place.run(within(0.7), shard=half, **one_at_a_time).exit_code == 0
    assert not [line for line in place.said if "over budget" in line]
