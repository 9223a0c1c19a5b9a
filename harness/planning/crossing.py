"""When a curve over training first reaches a value. Without numpy: `plan` reads it, too."""

from __future__ import annotations

from collections.abc import Mapping


def crossing(curve: Mapping[int, float], threshold: float, *, rising: bool) -> float | None:
    """The cycle at which a curve first reaches a threshold, interpolated between measured cycles.

    Restricted to what was measured: a curve that never reaches it has the last cycle as its time.

    Args:
        curve: cycle to value.
        threshold: in units of the metric.
        rising: whether it is reached from below.

    Returns:
        Cycles, or None for an empty curve.
    """
    steps = sorted(curve)
    if not steps:
        return None
    side = 1.0 if rising else -1.0
    before = None
    for step in steps:
        gap = side * (curve[step] - threshold)
        if gap >= 0:
            if before is None:
                return float(step)
            at, was = before
            return at + (step - at) * was / (was - gap)
        before = (step, gap)
    return float(steps[-1])
