"""Looks at an unfinished study: which planned contrasts are decided, which need more replicates.

A look after n complete replicates tests a contrast whose share of alpha is a at the level that
`Spending.level(n, a)` gives. The step-down over contrasts is that of a finished study. Each
contrast is read on the replicates of its own last look, so one function says what is decided now
and, at the end, what was decided when: levels only grow as others leave, so whoever left once
leaves again.

Two more things end a contrast: it is *futile* (from half of the replicates on a p above `FUTILE`,
and nothing inside a margin in sight), or *prompt-bound* (the part of its half-width that stems from
prompts alone exceeds what a verdict allows, at every difference that its replicates leave
possible). Neither can make a wrong verdict more frequent: whoever goes on all the same is covered.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.analysis.estimated_contrasts import EstimatedContrast
from harness.analysis.inference import Estimated, t_quantile
from harness.analysis.kinds import Collapse, Linear
from harness.analysis.step_down import Decided, Reading, step_down
from harness.journal.records import LookOutcome, OutcomeState, Spending
from harness.planning.plan import Plan

FUTILE = 0.4
"""Unadjusted p above which a contrast is given up, from half of the replicates on."""
HOPE = 0.05
"""Error rate of the differences that count as possible where prompts are said to bind."""


class Looked(Protocol):
    """A planned contrast, of whatever kind, on the replicates of its last look."""

    @property
    def p(self) -> float | None:
        """Two-sided, adjusted for nothing; None where there is no interval."""
        ...

    def at(self, alpha: float) -> Reading:
        """Its verdict and interval at 1 - alpha."""
        ...


@dataclass(frozen=True)
class AtLook:
    """A member of the step-down that is tested at each look: alpha is its error rate over all."""

    member: Looked
    replicates: int
    """Those of its last look."""
    spending: Spending

    def at(self, alpha: float) -> Reading:
        """Its verdict and interval at the level of its look."""
        return self.member.at(self.spending.level(self.replicates, alpha))

    @property
    def p(self) -> float | None:
        """Corrected for looking: the error rate over all looks at which it is just decided."""
        p = self.member.p
        return None if p is None else self.spending.alpha_of(self.replicates, p)


def decide(members: Mapping[str, AtLook], alpha: float, family: int) -> dict[str, Decided]:
    """The last reading of every planned contrast, each at the level of its own last look.

    Args:
        members: contrast to what it says on the replicates of its last look.
        alpha: familywise error rate, over contrasts and looks.
        family: contrasts planned at the first run; those taken out since count.
    """
    readings = step_down(list(members.values()), alpha, family)
    return dict(zip(members, readings, strict=True))


def outcomes(
    members: Mapping[str, AtLook],
    alpha: float,
    family: int,
    stopped: Mapping[str, OutcomeState] | None = None,
) -> dict[str, LookOutcome]:
    """What a look says: the verdict of every planned contrast, and whether it needs more.

    Args:
        members: as for `decide`.
        alpha: as for `decide`.
        family: as for `decide`.
        stopped: contrasts that an earlier look ended, and how.
    """
    return {
        contrast: _outcome(members[contrast], decided, alpha, (stopped or {}).get(contrast, "open"))
        for contrast, decided in decide(members, alpha, family).items()
    }


def _outcome(now: AtLook, decided: Decided, alpha: float, state: OutcomeState) -> LookOutcome:
    reading, share, spending = decided.reading, alpha / decided.left, now.spending
    p = now.member.p
    if settled(reading):
        state = "decided"
    elif state == "open":
        # Given up only by what the last look would still allow.
        last = spending.level(spending.at_most, share)
        there = now.replicates / spending.at_most
        if isinstance(now.member, Linear) and prompt_bound(
            now.member.found, last, now.member.margin, narrow=now.member.narrow
        ):
            state = "prompt-bound"
        elif (
            there >= 0.5 and p is not None and p > FUTILE and not _in_sight(now.member, last, there)
        ):
            state = "futile"
    found = getattr(now.member, "found", None)
    return LookOutcome(
        state=state,
        verdict=reading.verdict,
        level=spending.level(now.replicates, share),
        p=p,
        difference=found.difference if isinstance(found, Estimated) else None,
        lo=reading.lo,
        hi=reading.hi,
    )


def settled(reading: Reading) -> bool:
    """Whether more replicates would add nothing to a verdict but digits."""
    if reading.verdict == "best":
        return len(reading.members) == 1
    return reading.leaves or reading.verdict in ("equivalent", "holds")


def _in_sight(member: Looked, level: float, there: float) -> bool:
    """Whether it may yet be inside its margin: half-widths shrink with the root of replicates."""

    def end(found: Estimated, each: float) -> float:
        half = found.half_width(each)
        return math.inf if half is None else half * math.sqrt(there)

    if isinstance(member, Linear) and member.margin:
        return abs(member.found.difference or 0.0) + end(member.found, level) <= member.margin
    if isinstance(member, Collapse):
        return all(
            (loss.difference or 0.0) + end(loss, 2 * level) < member.margin
            for loss in member.losses.values()
        )
    return False


def prompt_bound(
    found: Estimated, level: float, margin: float | None, *, narrow: bool = False
) -> bool:
    """Whether no number of replicates leads to a verdict on these prompts.

    Args:
        found: what the replicates say now.
        level: two-sided error rate of the last look.
        margin: the contrast's, if it has one.
        narrow: the claim is about exactly these prompts, which bind nothing.
    """
    prompts, possible = found.prompts, found.interval(HOPE, narrow=True)
    if narrow or prompts is None or possible is None or prompts.further <= 0:
        return False
    part = t_quantile(prompts.df, level) * math.sqrt(prompts.further)
    # `part` is what is left of the half-width with seeds without end. No difference that is
    # possible reaches beyond it, and none lies so near to 0 that the interval fits inside the
    # margin.
    lo, hi = possible
    far, near = max(abs(lo), abs(hi)), 0.0 if lo <= 0 <= hi else min(abs(lo), abs(hi))
    return far <= part and (not margin or near + part > margin)


def needed(
    arms_of: Mapping[str, Iterable[str]], open_: Collection[str], arms: Iterable[str]
) -> set[str]:
    """Arms that go on: those of open contrasts, and those that no planned contrast compares.

    None where nothing is open.
    """
    compared = {arm for of in arms_of.values() for arm in of}
    going_on = {arm for contrast in open_ for arm in arms_of[contrast]}
    return going_on | (set(arms) - compared) if open_ else set()


@dataclass(frozen=True)
class BeforeLooks:
    """A member that no look has read yet: it decides nothing."""

    member: AtLook

    def at(self, alpha: float) -> Reading:
        """Its interval at the level of the first look."""
        reading = self.member.at(alpha)
        return Reading("undecided", reading.lo, reading.hi)

    @property
    def p(self) -> float | None:
        """Corrected for looking, as at the first look."""
        return self.member.p


def members(
    plan: Plan, planned: Sequence[EstimatedContrast], *, narrow: bool = False
) -> list[Looked]:
    """The members of planned contrasts for the step-down: at the levels of their looks, if any.

    Args:
        plan: says whether the study runs until decided, and the looks there were.
        planned: contrasts that are not exploratory.
        narrow: those of the claim on exactly these prompts.
    """
    sides = [one.narrow if narrow else one.wide for one in planned]
    adaptive = plan.adaptive
    if adaptive is None or adaptive.spending is None:
        return list(sides)
    at_looks = [
        AtLook(side, one.replicates, adaptive.spending)
        for side, one in zip(sides, planned, strict=True)
    ]
    return list(at_looks) if adaptive.looks else [BeforeLooks(member) for member in at_looks]
