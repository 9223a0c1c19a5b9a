"""What a contrast's estimates say at an error rate, by its kind: standard library only, 3.9+.

The rules of `harness/analysis/kinds.py`, `estimated_contrasts.py` and `step_down.py`, written a
second time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from dataclasses import field as field_of
from typing import Any

from harness.bundle.verify.estimates import (
    Cell,
    Difference,
    Groups,
    Rows,
    Tables,
    TrialPrompts,
    Work,
    estimated,
)

LINEAR = ("difference", "trend", "interaction")
KINDS = (*LINEAR, "more", "best", "collapse", "sooner")
READING = 4_000
"""What reading one interval counts, in visits of values; a p counts ten."""
Curves = dict[int, Rows]
"""Step to values."""


@dataclass(frozen=True)
class Said:
    """A verdict at one error rate."""

    verdict: str
    lo: Any = None
    hi: Any = None
    leaves: bool = False
    best: tuple[str, ...] = ()
    step: Any = None
    vetoed: bool = False


@dataclass(frozen=True)
class ContrastEstimates:
    """The estimates behind one contrast."""

    kind: str
    margin: float
    higher: Any
    work: Work
    main: Any
    """The estimate whose numbers are told; None for kinds `best` and `collapse`."""
    filled: Any = None
    plus: Any = None
    levels: tuple[str, ...] = ()
    several: dict[Any, Difference] = field_of(default_factory=dict)
    """Kind `best`: pairs of levels. Kind `collapse`: earlier steps."""
    parts: tuple[tuple[str, str, Difference], ...] = ()

    @property
    def tests(self) -> int:
        """One-sided tests that share an error rate."""
        return max(1, len(self.levels) - 1 if self.kind == "best" else len(self.several))

    def at(self, alpha: float, narrow: bool) -> Said:
        """The verdict at 1 - alpha, over prompts too or on exactly these."""
        self.work.spend(2 * READING * max(1, len(self.several)))
        if self.kind == "best":
            kept = self._kept(alpha, narrow)
            return Said("best" if len(kept) < len(self.levels) else "undecided", best=kept)
        if self.kind == "collapse":
            return self._collapse(alpha, narrow)
        interval = self.main.interval(alpha, narrow or self.kind == "sooner")
        if interval is None:
            return Said("undecided")
        lo, hi = interval
        if self.kind in LINEAR:
            return self._linear(alpha, narrow, lo, hi)
        other = (lo, hi) if self.kind == "sooner" else self.plus.interval(alpha, narrow)
        if other is None:
            return Said("undecided")
        if lo <= 0 <= hi or other[0] <= 0 <= other[1]:
            return Said("undecided", lo, hi)
        if self.kind == "sooner":
            return Said("sooner" if hi < 0 else "later", lo, hi, True)
        return Said("more" if (lo > 0) == (other[0] > 0) else "less", lo, hi, True)

    def p(self, narrow: bool) -> Any:
        """The error rate at which it is first decided; None where it never is."""
        self.work.spend(10 * READING * max(1, len(self.several)))
        if self.kind in LINEAR:
            return self.main.p(narrow)
        if self.kind == "sooner":
            return self.main.p(True)
        if self.kind == "more":
            both = [found.p(narrow) for found in (self.main, self.plus)]
            return None if None in both else max(both)
        each = []
        for found in self.several.values():
            p = found.p(narrow, self.margin if self.kind == "collapse" else 0.0)
            if p is not None:
                beyond = self.kind == "best" or found.difference > self.margin
                each.append(p / 2 if beyond else 1 - p / 2)
        return min(1.0, min(each) * self.tests) if each else None

    def level(self, rate: float) -> float:
        """Of the interval told at an error rate; that of a collapse has one-sided bounds."""
        one_sided = self.kind == "collapse" and self.several
        return 1 - min(1.0, 2 * rate / self.tests if one_sided else rate)

    def lost_from(self, step: Any) -> Any:
        """Kind `collapse`: what was lost from a step, or from that which shows most, if none."""
        if step is None:
            known = [f for f in self.several.values() if f.difference is not None]
            return max(known, key=lambda f: float(f.difference), default=None)
        return self.several.get(step)

    def _linear(self, alpha: float, narrow: bool, lo: float, hi: float) -> Said:
        said = table_of_verdicts(lo, hi, self.margin, self.higher)
        if self.filled is None or not said.verdict.startswith(("improves", "harms")):
            return said
        interval = self.filled.interval(alpha, narrow)
        if interval is not None:
            filled = table_of_verdicts(interval[0], interval[1], self.margin, self.higher)
            if filled.verdict.split()[0] == said.verdict.split()[0]:
                return said
        return replace(said, verdict="undecided", leaves=False, vetoed=True)

    def _kept(self, alpha: float, narrow: bool) -> tuple[str, ...]:
        """Levels that no other beats, one-sided at alpha / (levels - 1)."""
        beaten = set()
        for (i, j), found in self.several.items():
            interval = found.interval(min(1.0, 2 * alpha / self.tests), narrow)
            if interval is not None and not interval[0] <= 0 <= interval[1]:
                beaten.add(j if (interval[0] > 0) == (self.higher is not False) else i)
        return tuple(level for level in self.levels if level not in beaten)

    def _collapse(self, alpha: float, narrow: bool) -> Said:
        each = 2 * alpha / self.tests
        bounds = {c: found.interval(each, narrow) for c, found in self.several.items()}
        known = {c: interval for c, interval in bounds.items() if interval is not None}
        if not known:
            return Said("undecided")
        worst = max(known, key=lambda c: known[c][0])
        lo, hi = known[worst]
        if lo > self.margin:
            return Said("collapses", lo, hi, True, step=worst)
        uppers = [found.interval(2 * alpha, narrow) for found in self.several.values()]
        holds = all(interval is not None and interval[1] < self.margin for interval in uppers)
        return Said("holds" if holds else "undecided", lo, hi, step=worst)


def table_of_verdicts(lo: float, hi: float, margin: float, higher: Any) -> Said:
    """The verdict table, rows read from the top."""
    if margin and -margin <= lo and hi <= margin:
        return Said("equivalent", lo, hi)
    if lo <= 0 <= hi:
        return Said("undecided", lo, hi)
    beyond = lo > margin or hi < -margin
    if higher is None:
        return Said("undecided", lo, hi, beyond)
    bare = "improves" if (lo > 0) == higher else "harms"
    return Said(bare if beyond else f"{bare} (size unsettled)", lo, hi, beyond)


def step_down(
    members: list[Any], alpha: float, family: int, narrow: bool
) -> list[tuple[Said, int]]:
    """The last reading of each contrast or of it at its look, and how many were left then."""
    # A contrast that was taken out since the first run still counts, or leaving out the weak ones
    # would widen the share of the others.
    left = max(len(members), family)
    found: dict[int, tuple[Said, int]] = {}
    while len(found) < len(members):
        waiting = [i for i in range(len(members)) if i not in found]
        said = {i: members[i].at(alpha / left, narrow) for i in waiting}
        leaving = [i for i in waiting if said[i].leaves]
        last = not leaving or len(leaving) == len(waiting)
        found.update({i: (said[i], left) for i in (waiting if last else leaving)})
        left -= len(leaving)
    return [found[i] for i in range(len(members))]


def benjamini_hochberg(p: list[Any], alpha: float) -> list[tuple[Any, float]]:
    """Adjusted p of exploratory tests, and the error rate of each one's interval."""
    order = sorted(((v, i) for i, v in enumerate(p) if v is not None), reverse=True)
    adjusted: list[Any] = [None] * len(p)
    best = 1.0
    for rank, (value, i) in enumerate(order):
        best = min(best, len(order) / (len(order) - rank) * value)
        adjusted[i] = best
    found = sum(v is not None and v <= alpha for v in adjusted)
    tests = max(1, len(order))
    left = alpha * min(1.0, (found + 1) / tests) if order else alpha
    rates = [alpha * found / tests if v is not None and v <= alpha else left for v in adjusted]
    return list(zip(adjusted, rates))  # noqa: B905


def judged(
    contrast: dict[str, Any],
    curves: Curves,
    tables: dict[Any, Tables],
    states: dict[str, dict[int, str]],
    higher: Any,
    alpha: float,
    work: Work,
    checkpoints: bool = False,
) -> ContrastEstimates:
    """The estimates behind a contrast.

    Args:
        contrast: as the manifest has it: kind, parts with cells, margin, threshold, falls.
        curves: values of its metric by step, those of the last one of each trial as step -1.
        tables: the same steps to values by prompt.
        states: of every arm's trials.
        higher: whether higher is better; None without a better direction.
        alpha: error rate of the family.
        work: what may be gone through.
        checkpoints: its trials are checkpoints from elsewhere.
    """
    kind, parts = contrast["kind"], contrast["parts"]
    margin = contrast["margin"] or 0.0
    rows, prompts = curves.get(-1, {}), tables.get(-1, {})
    cells = [part["cells"] for part in parts] or [[]]

    def one(groups: Groups) -> Difference:
        return estimated(rows, groups, prompts, work, checkpoints)

    if kind in LINEAR:
        main = one([(cells[0], 1.0)])
        filled = None
        if higher is not None:
            filled = _filled(main, rows, cells[0], states, bool(higher), work)
        more = [] if kind != "trend" else list(zip(parts, cells))[1:]  # noqa: B905
        told = tuple((p["name"], p["level"], one([(c, 1.0)])) for p, c in more)
        return ContrastEstimates(kind, margin, higher, work, main, filled, parts=told)
    if kind == "more":
        first, second = cells[:2]
        minus, plus = (one([(first, 1.0), (second, sign)]) for sign in (-1.0, 1.0))
        each = zip(parts, cells)  # noqa: B905
        told = tuple((p["name"], p["level"], one([(c, 1.0)])) for p, c in each)
        return ContrastEstimates(kind, margin, higher, work, minus, plus=plus, parts=told)
    if kind == "best":
        levels = [part["level"] for part in parts]
        if len(set(levels)) < len(levels):
            raise ValueError("a level stands twice in a contrast")
        pairs = {}
        for i in range(len(levels)):
            for j in range(i + 1, len(levels)):
                pairs[levels[i], levels[j]] = one([(_less(cells[i], cells[j], work), 1.0)])
        return ContrastEstimates(
            kind, margin, higher, work, None, levels=tuple(levels), several=pairs
        )
    if kind == "collapse":
        # reference rows have steps of their own, at which no arm of the contrast was measured
        named = {arm for cell in cells[0] for arm in cell}
        curves = {s: rows for s, rows in curves.items() if any(rows.get(arm) for arm in named)}
        lost = _losses(curves, tables, cells[0], higher, work, checkpoints)
        return ContrastEstimates(kind, margin, higher, work, None, several=lost)
    if kind == "sooner":
        listed = _less(cells[0], cells[1], work)
        times = _times(curves, contrast, higher, work)
        return ContrastEstimates(
            kind, margin, higher, work, estimated(times, [(listed, 1.0)], None, work)
        )
    raise ValueError(f"a contrast of kind {str(kind)[:40]!r} is unknown")


def _less(one: list[Cell], other: list[Cell], work: Work) -> list[Cell]:
    """Two parts' difference, cell by cell, without cells whose arms are the same."""
    if len(one) != len(other):
        raise ValueError("parts of a contrast have other cells")
    found = []
    for a, b in zip(one, other):  # noqa: B905
        work.spend(len(a) + len(b))
        cell = {arm: a.get(arm, 0.0) - b.get(arm, 0.0) for arm in {**a, **b}}
        found.append({arm: weight for arm, weight in cell.items() if weight})
    return [cell for cell in found if cell]


def _filled(
    found: Difference,
    rows: Rows,
    cells: list[Cell],
    states: dict[str, dict[int, str]],
    higher: bool,
    work: Work,
) -> Any:
    """The estimate with the winner's divergences filled in; None where it never diverged."""
    if not found.difference:
        return None
    winner = 1.0 if (found.difference > 0) == higher else -1.0
    made: Rows = {}
    empty = []
    for number, cell in enumerate(cells):
        columns = [rows.get(arm, {}) for arm in cell]
        work.spend(1 + sum(1 + len(column) for column in columns))
        work.spend(sum(len(states.get(arm, {})) for arm in cell))
        shared = set.intersection(*(set(column) for column in columns)) if columns else set()
        made[str(number)] = {
            r: math.fsum(w * rows[arm][r] for arm, w in cell.items()) for r in shared
        }
        lost = {
            r
            for arm, w in cell.items()
            if w * winner > 0
            for r, state in states.get(arm, {}).items()
            if state == "diverged"
        }
        empty += [(str(number), r) for r in lost - shared]
    if not empty:
        return None
    sign = math.copysign(1.0, found.difference)
    worst = sign * min(sign * d for row in made.values() for d in row.values())
    for name, r in empty:
        made[name][r] = worst
    again = estimated(made, [([{name: 1.0} for name in made], 1.0)], None, work)
    return replace(again, prompts=found.prompts, alone=found.alone)


def _losses(
    curves: Curves,
    tables: dict[Any, Tables],
    cells: list[Cell],
    higher: Any,
    work: Work,
    checkpoints: bool,
) -> dict[Any, Difference]:
    """What an arm lost from each earlier step to the last one."""
    steps = sorted(step for step in curves if step >= 0)
    side = 1.0 if higher is not False else -1.0
    found = {}
    for step in steps[:-1]:
        rows: Rows = {}
        for arm in {arm for cell in cells for arm in cell}:
            then, now = curves[step].get(arm, {}), curves[steps[-1]].get(arm, {})
            rows[arm] = {r: side * (v - now[r]) for r, v in then.items() if r in now}
            work.spend(1 + len(then))
        then_of, now_of = tables.get(step, {}), tables.get(steps[-1], {})
        lost = {t: _minus(then_of[t], now_of[t], side, work) for t in then_of if t in now_of}
        found[step] = estimated(rows, [(cells, 1.0)], lost, work, checkpoints)
    return found


def _minus(one: TrialPrompts, other: TrialPrompts, side: float, work: Work) -> TrialPrompts:
    values = {}
    for stratum, row in one.values.items():
        two = other.values.get(stratum, {})
        work.spend(1 + len(row))
        if two:
            values[stratum] = {p: side * (v - two[p]) for p, v in row.items() if p in two}
    return replace(one, values=values)


def _times(curves: Curves, contrast: dict[str, Any], higher: Any, work: Work) -> Rows:
    """When each trial reaches, or loses, the threshold: censored at its last step."""
    rising = (higher is not False) != contrast["falls"]
    steps = sorted(step for step in curves if step >= 0)
    times: Rows = {}
    arms = {arm for part in contrast["parts"] for cell in part["cells"] for arm in cell}
    for arm in arms:
        by_replicate: dict[int, dict[int, float]] = {}
        for step in steps:
            work.spend(1 + len(curves[step].get(arm, {})))
            for r, value in curves[step].get(arm, {}).items():
                by_replicate.setdefault(r, {})[step] = value
        side = 1.0 if rising else -1.0
        times[arm] = {
            r: _crossing_time({s: side * (v - contrast["threshold"]) for s, v in curve.items()})
            for r, curve in by_replicate.items()
        }
    return times


def _crossing_time(gaps: dict[int, float]) -> float:
    """The step at which a gap is first closed, interpolated; the last one where it never is."""
    before: Any = None
    for step, gap in gaps.items():
        if gap >= 0:
            if before is None:
                return float(step)
            at, was = before
            return float(at + (step - at) * was / (was - gap))
        before = (step, gap)
    return float(before[0])
