"""Items (a prompt or an edit case), the hash of an item set, and the evaluation noise of a draw.

The noise of a sample is a function of (protocol id, item id, draw) alone, so that batch size, rank
count and order do not matter, and every student measured under a protocol starts from the same
noise. Torch is imported only where noise is made.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, Field, JsonValue

if TYPE_CHECKING:
    from torch import Tensor

Task = Literal["t2i", "edit"]


class Item(BaseModel):
    """One prompt or one edit case, as plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item_id: str = Field(
        min_length=1,
        pattern=r"^[^#\s]+$",
        description="Unique name inside the item set; no whitespace, no '#'.",
    )
    task: Task = Field(
        description="t2i: picture from a prompt; edit: source picture and instruction."
    )
    category: str = Field(min_length=1, description="Prompt category, or edit type.")
    prompt: str = Field(description="The caption, or for an edit the instruction.")
    source_caption: str | None = Field(
        default=None, description="Edits: caption of the source picture, for direction similarity."
    )
    target_caption: str | None = Field(
        default=None, description="Edits: caption of the picture asked for."
    )
    detail: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Whatever the item set needs to rebuild its own objects; plain JSON.",
    )


def check_items(items: Sequence[Item]) -> tuple[Item, ...]:
    """Return the items as a tuple.

    Raises:
        ValueError: there is no item, or two items share an id.
    """
    if not items:
        raise ValueError("the item set is empty; check the counts in the protocol file")
    repeated = [name for name, count in Counter(i.item_id for i in items).items() if count > 1]
    if repeated:
        raise ValueError(f"item ids must be unique; repeated: {', '.join(sorted(repeated)[:5])}")
    return tuple(items)


def item_set_hash(items: Sequence[Item]) -> str:
    """Sha256 (hex) over the canonical JSON (RFC 8785) of all items, in the order of their ids."""
    ordered = sorted(check_items(items), key=lambda item: item.item_id)
    return hashlib.sha256(
        rfc8785.dumps([item.model_dump(mode="json") for item in ordered])
    ).hexdigest()


def noise_seed(protocol_id: str, item_id: str, draw: int) -> int:
    """The 64-bit seed of one sample: blake2b over (protocol name and version, item, draw).

    Raises:
        ValueError: `draw` is negative.
    """
    if draw < 0:
        raise ValueError(f"{draw=} must be 0 or more")
    # A list in canonical JSON cannot be read two ways, as joined strings could.
    name = rfc8785.dumps([protocol_id, item_id, draw])
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")


def noise(
    protocol_id: str, item_ids: Sequence[str], draws: Sequence[int], shape: Sequence[int]
) -> Tensor:
    """Standard normal noise, one row per (item, draw), each from a generator of its own.

    Torch's CPU generator keeps the low 32 bits of a seed only, so two of 1,000 samples share their
    noise with probability 1e-4.

    Args:
        protocol_id: name and version, such as `toyworld-v1`.
        item_ids: B item ids.
        draws: B draw indices, each 0 or more.
        shape: shape of one sample, such as (48, 3, 3).

    Returns:
        float32 on the CPU, (B, *shape).

    Raises:
        ValueError: the two sequences differ in length.
    """
    import torch

    if len(item_ids) != len(draws):
        raise ValueError(f"{len(item_ids)} items but {len(draws)} draws; give one draw per item")
    noise_B = torch.empty((len(item_ids), *shape), dtype=torch.float32)
    for row, (item_id, draw) in enumerate(zip(item_ids, draws, strict=True)):
        generator = torch.Generator(device="cpu").manual_seed(
            noise_seed(protocol_id, item_id, draw)
        )
        noise_B[row] = torch.randn(tuple(shape), generator=generator)
    return noise_B
