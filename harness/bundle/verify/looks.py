"""Looks of a study that ran until it was decided, worked out again: standard library only, 3.9+.

The levels that its first run froze are held against what needs no calibration: that the first look
spends its whole share, and that no look rejects with more than may be spent by then. The rules of
`harness/journal/records.py` and `harness/analysis/looks.py` are written here a second time.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from harness.bundle.verify.estimates import Difference
from harness.bundle.verify.readings import LINEAR, ContrastEstimates, Said, step_down
from harness.bundle.verify.student import quantile
from harness.text.archive import Bad

JOURNAL = "results/journal.jsonl"
FUTILE = 0.4
"""Unadjusted p above which a contrast is given up, from half of the replicates on."""
HOPE = 0.05
"""Error rate of the differences that count as possible where prompts are said to bind."""
SAME_NUMBER = 1e-7
"""Relative difference up to which a number is the one that a look saw."""
OTHER_NUMBERS = "its numbers are others than the look after {} saw"
"""How the note begins that says so."""
GIVEN_UP = ("futile", "prompt-bound")
STATES = ("open", "decided", *GIVEN_UP)


class Looks:
    """Levels that were frozen, and the looks there were."""

    def __init__(self, spending: dict[str, Any], taken: list[dict[str, Any]]) -> None:
        self.at_most, self.first = _whole(spending["at_most"]), _whole(spending["first"])
        self.alphas = [_share(a) for a in spending["alphas"]]
        self.levels = [[_share(p) for p in row] for row in spending["levels"]]
        self.taken = taken
        columns = self.at_most - self.first + 1
        rising = all(a < b for a, b in zip(self.alphas, self.alphas[1:]))  # noqa: B905
        if self.first < 2 or columns < 1 or not self.alphas or not rising:
            raise _no_look("the levels of looks have another form than they must")
        if [len(row) for row in self.levels] != [columns] * len(self.alphas):
            raise _no_look("the levels of looks have another form than they must")
        for alpha, row in zip(self.alphas, self.levels):  # noqa: B905
            self._may_be_spent(alpha, row)
        for low, high in zip(self.levels, self.levels[1:]):  # noqa: B905
            if any(a > b for a, b in zip(low, high)):  # noqa: B905
                raise _no_look("levels of looks do not rise with the share of alpha")
        self._in_order()

    def _may_be_spent(self, alpha: float, row: list[float]) -> None:
        for column, level in enumerate(row):
            n = self.first + column
            # What the spending function lets go by then. The calibration of the levels inside this
            # bound is not done again here.
            most = alpha * (n / self.at_most) ** 2
            if not level <= most * (1 + 1e-9) or (not column and level < most * (1 - 1e-9)):
                what = "at most " if column else ""
                raise _no_look(f"the level after {n} of alpha {alpha} is {level}, not {what}{most}")

    def _in_order(self) -> None:
        """Looks follow each other from the first on, the last of which may be the end."""
        for n, look in enumerate(self.taken, self.first):
            if look["replicates"] != n or n > self.at_most:
                raise _no_look(f"a look after {str(look['replicates'])[:20]} replicates is not due")
            if look.get("over") and look is not self.taken[-1]:
                raise _no_look(f"a look follows the one after {n}, which was the last")
            for contrast, said in look["outcomes"].items():
                if said["state"] not in STATES:
                    raise _no_look(f"the look after {n}: {contrast[:40]} is in no state")

    def level(self, replicates: int, alpha: float) -> float:
        """The p below which a contrast is decided at a look, if `alpha` is its share."""
        column = replicates - self.first
        if alpha >= self.alphas[-1]:
            return self.levels[-1][column]
        if alpha <= self.alphas[0]:
            return self.levels[0][column] / self.alphas[0] * alpha
        above = bisect_right(self.alphas, alpha)
        (a, low), (b, high) = (
            (math.log(self.alphas[i]), math.log(self.levels[i][column] / self.alphas[i]))
            for i in (above - 1, above)
        )
        part = (math.log(alpha) - a) / (b - a)
        return alpha * math.exp(low + part * (high - low))

    def alpha_of(self, replicates: int, p: Any) -> Any:
        """The share of alpha at which a look's p is just small enough: p corrected for looking."""
        if p is None or p <= 0.0:
            return p
        if self.level(replicates, 1.0) <= p:
            return 1.0
        low, high = math.log(p) - 60.0, 0.0
        while high - low > 1e-12:
            middle = (low + high) / 2
            small = self.level(replicates, math.exp(middle)) < p
            low, high = (middle, high) if small else (low, middle)
        return math.exp((low + high) / 2)

    def ended(self, before: Any = None) -> dict[str, tuple[int, str]]:
        """Contrast to the look that ended it, and how; by the first `before` looks alone."""
        found: dict[str, tuple[int, str]] = {}
        for look in self.taken[:before]:
            for contrast, said in look["outcomes"].items():
                if said["state"] != "open":
                    found.setdefault(contrast, (look["replicates"], said["state"]))
                    if said["state"] == "decided":
                        found[contrast] = found[contrast][0], "decided"
        return found

    def judged_on(self, contrast: str) -> int:
        """Replicates that a planned contrast is judged on: those of its last look."""
        ended = self.ended().get(contrast)
        last = self.taken[-1]["replicates"] if self.taken else self.first
        return ended[0] if ended else int(last)

    def replicates_of(self, arm: str, before: Any = None) -> int:
        """Replicates planned of an arm."""
        ended = [
            look["replicates"]
            for look in self.taken[:before]
            if look.get("over") or arm in look.get("dropped", ())
        ]
        return min(ended, default=self.at_most)

    def last_said(self, contrast: str) -> Any:
        """The last look that tells of a contrast; None without one."""
        told = [look for look in self.taken if contrast in look["outcomes"]]
        return told[-1] if told else None


class AtItsLook:
    """A contrast that is tested at each look: what it says at the level of its last one."""

    def __init__(
        self, judged: ContrastEstimates, replicates: int, looks: Looks, *, blind: bool
    ) -> None:
        self.judged, self.replicates, self.looks = judged, replicates, looks
        self.blind = blind
        """No look has read it yet: it decides nothing."""

    def at(self, alpha: float, narrow: bool) -> Said:
        """The verdict at its share of alpha."""
        said = self.judged.at(self.looks.level(self.replicates, alpha), narrow)
        return Said("undecided", said.lo, said.hi) if self.blind else said


def looks_in(records: Iterable[dict[str, Any]], study: str) -> Any:
    """Levels and looks of a study that ran until decided; None of any other.

    Raises:
        Bad: if its records freeze other levels, or these are none.
    """
    planned = [r for r in records if r.get("type") == "planned" and r["study"] == study]
    frozen = [(r.get("frozen") or {}).get("spending") for r in planned]
    taken: dict[int, dict[str, Any]] = {}
    for record in planned:
        for look in record.get("looks") or ():
            known = taken.setdefault(_whole(look["replicates"]), look)
            if look["at"] < known["at"]:
                taken[look["replicates"]] = look
    spending = frozen[0] if frozen else None
    if all(one is None for one in frozen):
        if taken:
            raise _no_look("looks were taken, and no levels of them are frozen")
        return None
    if spending is None or any(one != spending for one in frozen):
        raise _no_look("the levels of looks are not the same in every record of the plan")
    return Looks(spending, [taken[n] for n in sorted(taken)])


class Retaken:
    """The looks, taken once more on the values there are now."""

    def __init__(
        self,
        looks: Looks,
        judged_at: Mapping[str, Callable[[int], ContrastEstimates]],
        arms_of: dict[str, list[str]],
        alpha: float,
        family: int,
    ) -> None:
        """Take what the looks are about.

        Args:
            looks: as they are on record.
            judged_at: planned contrast to what it says on so many replicates.
            arms_of: planned contrast to the arms it compares.
            alpha: familywise error rate.
            family: contrasts planned at the first run.
        """
        self.looks, self.judged_at, self.arms_of = looks, judged_at, arms_of
        self.alpha, self.family = alpha, family
        self.known: dict[tuple[str, int], ContrastEstimates] = {}

    def at(self, contrast: str, replicates: int) -> ContrastEstimates:
        """A contrast on so many replicates."""
        place = contrast, replicates
        if place not in self.known:
            self.known[place] = self.judged_at[contrast](replicates)
        return self.known[place]

    def check(self, notes: dict[str, list[str]], whole: bool) -> None:
        """Refuse a look that says what does not follow from the values, without a note of it.

        Trials that failed before a look are run again after it: then the numbers are others than
        the look saw, which the contrast's notes have to say.

        Args:
            notes: of each planned contrast's verdict.
            whole: all contrasts of the first run are still planned; else the step-down of then is
                not known, and only each one's own numbers are compared.

        Raises:
            Bad: if one does.
        """
        moved = {contrast for contrast in self.judged_at if self._has_moved(contrast)}
        for contrast in moved:
            n = self.looks.last_said(contrast)["replicates"]
            if not any(note.startswith(OTHER_NUMBERS.format(n)) for note in notes[contrast]):
                raise _no_look(
                    f"the look after {n}: {contrast[:80]} had other numbers, no note tells it"
                )
        for number, look in enumerate(self.looks.taken):
            self._numbers(number, look, moved)
            if whole and not moved:
                self._outcomes(number, look)

    def _has_moved(self, contrast: str) -> bool:
        last = self.looks.last_said(contrast)
        if last is None:
            return False
        found = self.at(contrast, self.looks.judged_on(contrast))
        return not _is_of(last["outcomes"][contrast], found, SAME_NUMBER)

    def _numbers(self, number: int, look: dict[str, Any], moved: set[str]) -> None:
        before, n = self.looks.ended(number), look["replicates"]
        for contrast in (look["outcomes"].keys() & self.judged_at.keys()) - moved:
            found = self.at(contrast, before[contrast][0] if contrast in before else n)
            if not _is_of(look["outcomes"][contrast], found, SAME_NUMBER / 10):
                raise _no_look(f"the look after {n}: p or difference of {contrast[:80]} is another")

    def _outcomes(self, number: int, look: dict[str, Any]) -> None:
        before, n = self.looks.ended(number), look["replicates"]
        where = f"the look after {n}"
        members = {}
        for contrast in self.judged_at:
            on = before[contrast][0] if contrast in before else n
            members[contrast] = AtItsLook(self.at(contrast, on), on, self.looks, blind=False)
        readings = step_down(list(members.values()), self.alpha, self.family, False)
        open_, told = [], look["outcomes"]
        for (contrast, now), (said, left) in zip(members.items(), readings):  # noqa: B905
            then = before[contrast][1] if contrast in before else "open"
            share = self.alpha / left
            state = state_at(now, said, share, then)
            if state == "open":
                open_.append(contrast)
            if (contrast in told) != (then == "open" or (then in GIVEN_UP and state == "decided")):
                raise _no_look(f"{where}: {contrast[:80]} is told of, or is not, against its rules")
            if contrast in told:
                level = self.looks.level(now.replicates, share)
                _is_outcome(told[contrast], state, said, level, f"{where}: {contrast[:80]}")
        self._what_goes_on(number, look, open_, where)

    def _what_goes_on(
        self, number: int, look: dict[str, Any], open_: list[str], where: str
    ) -> None:
        over = not open_ or look["replicates"] >= self.looks.at_most
        if bool(look.get("over", False)) != over:
            raise _no_look(f"{where}: whether it is the last one is told otherwise than follows")
        compared = {arm for arms in self.arms_of.values() for arm in arms}
        wanted = {arm for contrast in open_ for arm in self.arms_of[contrast]}
        gone = {
            arm
            for arm in compared - wanted
            if not over and self.looks.replicates_of(arm, number) == self.looks.at_most
        }
        if sorted(look.get("dropped", ())) != sorted(gone):
            raise _no_look(f"{where}: the arms that are not planned further are others")


def state_at(now: AtItsLook, said: Said, share: float, state: str) -> str:
    """What a look makes of a contrast that was in a state before."""
    if said.verdict == "best":
        settled = len(said.best) == 1
    else:
        settled = said.leaves or said.verdict in ("equivalent", "holds")
    if settled or state != "open":
        return "decided" if settled else state
    found, looks = now.judged, now.looks
    last, there = looks.level(looks.at_most, share), now.replicates / looks.at_most
    if found.kind in LINEAR and _prompt_bound(found.main, last, found.margin):
        return "prompt-bound"
    p = found.p(False)
    if there >= 0.5 and p is not None and p > FUTILE and not _in_sight(found, last, there):
        return "futile"
    return "open"


def _prompt_bound(found: Difference, level: float, margin: float) -> bool:
    """Whether no number of replicates leads to a verdict on these prompts."""
    prompts, possible = found.prompts, found.interval(HOPE, True)
    if prompts is None or possible is None or prompts.further <= 0:
        return False
    part = quantile(prompts.df, math.log(level)) * math.sqrt(prompts.further)
    lo, hi = possible
    far, close = max(abs(lo), abs(hi)), 0.0 if lo <= 0 <= hi else min(abs(lo), abs(hi))
    return far <= part and (not margin or close + part > margin)


def _in_sight(found: ContrastEstimates, level: float, there: float) -> bool:
    """Whether it may yet be inside its margin: half-widths shrink with the root of replicates."""

    def end(one: Difference, each: float) -> float:
        half = one.half_width(each)
        reach = math.inf if half is None else half * math.sqrt(there)
        return float(reach)

    if found.kind in LINEAR and found.margin:
        return bool(abs(found.main.difference or 0) + end(found.main, level) <= found.margin)
    if found.kind == "collapse":
        return all(
            (loss.difference or 0.0) + end(loss, 2 * level) < found.margin
            for loss in found.several.values()
        )
    return False


def _is_of(said: dict[str, Any], found: ContrastEstimates, slack: float) -> bool:
    """Whether an outcome was made of these numbers."""
    one = found.kind in (*LINEAR, "sooner")
    pairs = [(said.get("p"), found.p(False))]
    pairs.append((said.get("difference"), found.main.difference if one else None))
    return all(_close(then, now, slack, 1e-290) for then, now in pairs)


def _is_outcome(told: dict[str, Any], state: str, said: Said, level: float, where: str) -> None:
    if (told["state"], told.get("verdict", "")) != (state, said.verdict):
        then = f"{told['state']} ({told.get('verdict', '')})"
        raise _no_look(f"{where} is {then}, {state} ({said.verdict}) follows from its numbers")
    width = 0.0 if said.lo is None or not math.isfinite(said.hi - said.lo) else said.hi - said.lo
    for name, value in (("lo", said.lo), ("hi", said.hi)):
        known = value if value is not None and math.isfinite(value) else None
        if not _close(told.get(name), known, 1e-8, max(1e-12, 1e-8 * width)):
            raise _no_look(f"{where}: its interval is another")
    if not _close(told["level"], level, 1e-8, 0.0):
        raise _no_look(f"{where}: its level is another")


def _close(one: Any, other: Any, slack: float, least: float) -> bool:
    if one is None or other is None or isinstance(one, bool):
        return one is other
    return math.isclose(one, other, rel_tol=slack, abs_tol=least)


def _whole(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 10_000:
        raise _no_look(f"{str(number)[:40]!r} is no number of replicates")
    return number


def _share(number: Any) -> float:
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number <= 1:
        raise _no_look(f"{str(number)[:40]!r} is no share of alpha")
    return float(number)


def _no_look(why: str) -> Bad:
    return Bad(why[:400], JOURNAL)
