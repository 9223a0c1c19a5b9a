"""Prompts as clusters: which items are one draw."""

from __future__ import annotations

import pandas as pd

from evaluation.clusters import prompt_of, prompts_of_rows
from evaluation.items import Item
from evaluation.protocol import load_protocol


def edit(name: str, **fields: object) -> Item:
    known = {"item_id": name, "task": "edit", "category": "scene", "prompt": "make it night"}
    return Item.model_validate(known | fields)


def test_a_picture_is_told_by_its_text() -> None:
    first = Item(item_id="a", task="t2i", category="sign", prompt="a red sign")
    again = Item(item_id="b", task="t2i", category="sign", prompt="a red sign")
    assert prompt_of(first) == prompt_of(again) == "a red sign"


def test_an_edit_is_told_by_its_case() -> None:
    by_day = edit("a", source_caption="a hill by day", target_caption="a hill at night")
    at_sea = edit("b", source_caption="the sea by day", target_caption="the sea at night")
    assert prompt_of(by_day) != prompt_of(at_sea)
    assert prompt_of(by_day) == prompt_of(by_day.model_copy(update={"item_id": "c"}))


def test_an_edit_without_captions_is_told_by_its_source_then_by_itself() -> None:
    named = [edit(name, detail={"source": f"{name}.png"}) for name in "ab"]
    assert prompt_of(named[0]) == "a.png -> make it night"
    assert len({prompt_of(item) for item in named}) == 2
    assert len({prompt_of(edit(name)) for name in "ab"}) == 2


def test_toy_world_has_few_prompts() -> None:
    prompts: dict[tuple[str, str], set[str]] = {}
    for item in load_protocol("toyworld-v1").load_items():
        prompts.setdefault((item.task, item.category), set()).add(prompt_of(item))
    assert {key: len(found) for key, found in prompts.items()} == {
        ("t2i", "landscape"): 10,
        ("t2i", "portrait"): 11,
        ("t2i", "text"): 13,
        ("edit", "scene"): 20,
        ("edit", "enhance"): 48,
        ("edit", "object"): 30,
        ("edit", "text"): 48,
        ("edit", "identity"): 48,
        ("edit", "style"): 48,
    }


def test_rows_of_a_table_find_their_prompts() -> None:
    items = [
        Item(item_id="a", task="t2i", category="sign", prompt="a red sign"),
        edit("e", source_caption="a hill by day", target_caption="a hill at night"),
    ]
    table = pd.DataFrame(
        {
            "item_id": ["a", "e", "old", "gone"],
            "task": ["t2i", "edit", "t2i", "edit"],
            "prompt": ["a red sign", "make it night", "a blue sign", "make it night"],
        },
        index=[3, 1, 2, 7],
    )
    found = prompts_of_rows(table, items)
    assert found.tolist() == ["a red sign", prompt_of(items[1]), "a blue sign", "gone"]
    assert found.index.tolist() == [3, 1, 2, 7]
