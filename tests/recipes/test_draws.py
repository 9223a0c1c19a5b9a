"""Seed streams of training: pairing between arms, realised mixtures, batch independence."""

from __future__ import annotations

import pytest
import torch

from harness.journal.seeds import stream_for
from recipes.data.draws import Draws, pick
from recipes.data.settings import Data
from recipes.data.sizes import wanted
from recipes.recipe import Recipe
from tests.recipes.tiny import SHAPE, TinySource


def _draws(replicate: int = 0, **fields) -> Draws:
    recipe = Recipe.model_validate({"train": {"batch_size": 8}, **fields})
    return Draws(recipe, TinySource(), SHAPE, stream_for(replicate))


def test_more_fake_updates_do_not_shift_other_draws():
    few = _draws(objective={"fake_updates": 1}).batch("student", 5, 0)
    many = _draws(objective={"fake_updates": 9}).batch("student", 5, 0)
    assert torch.equal(few.noise_BCHW, many.noise_BCHW)
    assert torch.equal(few.condition.text_BLD, many.condition.text_BLD)


def test_arms_of_a_replicate_share_noise_and_levels_whatever_their_mixture():
    a = _draws(tasks={"t2i": 1.0}).batch("fake", 3, 2)
    b = _draws(tasks={"edit": 1.0}).batch("fake", 3, 2)
    assert a.task == "t2i"
    assert b.task == "edit"
    assert torch.equal(a.noise_BCHW, b.noise_BCHW)
    assert torch.equal(a.renoise_t_B, b.renoise_t_B)


def test_replicates_and_samples_differ():
    a, b = (_draws(r).batch("student", 0, 0) for r in (0, 1))
    assert not torch.equal(a.noise_BCHW, b.noise_BCHW)
    assert len({tuple(row.flatten().tolist()) for row in a.noise_BCHW}) == 8


def test_a_wider_share_only_adds_micro_batches_of_the_task():
    low = [_draws(tasks={"t2i": 0.3, "edit": 0.7}).task("student", c, 0) for c in range(60)]
    high = [_draws(tasks={"t2i": 0.6, "edit": 0.4}).task("student", c, 0) for c in range(60)]
    assert all(h == "t2i" for less, h in zip(low, high, strict=True) if less == "t2i")


@pytest.mark.parametrize("replicate", range(5))
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_realised_task_share_is_near_the_nominal_one(replicate: int, share: float):
    draws = _draws(replicate, tasks={"t2i": 1 - share, "edit": share})
    tasks = [draws.task("student", c, 0) for c in range(40)]
    assert abs(tasks.count("edit") / 40 - share) <= 2 / 40


def test_realised_composition_is_logged():
    draws = _draws(data={"composition": {"portrait": 3, "text": 1}}, tasks={"t2i": 1})
    for cycle in range(50):
        draws.batch("student", cycle, 0)
    shares = draws.shares()
    assert shares["t2i"] == 1
    assert shares["t2i.portrait"] == pytest.approx(0.75, abs=0.08)
    assert "t2i.landscape" not in shares


def test_pick_follows_the_shares():
    shares = {"a": 0.2, "b": 0.8}
    assert [pick(shares, u) for u in (0.0, 0.19, 0.2, 0.999, 1.0)] == ["a", "a", "b", "b", "b"]


def test_draws_do_not_depend_on_the_order_in_which_shares_are_written():
    sources = {
        "zebra": {"kind": "toyworld", "category": "text"},
        "apple": {"kind": "toyworld", "category": "portrait"},
    }
    shares = {"zebra": 1, "portrait": 1, "apple": 1, "landscape": 1}
    orders = [dict(shares), dict(reversed(shares.items()))]
    made = [Data.model_validate({"sources": sources, "composition": c}) for c in orders]
    assert [list(data.composition) for data in made] == [
        ["landscape", "portrait", "apple", "zebra"]
    ] * 2
    assert wanted(made[0].model_copy(update={"size": 5})) == wanted(
        made[1].model_copy(update={"size": 5})
    )
    first, second = (
        _draws(data={"sources": sources, "composition": c, "edit_types": e})
        for c, e in zip(orders, ({"style": 1, "scene": 1}, {"scene": 1, "style": 1}), strict=True)
    )
    for cycle in range(8):
        first.batch("student", cycle, 0)
        second.batch("student", cycle, 0)
        assert first.realised == second.realised
