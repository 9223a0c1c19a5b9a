"""Prompts as clusters of items: what a claim over new prompts counts as one draw.

Items of one prompt are not independent: on the toy world their CLIP cosines correlate .28 to .59,
so 192 items of a category tell little more than its 10 to 13 distinct prompts. A picture's prompt
is its text. An edit's is its case: the instruction together with what it starts from and should
arrive at, because "make it night" on two pictures is two cases.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from evaluation.items import Item

if TYPE_CHECKING:
    import pandas as pd

ARROW = " -> "


def prompt_of(item: Item) -> str:
    """The prompt or edit case that an item is drawn from; items of equal text are one cluster.

    An edit without captions is told by the source that its `detail` names; without that either,
    every item is a case of its own.
    """
    if item.task == "t2i":
        return item.prompt
    if item.source_caption or item.target_caption:
        ends = (item.source_caption or "", item.target_caption or "")
        return ARROW.join((ends[0], item.prompt, ends[1]))
    source = item.detail.get("source")
    if source is not None:
        named = source if isinstance(source, str) else json.dumps(source, sort_keys=True)
        return ARROW.join((named, item.prompt))
    return ARROW.join((item.item_id, item.prompt))


def prompts_of_rows(table: pd.DataFrame, items: Iterable[Item]) -> pd.Series[str]:
    """The prompt of each row of an items table, by its item id, with the table's index.

    Args:
        table: with columns item_id and prompt.
        items: the item set that was measured; an item that is not in it counts by its text, an edit
            among them by its id.
    """
    known = {item.item_id: prompt_of(item) for item in items}
    text = table["prompt"].where(table["task"] == "t2i", table["item_id"])
    return table["item_id"].map(known).fillna(text).astype(str)
