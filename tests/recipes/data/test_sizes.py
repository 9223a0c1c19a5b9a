"""Set size and budget: seats by share, nested growth, epochs as cycles, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from recipes.data.sizes import distinct_prompts, divided, wanted
from recipes.recipe import Recipe
from recipes.toyworld.prompts import CATEGORIES, prompts

shares = st.lists(st.integers(1, 999), min_size=1, max_size=6).map(
    lambda ws: {f"s{i}": round(w / sum(ws), 12) for i, w in enumerate(ws)}
)


@settings(max_examples=100, deadline=None)
@given(shares, st.integers(1, 400))
def test_seats_are_webster_s_and_only_grow(shares: dict[str, float], size: int):
    found = divided(size, shares)
    assert sum(found.values()) == size
    plain = dict.fromkeys(shares, 0)  # one seat at a time, to the largest share / (2 seats + 1)
    for _ in range(size):
        best = max(shares, key=lambda n: (shares[n] / (2 * plain[n] + 1), -int(n[1:])))
        plain[best] += 1
    if len(set(shares.values())) == len(shares):  # ties are settled by exact fractions
        assert found == plain
    more = divided(size + 1, shares)
    assert all(more[name] >= found[name] for name in shares)


def _recipe(**fields) -> Recipe:
    return Recipe.model_validate(fields)


def test_size_and_composition_vary_apart():
    three = {"landscape": 2, "portrait": 1, "text": 1}
    fixed = _recipe(data={"composition": three, "size": 40}).data
    each = _recipe(data={"composition": three, "size": 40, "total": "per_source"}).data
    assert wanted(fixed) == {"landscape": 20, "portrait": 10, "text": 10}
    assert wanted(each) == {"landscape": 40, "portrait": 40, "text": 40}
    assert (distinct_prompts(fixed), distinct_prompts(each)) == (40, 120)


def test_all_prompts_are_taken_without_a_size():
    data = _recipe().data
    assert wanted(data) is None
    assert distinct_prompts(data) == sum(len(prompts(c, "train")) for c in CATEGORIES)


@pytest.mark.parametrize(
    ("data", "cycles"),
    [
        ({"size": 48}, 9),  # 3 x 48 = 144 samples in batches of 16
        ({"size": 49}, 10),
        ({"size": 48, "total": "per_source"}, 27),
        ({"size": 48, "total": "per_source", "composition": {"text": 1}}, 9),
    ],
)
def test_epochs_are_cycles(data: dict, cycles: int):
    train = {"epochs": 3, "cycles": 7, "batch_size": 16}
    assert _recipe(data=data, train=train).total_cycles == cycles
    assert _recipe(data=data, train={**train, "epochs": None}).total_cycles == 7


def test_epochs_of_t2i_prompts_extend_with_the_edit_share():
    fields = {"data": {"size": 48}, "train": {"epochs": 3, "batch_size": 16}}
    whole = _recipe(**fields, tasks={"t2i": 1, "edit": 3}, mixing={"count": "t2i"})
    assert whole.total_cycles == 36


FILE = {"mine": {"kind": "files", "path": "prompts.jsonl"}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": {"size": 2}}, "leaves no prompt"),
        ({"data": {"size": 1000}}, "which has"),
        ({"data": {"size": 100, "total": "per_source"}}, "which has"),
        ({"data": {"composition": {"lanscape": 1}}}, "did you mean 'landscape'"),
        ({"data": {"edit_types": {"styles": 1}}}, "did you mean 'style'"),
        ({"data": {"sources": {"text": FILE["mine"]}}}, "rename"),
        ({"data": {"sources": FILE, "edit_types": {"mine": 1}}}, "unknown edit source"),
        (
            {
                "data": {"sources": FILE, "composition": {"mine": 1}},
                "train": {"epochs": 1},
            },
            "set data.size",
        ),
        ({"data": {"sources": {"x": {"kind": "toyworld", "category": "txt"}}}}, "'text'"),
        ({"data": {"sources": {"x": {"kind": "folder"}}}}, "kind"),
        ({"data": {"sources": {"x": FILE["mine"] | {"columns": {"mask": "m"}}}}}, "edit only"),
        ({"tasks": {"t2i": 1, "edit": 1e6}, "mixing": {"count": "t2i"}}, "at most 1,000,000"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        _recipe(**fields)


def test_epochs_of_a_file_with_a_size_need_no_file():
    data = {"sources": FILE, "composition": {"mine": 3, "text": 1}, "size": 64}
    recipe = _recipe(data=data, train={"epochs": 2, "batch_size": 16})
    assert recipe.total_cycles == 8
