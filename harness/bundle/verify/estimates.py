"""A contrast's estimate over seeds and prompts, worked out again: standard library only.

The formulas are those of `harness/analysis/inference.py`, written a second time so that each checks
the other. A contrast is a mean over cells, a cell weights over arms; where a replicate lacks cells
its spread is CR2 clustered on the replicate with Bell-McCaffrey degrees of freedom.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from dataclasses import field as field_of
from typing import Any

from harness.bundle.verify.student import log_density, log_tail, quantile
from harness.text.archive import Bad

MOST_VISITS = 10**8
"""Times that values are gone through in all: many more than an honest study needs."""
ROUNDING = 1e-12
"""Spread below this share of the values' size is rounding, not variation."""
SAME = "the difference is the same in every replicate: no spread to judge it by"
ONE = "one replicate: nothing says how much another would differ"

Rows = dict[str, dict[int, float]]
"""Arm to replicate to value, of one metric at one step."""
Cell = dict[str, float]
"""Arm to weight."""
Groups = list[tuple[list[Cell], float]]
"""Cells of equal weight, and the sign of their mean in the contrast."""
Trial = tuple[str, int]
"""Arm and replicate."""


class Work:
    """Counts what is gone through, so that no bundle can ask for hours."""

    def __init__(self, most: int = MOST_VISITS) -> None:
        self.left = most

    def spend(self, visits: int) -> None:
        """Refuse what would go through more values than an honest study has.

        Raises:
            Bad: if it is too much by now.
        """
        self.left -= visits
        if self.left < 0:
            raise Bad(f"its contrasts need more than {MOST_VISITS:,} visits of values")


@dataclass(frozen=True)
class TrialPrompts:
    """Values by prompt of one trial."""

    strata: dict[str, float]
    values: dict[str, dict[str, float]]
    pseudo: bool
    sizes: dict[str, dict[str, int]]


Tables = dict[Trial, TrialPrompts]


@dataclass(frozen=True)
class Prompts:
    """Spread over prompts: variances, degrees of freedom, prompts in how many strata."""

    variance: float
    both: float
    df: float
    n: int
    strata: int
    pseudo: bool

    @property
    def further(self) -> float:
        """What prompts add to the variance over seeds."""
        return max(0.0, self.variance - self.both)


@dataclass(frozen=True)
class Difference:
    """A difference, its spread over seeds, and over prompts where it is known."""

    n: int = 0
    difference: Any = None
    se: Any = None
    df: float = 0.0
    own: dict[int, float] = field_of(default_factory=dict)
    method: str = "none"
    prompts: Any = None
    alone: bool = False
    """About checkpoints measured once each: over prompts alone."""

    @property
    def judged(self) -> bool:
        """Whether there is an interval."""
        if self.alone:
            return self.prompts is not None and self.prompts.variance > 0
        return self.se is not None

    def half_width(self, alpha: float, narrow: bool = False) -> Any:
        """Half of the interval at 1 - alpha; None where there is none."""
        if self.alone:
            if narrow or not self.judged:
                return None
            return quantile(self.prompts.df, math.log(alpha)) * math.sqrt(self.prompts.variance)
        if self.se is None:
            return None
        half = (quantile(self.df, math.log(alpha)) * self.se) ** 2
        if self.prompts is not None and not narrow and self.prompts.further > 0:
            half += quantile(self.prompts.df, math.log(alpha)) ** 2 * self.prompts.further
        return math.sqrt(half)

    def interval(self, alpha: float, narrow: bool = False) -> Any:
        """Both ends at 1 - alpha; None where there is none."""
        half = self.half_width(alpha, narrow)
        return None if half is None else (self.difference - half, self.difference + half)

    def p(self, narrow: bool = False, shift: float = 0.0) -> Any:
        """The alpha at which the interval ends at `shift`; None where there is none."""
        if not self.judged or (self.alone and narrow):
            return None
        distance = abs(self.difference - shift)
        if self.alone:
            t = distance / math.sqrt(self.prompts.variance)
            return math.exp(log_tail(t, self.prompts.df))
        further = 0.0 if narrow or self.prompts is None else self.prompts.further
        if not further or not distance:
            return math.exp(log_tail(distance / self.se, self.df))
        return math.exp(log_tail(_crossing(self, further, distance), self.df))

    def method_of(self) -> str:
        """How the interval was made, as the answer says it."""
        if self.prompts is None:
            return self.method
        strata = f" in {self.prompts.strata} strata" if self.prompts.strata > 1 else ""
        how = "jackknife pseudo-values of " if self.prompts.pseudo else ""
        told = f"{how}{self.prompts.n} prompts{strata}, {self.prompts.df:.3g} df"
        return f"{'over prompts alone' if self.alone else self.method}; {told}"


def _crossing(found: Difference, further: float, distance: float) -> float:
    """The t over seeds at which the half-width over both is the distance: Newton, kept inside."""
    low, high = 0.0, distance / found.se
    t = distance / math.sqrt(found.se**2 + further)
    for _ in range(200):
        other = quantile(found.prompts.df, log_tail(t, found.df))
        over = (t * found.se) ** 2 + other**2 * further - distance**2
        low, high = (low, t) if over > 0 else (t, high)
        ratio = math.exp(log_density(t, found.df) - log_density(other, found.prompts.df))
        slope = 2 * (t * found.se**2 + other * further * ratio)
        moved = t - over / slope
        moved = moved if low < moved < high else (low + high) / 2
        if abs(moved - t) <= 1e-14 * t:
            break
        t = moved
    return t


def estimated(
    rows: Rows, groups: Groups, tables: Any, work: Work, checkpoints: bool = False
) -> Difference:
    """The contrast's estimate.

    Args:
        rows: values.
        groups: its cells.
        tables: values by prompt of the same metric and step; None or empty where there are none.
        work: what may be gone through.
        checkpoints: values are of checkpoints from elsewhere; of one replicate they make a claim
            about themselves.
    """
    listed, scale = _cells(rows, groups, work)
    if not listed:
        return Difference()
    found = _over_seeds(listed, scale, work)
    found = replace(found, alone=checkpoints and found.n == 1)
    if not tables:
        return found
    return replace(found, prompts=_over_prompts(tables, *_weights(listed), work))


Listed = list[tuple[Cell, float, int, dict[int, float]]]
"""Cell, its signed share, its group, and its value by replicate."""


def _cells(rows: Rows, groups: Groups, work: Work) -> tuple[Listed, float]:
    """The cells that some replicate has; none if a group has none. With the largest part."""
    listed: Listed = []
    scale = 0.0
    for number, (cells, sign) in enumerate(groups):
        seen = []
        for cell in cells:
            columns = [(w, rows.get(arm, {})) for arm, w in cell.items()]
            work.spend(1 + sum(1 + len(row) for _, row in columns))
            shared = set.intersection(*(set(row) for _, row in columns)) if columns else set()
            parts = {r: [w * row[r] for w, row in columns] for r in shared}
            if parts:
                seen.append((cell, {r: math.fsum(p) for r, p in parts.items()}))
                scale = max(scale, *(abs(part) for p in parts.values() for part in p))
        if not seen:
            return [], 0.0
        # What has a single value says nothing of its spread: no part of it, where others have more.
        seen = [(cell, d) for cell, d in seen if len(d) > 1] or seen
        listed += [(cell, sign / len(seen), number, d) for cell, d in seen]
    return listed, scale


def _over_seeds(listed: Listed, scale: float, work: Work) -> Difference:
    replicates = sorted({r for *_, d in listed for r in d})
    n = len(replicates)
    work.spend(len(listed) * n)
    means = [math.fsum(d.values()) / len(d) for *_, d in listed]
    difference = math.fsum(share * m for (_, share, *_), m in zip(listed, means))  # noqa: B905
    own = _own(listed, replicates)
    known = Difference(n, difference, own=own)
    if n == 1:
        return known
    if all(len(d) == n for *_, d in listed):
        se, df = statistics.stdev(own.values()) / math.sqrt(n), float(n - 1)
        method = f"paired t, {n - 1} df"
    elif any(len(d) == 1 for *_, d in listed):
        return known
    else:
        se, df = _cr2(listed, means, replicates, work)
        method = f"CR2 clustered on {n} replicates, {df:.3g} df"
    if se * math.sqrt(n) <= ROUNDING * max(scale, abs(difference)):
        return Difference(n, difference, own=own, method=method)
    return Difference(n, difference, se, df, own, method)


def _own(listed: Listed, replicates: list[int]) -> dict[int, float]:
    """Each replicate's own value from the cells that it has; none without a group's."""
    whole: dict[int, float] = {}
    for _, share, number, _ in listed:
        whole[number] = whole.get(number, 0.0) + share
    found = {}
    for r in replicates:
        here: dict[int, list[tuple[float, float]]] = {}
        for _, share, number, d in listed:
            if r in d:
                here.setdefault(number, []).append((share, d[r]))
        if len(here) < len(whole):
            continue
        total = 0.0
        for number, parts in sorted(here.items()):
            factor = whole[number] / sum(share for share, _ in parts)
            total += math.fsum(share * factor * value for share, value in parts)
        found[r] = total
    return found


def _cr2(
    listed: Listed, means: list[float], replicates: list[int], work: Work
) -> tuple[float, float]:
    """Standard error and degrees of freedom where cells lack replicates."""
    n = len(replicates)
    work.spend(len(listed) * n * n + n**3)
    # CR2: residuals are divided by sqrt(1 - h). In a fit of cell means the leverage h is 1 / n_c.
    u = [share / len(d) / math.sqrt(1 - 1 / len(d)) for _, share, _, d in listed]
    counts = [len(d) for *_, d in listed]
    mask = [[r in d for *_, d in listed] for r in replicates]
    cells = range(len(listed))
    variance = math.fsum(
        math.fsum(u[c] * (listed[c][3][r] - means[c]) for c in cells if mask[i][c]) ** 2
        for i, r in enumerate(replicates)
    )
    # Products of the weights that the sum of a replicate puts on the values, cell means taken off:
    # with independent cells cell by cell; with fully correlated ones those of a replicate are added
    # up first.
    independent = [[0.0] * n for _ in replicates]
    path = [[0.0] * n for _ in replicates]
    for i in range(n):
        for j in range(n):
            shared = [c for c in cells if mask[i][c] and mask[j][c]]
            independent[i][j] = -math.fsum(u[c] * u[c] / counts[c] for c in shared)
            path[i][j] = -math.fsum(u[c] / counts[c] for c in shared)
        held = [c for c in cells if mask[i][c]]
        independent[i][i] += math.fsum(u[c] * u[c] for c in held)
        path[i][i] += math.fsum(u[c] for c in held)
    correlated = [[math.fsum(x * y for x, y in zip(a, b)) for b in path] for a in path]  # noqa: B905
    # Which of the two working models holds, no data of a few replicates tell.
    freedom = min(_bell_mccaffrey(independent), _bell_mccaffrey(correlated))
    return math.sqrt(variance), max(1e-3, freedom)


def _bell_mccaffrey(square: list[list[float]]) -> float:
    """(sum of eigenvalues)^2 / sum of their squares."""
    squares = math.fsum(x * x for row in square for x in row)
    trace = math.fsum(row[i] for i, row in enumerate(square))
    return trace**2 / squares if squares > 0 else 0.0


def _weights(listed: Listed) -> tuple[dict[Trial, float], dict[int, float]]:
    """Weight of each trial, and share of each replicate (of sum 1)."""
    trials: dict[Trial, float] = {}
    shares: dict[int, float] = {}
    for r in sorted({r for *_, d in listed for r in d}):
        for cell, share, _, d in listed:
            if r in d:
                weight = share / len(d)
                shares[r] = shares.get(r, 0.0) + abs(weight)
                for arm, w in cell.items():
                    trials[arm, r] = trials.get((arm, r), 0.0) + weight * w
    whole = math.fsum(shares.values())
    return trials, {r: share / whole for r, share in shares.items()}


def _over_prompts(
    tables: Tables, weights: dict[Trial, float], shares: dict[int, float], work: Work
) -> Any:
    """Spread over prompts; None where some trial has no values that go with the others'."""
    first = next(iter(tables.values()))
    trials = [trial for trial, w in weights.items() if w]
    work.spend(len(weights))
    known = [tables[trial] for trial in trials if trial in tables]
    alike = [t for t in known if t.strata == first.strata and t.pseudo == first.pseudo]
    if not trials or len(alike) < len(trials):
        return None
    squares = math.fsum(shares[r] ** 2 for r in {r for _, r in trials})
    variance = both = fourth = 0.0
    count, fewest, strata = 0, math.inf, 0
    for name, omega in first.strata.items():
        if omega == 0:
            continue
        columns = [table.values.get(name, {}) for table in alike]
        work.spend(sum(1 + len(column) for column in columns))
        shared = sorted(set.intersection(*(set(column) for column in columns)))
        size = len(shared)
        if size < 2:
            return None
        eta: dict[int, list[float]] = {}
        largest = 0.0
        for (arm, r), column in zip(trials, columns):  # noqa: B905
            row = eta.setdefault(r, [0.0] * size)
            for i, prompt in enumerate(shared):
                part = weights[arm, r] * column[prompt]
                row[i] += part
                largest = max(largest, abs(part))
        rounding = (ROUNDING * largest) ** 2
        between = _variance([math.fsum(column) for column in zip(*eta.values())], rounding)  # noqa: B905
        within = math.fsum(_variance(row, rounding) for row in eta.values())
        part = omega**2 * between / size
        variance += part
        fourth += part**2 / (size - 1)
        if squares < 1:
            # What is seen within replicates and not in their sum is what seeds and prompts make
            # together.
            left = max(0.0, (within / squares - between) / (1 - squares))
            both += omega**2 * squares * left / size
        sizes = first.sizes.get(name, {})
        count += sum(sizes.get(prompt, 1) for prompt in shared)
        fewest, strata = min(fewest, size), strata + 1
    df = variance**2 / fourth if fourth > 0 else float(fewest - 1)
    return Prompts(variance, both, df, count, strata, first.pseudo)


def _variance(values: list[float], rounding: float) -> float:
    """Variance over prompts; none where it is rounding."""
    mean = math.fsum(values) / len(values)
    found = math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return found if found > rounding else 0.0


def d_z(found: Difference) -> Any:
    """Mean over standard deviation of the replicates, after Hedges; None where not defined."""
    n = len(found.own)
    if n < 3 or not found.judged or found.alone or not found.method.startswith("paired t"):
        return None
    m = n - 1
    log_factor = math.lgamma(m / 2) - 0.5 * math.log(m / 2) - math.lgamma((m - 1) / 2)
    ratio = math.fsum(found.own.values()) / n / statistics.stdev(found.own.values())
    return ratio * math.exp(log_factor)


def log_ratio(rows: Rows, cells: list[Cell]) -> Any:
    """Mean over cells of the mean over replicates of ln(a / b); None where one is not above 0."""
    each = []
    for cell in cells:
        if sorted(cell.values()) != [-1.0, 1.0]:
            return None
        (one, w), (two, _) = cell.items()
        a, b = (rows.get(arm, {}) for arm in ((one, two) if w > 0 else (two, one)))
        shared = [(a[r], b[r]) for r in a if r in b]
        if any(min(pair) <= 0 for pair in shared):
            return None
        if shared:
            each.append(math.fsum(math.log(x / y) for x, y in shared) / len(shared))
    return math.fsum(each) / len(each) if each else None
