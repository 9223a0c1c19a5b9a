"""Planned verdicts decided together: intervals that agree with their p, and with margins.

Every planned contrast gets an interval at 1 - alpha/m, m being the contrasts planned. Those wholly
beyond their margin (beyond 0 where none is declared) are decided and leave; the rest get intervals
at 1 - alpha/(number left), until nobody leaves. Each verdict is read off the contrast's last
interval, which is the one that is printed; the printed p is the number left at that step times p.

Without margins this is Holm (1979) exactly. "Equivalent" must not leave: at a true difference of 0
it is a likely and correct exit, while the null of no difference is still at risk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.analysis.model import VerdictName


@dataclass(frozen=True)
class Reading:
    """What a contrast says at one error rate."""

    verdict: VerdictName
    lo: float | None = None
    hi: float | None = None
    leaves: bool = False
    """Whether the verdict rejects the contrast's null, so that the others get its error rate."""
    members: tuple[str, ...] = ()
    """Kind `best`: levels that may be the best."""
    step: int | None = None
    """Kind `collapse`: the cycle from which most is lost."""
    vetoed: VerdictName | None = None
    """The verdict that would stand, had the winner not diverged."""


class Member(Protocol):
    """A planned contrast as the step-down sees it."""

    def at(self, alpha: float) -> Reading:
        """Its verdict and interval at 1 - alpha."""
        ...

    @property
    def p(self) -> float | None:
        """The error rate at which its null is first rejected; None where it never can be."""
        ...


@dataclass(frozen=True)
class Decided:
    """A member's last reading."""

    reading: Reading
    left: int
    """Contrasts that were left when it was read, itself included: the factor of its p."""


def step_down(members: Sequence[Member], alpha: float, family: int | None = None) -> list[Decided]:
    """The members' last readings, in their order.

    Args:
        members: the planned contrasts.
        alpha: error rate of the family.
        family: how many contrasts were planned, where some have been taken out since; these never
            leave. Default: the members.
    """
    # Who was taken out since the first run still counts, or leaving out the weak ones would widen
    # the share of the others.
    left = max(len(members), family or 0)
    decided: dict[int, Decided] = {}
    while True:
        open_ = [i for i in range(len(members)) if i not in decided]
        readings = {i: members[i].at(alpha / left) for i in open_}
        leaving = [i for i in open_ if readings[i].leaves]
        decided |= {i: Decided(readings[i], left) for i in leaving}
        if not leaving or len(leaving) == len(open_):
            decided |= {i: Decided(readings[i], left) for i in open_}
            return [decided[i] for i in range(len(members))]
        left -= len(leaving)


def verdict_of(
    interval: tuple[float, float] | None, margin: float | None, higher_is_better: bool | None
) -> Reading:
    """The verdict table, rows read from the top.

    | interval | verdict |
    |---|---|
    | inside the margin | equivalent |
    | beyond 0 and beyond the margin | improves / harms |
    | beyond 0, straddling the margin | improves / harms (size unsettled) |
    | otherwise | undecided |

    Without a margin (None or 0) nothing is equivalent, and what is beyond 0 is beyond the margin. A
    metric without a better direction can be equivalent, but neither improves nor harms.
    """
    if interval is None:
        return Reading("undecided")
    lo, hi = interval
    within = margin or 0.0
    if within and -within <= lo and hi <= within:
        return Reading("equivalent", lo, hi)
    if lo <= 0.0 <= hi:
        return Reading("undecided", lo, hi)
    beyond = lo > within or hi < -within
    if higher_is_better is None:
        return Reading("undecided", lo, hi, beyond)
    if (lo > 0) == higher_is_better:
        verdict: VerdictName = "improves" if beyond else "improves (size unsettled)"
    else:
        verdict = "harms" if beyond else "harms (size unsettled)"
    return Reading(verdict, lo, hi, beyond)
