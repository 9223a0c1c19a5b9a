"""Task mixture: which rows of which update are T2I, over the whole of training.

Every answer is a function of the cycle and of one uniform that all arms of a replicate share, so it
survives a resume and does not depend on who asks, or in which order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from recipes.data.settings import Mixing, Ramp, TaskName

GOLDEN = (math.sqrt(5) - 1) / 2
GRID = 2**20
"""Starts of the exact sequence lie on a grid, so that its sums are exact too."""


@dataclass(frozen=True)
class Stretch:
    """A part of training, [begin, end] in progress, with the T2I share at its two ends."""

    begin: Fraction
    end: Fraction
    first: Fraction
    last: Fraction

    def share(self, progress: Fraction) -> Fraction:
        """T2I share inside the stretch."""
        slope = (self.last - self.first) / (self.end - self.begin)
        return self.first + slope * (progress - self.begin)

    def integral(self, progress: Fraction) -> Fraction:
        """Integral of the T2I share from the stretch's begin to `progress`, within it."""
        where = min(max(progress, self.begin), self.end)
        return (self.first + self.share(where)) / 2 * (where - self.begin)


class Mixture:
    """The T2I share over training, and how rows realise it.

    Args:
        t2i: T2I share of `tasks`.
        mixing: how it is realised.
        budget: updates asked for, before `count: t2i` extends them.

    Raises:
        ValueError: a fixed T2I count without any T2I.
    """

    def __init__(self, t2i: float, mixing: Mixing, budget: int) -> None:
        self.exact = mixing.count == "t2i"
        # Shares are rounded to twelve digits: 0.333333333333 means 1/3, or 3 x 40 cycles were 121.
        self.stretches = _stretches(Fraction(repr(t2i)).limit_denominator(10**6), mixing)
        self.mean = self._integral(Fraction(1))
        if self.exact and self.mean == 0:
            raise ValueError("mixing.count: t2i needs a T2I share above 0 somewhere in training")
        self.cycles = math.ceil(budget / self.mean) if self.exact else budget
        """Cycles of the whole training."""
        self.updates = Fraction(budget) if self.exact else budget * self.mean
        """T2I updates in it: the budget itself, or its T2I share."""

    @property
    def edits(self) -> bool:
        """Whether any update edits."""
        return any(min(s.first, s.last) < 1 for s in self.stretches)

    @property
    def tasks(self) -> tuple[TaskName, ...]:
        """Tasks that any update is of."""
        t2i: tuple[TaskName, ...] = ("t2i",) if self.mean > 0 else ()
        return (*t2i, "edit") if self.edits else t2i

    def share(self, cycle: int) -> float:
        """T2I share in force at a cycle; before the first and after the last, that of the ends."""
        progress = min(Fraction(max(cycle, 0), self.cycles), Fraction(1))
        inside = (s for s in self.stretches if progress < s.end)
        return float(next(inside, self.stretches[-1]).share(progress))

    def is_t2i(self, start: float, cycle: int) -> bool:
        """Whether a micro-batch of one task is T2I.

        A golden-ratio sequence with start `start` in [0, 1) is compared with the share, so that a
        wider share only adds micro-batches. For a fixed count, where arms differ in length anyway,
        the T2I updates are counted off exactly instead.
        """
        if self.exact:
            return self.t2i_rows(start, cycle, 1) == 1
        # Independent uniforms would realise a share of 0.5 over 30 cycles with a standard deviation
        # of 0.09. This keeps it within two micro-batches and is still one uniform a micro-batch,
        # shared by all arms. The price: the tasks are periodic enough to correlate with anything of
        # a period of 1.6 cycles.
        return (start + cycle * GOLDEN) % 1.0 < self.share(cycle)

    def t2i_rows(self, start: float, cycle: int, size: int) -> int:
        """T2I rows of an update of `size` rows.

        With Q(c) rows due after c cycles, the update gets floor(Q(c+1) + start) - floor(Q(c) +
        start): after any number of cycles the rows given differ from those due by less than one.
        """
        # Exact at every length; the price is that arms of different shares no longer nest.
        begin = Fraction(math.floor(start * GRID), GRID)
        before, after = (size * self._due(c) + begin for c in (cycle, cycle + 1))
        return math.floor(after) - math.floor(before)

    def _due(self, cycle: int) -> Fraction:
        """T2I updates due after some cycles; before the first, the share of the start holds."""
        if self.mean == 0:
            return Fraction(0)
        progress = Fraction(cycle, self.cycles)
        whole = self._integral(progress) if cycle >= 0 else progress * self.stretches[0].first
        return self.updates * whole / self.mean

    def _integral(self, progress: Fraction) -> Fraction:
        return sum((s.integral(progress) for s in self.stretches), Fraction(0))


@lru_cache(maxsize=256)  # exact fractions are slow, and a plan makes the same mixture many times
def mixture_of(t2i: float, mixing: Mixing, budget: int) -> Mixture:
    """The mixture of a T2I share and settings; see `Mixture`."""
    return Mixture(t2i, mixing, budget)


def _stretches(usual: Fraction, mixing: Mixing) -> tuple[Stretch, ...]:
    def t2i(edit: float | None) -> Fraction:
        return usual if edit is None else 1 - Fraction(repr(edit))

    zero, one = Fraction(0), Fraction(1)
    schedule = mixing.schedule
    if schedule is None:
        return (Stretch(zero, one, usual, usual),)
    if isinstance(schedule, Ramp):
        return (Stretch(zero, one, t2i(schedule.start), t2i(schedule.end)),)
    ends = [Fraction(repr(piece.until)) for piece in schedule]
    shares = [t2i(piece.edit) for piece in schedule]
    rows = zip([zero, *ends[:-1]], ends, shares, strict=True)
    return tuple(Stretch(begin, end, share, share) for begin, end, share in rows)
