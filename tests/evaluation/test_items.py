"""Items and noise: hashes, seeds, and independence of batch size and order."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from evaluation.items import Item, check_items, item_set_hash, noise, noise_seed

ITEMS = [
    Item(item_id=f"a-{i}", task="t2i", category="a", prompt=f"p{i}", detail={"n": i})
    for i in range(5)
]


def test_hash_ignores_order_and_sees_every_field() -> None:
    before = item_set_hash(ITEMS)
    assert item_set_hash(ITEMS[::-1]) == before
    for change in ({"prompt": "x"}, {"category": "b"}, {"detail": {"n": 9}}, {"item_id": "z"}):
        changed = [ITEMS[0].model_copy(update=change), *ITEMS[1:]]
        assert item_set_hash(changed) != before


def test_hash_is_the_one_recorded() -> None:
    """Guards against a silent change of the canonical form: recorded fingerprints hang on it."""
    item = Item(item_id="a-0", task="t2i", category="a", prompt="p")
    recorded = "cc1ff541ba166187ea06d3970078cf1d361e34c47863650dddc278c913c042ba"
    assert item_set_hash([item]) == recorded


def test_ids_must_be_unique_and_printable() -> None:
    with pytest.raises(ValueError, match="repeated: a-0"):
        check_items([*ITEMS, ITEMS[0]])
    with pytest.raises(ValidationError):
        Item(item_id="a#1", task="t2i", category="a", prompt="p")
    with pytest.raises(ValueError, match="empty"):
        check_items([])


def test_seed_is_the_one_recorded() -> None:
    assert noise_seed("toyworld-v1", "text-0", 0) == 9936096440535919200


def test_seeds_differ_in_each_part() -> None:
    names = [("p-v1", "a", 0), ("p-v2", "a", 0), ("p-v1", "b", 0), ("p-v1", "a", 1)]
    # Joined strings would confuse these two.
    names += [("p", "a1", 1), ("p", "a", 11)]
    assert len({noise_seed(*name) for name in names}) == len(names)
    with pytest.raises(ValueError, match="draw"):
        noise_seed("p", "a", -1)


def test_noise_depends_on_nothing_but_protocol_item_and_draw() -> None:
    ids, draws = [f"i{n}" for n in range(8)], [0, 1, 0, 0, 2, 0, 0, 1]
    whole = noise("p-v1", ids, draws, (4, 3, 3))
    assert whole.shape == (8, 4, 3, 3)
    assert whole.dtype == torch.float32
    torch.manual_seed(123)
    single = torch.cat(
        [noise("p-v1", [i], [d], (4, 3, 3)) for i, d in zip(ids, draws, strict=True)]
    )
    assert torch.equal(whole, single)
    order = [5, 2, 7, 0]
    shuffled = noise("p-v1", [ids[o] for o in order], [draws[o] for o in order], (4, 3, 3))
    assert torch.equal(shuffled, whole[order])
    ranks = [noise("p-v1", ids[r::2], draws[r::2], (4, 3, 3)) for r in (0, 1)]
    assert torch.equal(torch.stack(ranks, 1).flatten(0, 1), whole)


def test_noise_leaves_the_global_generator_alone_and_is_standard_normal() -> None:
    state = torch.get_rng_state()
    many = noise("p-v1", [f"i{n}" for n in range(200)], [0] * 200, (100,)).double()
    assert torch.equal(torch.get_rng_state(), state)
    assert abs(float(many.mean())) < 4 / 20_000**0.5
    assert float(many.std()) == pytest.approx(1, abs=0.02)
    correlation = torch.corrcoef(many).fill_diagonal_(0)
    assert float(correlation.abs().max()) < 0.55


def test_one_draw_per_item() -> None:
    with pytest.raises(ValueError, match="2 items but 1 draws"):
        noise("p-v1", ["a", "b"], [0], (3,))
