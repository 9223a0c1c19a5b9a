"""The kinds of planned contrasts, each as a member of the step-down: what it says at an error rate.

A difference, a trend and an interaction are one estimate read by the verdict table. The others are
combinations of estimates whose error rate is that of one member of the family (simulated before
they were written down; see `docs/statistics.md`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.analysis.inference import Estimated, Trial, Values
from harness.analysis.step_down import Reading, verdict_of
from harness.journal.prompt_values import PromptValues


@dataclass(frozen=True)
class Linear:
    """A difference, slope or interaction: one estimate, read by the verdict table."""

    found: Estimated
    margin: float | None = None
    higher_is_better: bool | None = None
    narrow: bool = False
    """Read on exactly these prompts."""
    filled: Estimated | None = None
    """With the winner's divergences filled in; the verdict must stand there, too."""

    def at(self, alpha: float) -> Reading:
        """Its verdict and interval at 1 - alpha."""
        reading = self._read(self.found, alpha)
        if self.filled is None or not reading.verdict.startswith(("improves", "harms")):
            return reading
        if self._read(self.filled, alpha).verdict.split()[0] == reading.verdict.split()[0]:
            return reading
        return replace(reading, verdict="undecided", leaves=False, vetoed=reading.verdict)

    def _read(self, found: Estimated, alpha: float) -> Reading:
        interval = found.interval(alpha, narrow=self.narrow)
        return verdict_of(interval, self.margin, self.higher_is_better)

    @property
    def p(self) -> float | None:
        """Two-sided p of no difference."""
        return self.found.p(narrow=self.narrow)


@dataclass(frozen=True)
class More:
    """Whether one factor moves a metric more than another: |A| against |B|.

    |A| > |B| exactly if A - B and A + B have one sign, so both must be beyond 0 with one sign; each
    is read at the whole error rate (an intersection-union test).
    """

    minus: Estimated
    plus: Estimated
    narrow: bool = False

    def at(self, alpha: float) -> Reading:
        """`more`: the first moves it more; `less`: the second does. The interval is of A - B."""
        one = self.minus.interval(alpha, narrow=self.narrow)
        two = self.plus.interval(alpha, narrow=self.narrow)
        if one is None or two is None:
            return Reading("undecided")
        if one[0] <= 0 <= one[1] or two[0] <= 0 <= two[1]:
            return Reading("undecided", *one)
        return Reading("more" if (one[0] > 0) == (two[0] > 0) else "less", *one, leaves=True)

    @property
    def p(self) -> float | None:
        """The larger p of the two."""
        both = [found.p(narrow=self.narrow) for found in (self.minus, self.plus)]
        known = [p for p in both if p is not None]
        return max(known) if len(known) == 2 else None


@dataclass(frozen=True)
class Best:
    """Which levels of a factor may be the best: those that no other beats.

    A level leaves the set if some other is better by a one-sided test at alpha / (levels - 1). The
    set holds the true best with probability 1 - alpha at least, whatever the variances (Hsu's
    comparison with the best, with each pair's own spread in place of a pooled one).
    """

    levels: tuple[str, ...]
    pairs: Mapping[tuple[str, str], Estimated]
    """(i, j), i before j in `levels`: the difference i - j."""
    higher_is_better: bool
    narrow: bool = False

    def at(self, alpha: float) -> Reading:
        """`best` and the set, where any level is beaten; it never leaves the family."""
        kept = self.kept(alpha)
        return Reading("best" if len(kept) < len(self.levels) else "undecided", members=kept)

    def kept(self, alpha: float) -> tuple[str, ...]:
        """The set at an error rate."""
        beaten = set()
        # Twice: of a two-sided interval only the side that beats a level counts.
        each = 2 * alpha / max(1, len(self.levels) - 1)
        for (i, j), found in self.pairs.items():
            interval = found.interval(min(1.0, each), narrow=self.narrow)
            if interval is None or interval[0] <= 0 <= interval[1]:
                continue
            beaten.add(j if (interval[0] > 0) == self.higher_is_better else i)
        return tuple(level for level in self.levels if level not in beaten)

    @property
    def p(self) -> float | None:
        """The error rate at which the first level is beaten."""
        known = [found.p(narrow=self.narrow) for found in self.pairs.values()]
        given = [p for p in known if p is not None]
        return min(1.0, min(given) / 2 * max(1, len(self.levels) - 1)) if given else None


@dataclass(frozen=True)
class Collapse:
    """Whether an arm loses more than a margin from an earlier measured cycle to its last one.

    Collapsed: for an earlier cycle the lower bound of what is lost since, one-sided at
    alpha / (K - 1) with K measured cycles, exceeds the margin. Held: all upper bounds at alpha lie
    below it. Never "best value lost by more than the margin" trial by trial: a flat trial at eight
    cycles does that in 26 to 70 % of cases.
    """

    losses: Mapping[int, Estimated]
    """Earlier cycle to what was lost since, positive where it became worse."""
    margin: float
    narrow: bool = False

    def at(self, alpha: float) -> Reading:
        """`collapses` or `holds`; the interval is of the loss since the cycle that shows most."""
        each = 2 * alpha / max(1, len(self.losses))
        bounds = {c: found.interval(each, narrow=self.narrow) for c, found in self.losses.items()}
        known = {c: interval for c, interval in bounds.items() if interval is not None}
        if not known:
            return Reading("undecided")
        worst = max(known, key=lambda c: known[c][0])
        lo, hi = known[worst]
        if lo > self.margin:
            return Reading("collapses", lo, hi, leaves=True, step=worst)
        # To hold, all bounds have to: an intersection-union test, each at the whole alpha.
        uppers = [found.interval(2 * alpha, narrow=self.narrow) for found in self.losses.values()]
        if all(interval is not None and interval[1] < self.margin for interval in uppers):
            return Reading("holds", lo, hi, step=worst)
        return Reading("undecided", lo, hi, step=worst)

    @property
    def p(self) -> float | None:
        """The error rate at which it would be called collapsed."""
        found = []
        for loss in self.losses.values():
            p = loss.p(narrow=self.narrow, shift=self.margin)
            if p is not None and loss.difference is not None:
                found.append(p / 2 if loss.difference > self.margin else 1 - p / 2)
        return min(1.0, min(found) * len(self.losses)) if found else None


@dataclass(frozen=True)
class TimeDifference:
    """Which of two sides reaches (or loses) a value sooner: times censored at the last cycle."""

    found: Estimated
    """Time of a less time of b, in cycles; over seeds only."""

    def at(self, alpha: float) -> Reading:
        """`sooner`: a is earlier than b; `later`."""
        interval = self.found.interval(alpha, narrow=True)
        if interval is None:
            return Reading("undecided")
        lo, hi = interval
        if lo <= 0 <= hi:
            return Reading("undecided", lo, hi)
        return Reading("sooner" if hi < 0 else "later", lo, hi, leaves=True)

    @property
    def p(self) -> float | None:
        """Two-sided p of equal times."""
        return self.found.p(narrow=True)


def losses(
    by_step: Mapping[int, Values],
    tables: Mapping[int, Mapping[Trial, PromptValues]],
    *,
    higher_is_better: bool,
) -> dict[int, tuple[Values, Mapping[Trial, PromptValues]]]:
    """What each trial lost from an earlier measured cycle to its last: values, values by prompt."""
    last = max(by_step, default=0)
    side = 1.0 if higher_is_better else -1.0
    found: dict[int, tuple[Values, Mapping[Trial, PromptValues]]] = {}
    for step in sorted(by_step):
        if step == last:
            continue
        lost = {
            arm: {r: side * (v - by_step[last][arm][r]) for r, v in row.items() if r in end}
            for arm, row in by_step[step].items()
            if (end := by_step[last].get(arm, {}))
        }
        then, now = tables.get(step, {}), tables.get(last, {})
        by_prompt = {t: minus(then[t], now[t], side) for t in then if t in now}
        found[step] = (lost, by_prompt)
    return found


def minus(one: PromptValues, other: PromptValues, factor: float = 1.0) -> PromptValues:
    """The factor times (one - other), prompt by prompt, where both have it."""
    values = {
        stratum: {p: factor * (v - two[p]) for p, v in row.items() if p in two}
        for stratum, row in one.values.items()
        if (two := other.values.get(stratum, {}))
    }
    return replace(one, values=values)


def band(by_step: Mapping[int, Estimated], alpha: float) -> dict[int, tuple[float, float]]:
    """Simultaneous intervals of a difference over training: each cycle at 1 - alpha / cycles."""
    each = {step: found.interval(alpha / len(by_step)) for step, found in by_step.items()}
    return {step: interval for step, interval in each.items() if interval is not None}


def all_pairs(levels: Sequence[str]) -> list[tuple[str, str]]:
    """(i, j) with i before j."""
    return [(a, b) for n, a in enumerate(levels) for b in levels[n + 1 :]]
