"""Standardised sizes of a difference: in units a reader knows, beside the metric's own.

Each is a description of what was seen, not a verdict: whether a difference is told from chance is
the interval's word. None where a size is not defined; no size is made up from other arms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from harness.analysis.inference import Cell, Estimated, Values
from harness.contract import MetricSpec
from harness.planning.plan import Plan
from harness.study.kinds import KINDS, ContrastKind

Gap = tuple[float, float]
"""A metric of the teacher's reference row and of data's."""


def gap_of(plan: Plan, arms: Iterable[str], measured: Values) -> Gap | None:
    """Teacher and data of some arms; None unless all have one teacher, and both are measured.

    Args:
        plan: names each arm's reference rows.
        arms: those that are compared.
        measured: row to replicate to the metric.
    """
    pairs = {plan.gaps.get(arm) for arm in arms}
    pair = next(iter(pairs)) if len(pairs) == 1 else None
    if pair is None:
        return None
    rows = [list(measured.get(f"reference:{name}", {}).values()) for name in pair]
    if any(len(row) != 1 for row in rows):
        return None
    return rows[0][0], rows[1][0]


def sizes_of(
    kind: ContrastKind,
    found: Estimated | None,
    values: Values,
    cells: Sequence[Cell],
    spec: MetricSpec,
    gap: Gap | None = None,
) -> dict[str, float]:
    """The sizes of a contrast that are defined, by name.

    `d_z`: a difference, slope or interaction whose replicates all have every cell; else their own
    sums vary by what they lack, too. `log_ratio`: a difference of a distance, that is, a metric
    that is better lower and has 0 as its smallest value; the mean over cells. `gap_share`: a
    difference over the way between teacher and data, where both are known.

    Args:
        kind: of the contrast.
        found: its estimate.
        values: arm to replicate to value, of the replicates that it is judged on.
        cells: its matched cells.
        spec: of the metric.
        gap: the metric of the teacher and of data.
    """
    sizes: dict[str, float | None] = {}
    if found is not None and KINDS[kind].linear and found.judged and not found.seeds.missing:
        sizes["d_z"] = d_z(list(found.seeds.per_replicate.values()))
    if kind == "difference" and spec.higher_is_better is False and spec.low == 0:
        sizes["log_ratio"] = _mean_log_ratio(values, cells)
    difference = found.difference if found is not None else None
    if kind == "difference" and gap is not None and difference is not None:
        sizes["gap_share"] = gap_share(difference, *gap)
    return {name: size for name, size in sizes.items() if size is not None}


def _mean_log_ratio(values: Values, cells: Sequence[Cell]) -> float | None:
    each = []
    for cell in cells:
        sides = {weight: values.get(arm, {}) for arm, weight in cell.items()}
        if len(cell) != 2 or set(sides) != {1.0, -1.0}:
            return None  # fitted by least squares: no pair of distances
        if sides[1.0].keys() & sides[-1.0].keys():
            ratio = log_ratio(sides[1.0], sides[-1.0])
            if ratio is None:
                return None
            each.append(ratio)
    return math.fsum(each) / len(each) if each else None


def gap_share(difference: float, teacher: float | None, data: float | None) -> float | None:
    """The difference as a share of the way between teacher and data: (a - b) / |T - D|.

    T is the metric of the reference row that is the teacher at full steps; D that of data measured
    like a student, the floor of a distance and the ceiling of a score: not 0 or 1, as a finite set
    of real pictures is at a distance from data too. The sign is the difference's: -0.25 in a
    distance is a quarter of what the teacher itself loses against data, won. Both rows must be
    measured under the protocol of the difference.

    Args:
        difference: in units of the metric.
        teacher: value of the teacher's row; None where there is none.
        data: value of the data's row; None where there is none.

    Returns:
        The share; None without both rows, or where they are equal up to rounding.
    """
    if teacher is None or data is None:
        return None
    gap = abs(teacher - data)
    if not math.isfinite(gap) or gap <= 1e-12 * max(abs(teacher), abs(data)):
        return None
    return difference / gap


def d_z(differences: Sequence[float], *, corrected: bool = True) -> float | None:
    """Cohen's d of paired differences, mean / SD (Cohen 1988, chapter 2), over replicates.

    How large the difference is against its own variation from seed to seed; with n pairs the
    paired t is d_z sqrt(n). From few pairs it is too large on average: by 1.77 times at 3, 1.19 at
    6. The correction is Hedges' (1981), exactly gamma(m/2) / (sqrt(m/2) gamma((m-1)/2)) with
    m = n - 1, which needs three pairs.

    Args:
        differences: one a replicate.
        corrected: without the bias of few pairs.

    Returns:
        d_z; None below two pairs (three when corrected), or where they do not vary.
    """
    n = len(differences)
    if n < (3 if corrected else 2):
        return None
    mean = math.fsum(differences) / n
    sd = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1))
    if sd <= 1e-12 * max(map(abs, differences)):
        return None
    m = n - 1
    log_factor = math.lgamma(m / 2) - 0.5 * math.log(m / 2) - math.lgamma((m - 1) / 2)
    return mean / sd * (math.exp(log_factor) if corrected else 1.0)


def log_ratio(a: Mapping[int, float], b: Mapping[int, float]) -> float | None:
    """Mean over shared replicates of ln(a / b), for distances: ln 2 is "twice as far".

    The same in whatever unit a distance has, and symmetric: b against a is its negative
    (Hedges, Gurevitch and Curtis 1999, the log response ratio, paired).

    Args:
        a: replicate to distance.
        b: the same of the other side.

    Returns:
        The mean; None without a shared replicate, or where a distance is not above 0 (an unbiased
        kernel distance may be).
    """
    shared = sorted(a.keys() & b.keys())
    if not shared or any(a[r] <= 0 or b[r] <= 0 for r in shared):
        return None
    return math.fsum(math.log(a[r] / b[r]) for r in shared) / len(shared)
