"""Sizes: how many distinct prompts each source gives, and how many cycles an epoch is.

Arithmetic on the recipe alone, so that a plan knows a trial's length without opening a file.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from fractions import Fraction

from recipes.data.settings import Data, WorldSource
from recipes.toyworld.prompts import prompts


def wanted(data: Data) -> dict[str, int] | None:
    """Prompts to take from each source of `composition`; None where all are taken.

    Raises:
        ValueError: `size` leaves a source without a prompt.
    """
    if data.size is None:
        return None
    if data.total == "per_source":
        return dict.fromkeys(data.composition, data.size)
    counts = divided(data.size, data.composition)
    empty = [name for name, count in counts.items() if count == 0]
    if empty:
        raise ValueError(
            f"size={data.size} leaves no prompt for {empty} at its share; give more, or total: "
            "per_source"
        )
    return counts


def divided(size: int, shares: Mapping[str, float]) -> dict[str, int]:
    """A number of seats divided by shares (Webster, Sainte-Lague): no source loses by growth.

    That makes subsets nested; the method of largest remainders can take a seat away when the
    number of seats grows.
    """
    exact = {name: Fraction(repr(share)) for name, share in shares.items()}
    start = max(size - len(shares), 0)  # rounding at this divisor gives fewer than `size` seats
    seats = {name: math.floor(start * share + Fraction(1, 2)) for name, share in exact.items()}
    order = {name: place for place, name in enumerate(shares)}
    queue = [(-exact[n] / (2 * seats[n] + 1), order[n], n) for n in shares]
    heapq.heapify(queue)
    for _ in range(size - sum(seats.values())):
        name = queue[0][2]
        seats[name] += 1
        heapq.heapreplace(queue, (-exact[name] / (2 * seats[name] + 1), order[name], name))
    return seats


def refuse_small_pools(data: Data) -> None:
    """Refuse a set larger than what the toy world can say; files are counted when they are read.

    Raises:
        ValueError: with the source and how many prompts it has.
    """
    for name, count in (wanted(data) or {}).items():
        origin = data.origin("t2i", name)
        if isinstance(origin, WorldSource):
            refuse_short(name, count, len(prompts(origin.category, "train")))


def refuse_short(name: str, wanted: int, there: int) -> None:
    """Refuse a source that has fewer prompts than the set takes from it.

    Raises:
        ValueError: with both numbers.
    """
    if wanted > there:
        raise ValueError(
            f"data.size takes {wanted} prompts of {name!r}, which has {there}; give a smaller size"
        )


def distinct_prompts(data: Data) -> int:
    """Distinct T2I prompts of a trial.

    Raises:
        ValueError: all rows of a file are asked for, whose number the recipe does not say.
    """
    counts = wanted(data)
    if counts is not None:
        return sum(counts.values())
    total = 0
    for name in data.composition:
        origin = data.origin("t2i", name)
        if not isinstance(origin, WorldSource):
            raise ValueError(
                f"train.epochs needs to know how many prompts there are: set data.size (source "
                f"{name!r} is a file)"
            )
        total += len(prompts(origin.category, "train"))
    return total


def cycles_of_epochs(epochs: float, data: Data, batch_size: int) -> int:
    """Cycles in which as many samples are drawn as `epochs` passes over the prompts hold.

    A cycle has one student update; samples are drawn with replacement, so an epoch is a budget.
    With `mixing.count: t2i` it counts T2I samples and is the mean number of times that a prompt
    comes; with `total` edits use it up too, so that arms of other task shares stay as long.
    """
    samples = Fraction(repr(epochs)) * distinct_prompts(data)
    return max(1, math.ceil(samples / batch_size))
