"""Axes of the report's plots: positions as percentages, so plots reflow without scaling text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from harness.analyse.words import number


@dataclass(frozen=True)
class Tick:
    """A labelled position on an axis."""

    at: str
    label: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Axis:
    """A linear scale from data to percent of the plot's width (or, upside down, of its height)."""

    lo: float
    hi: float
    flip: bool = False

    @classmethod
    def over(cls, values: Iterable[float | None], pad: float = 0.05, flip: bool = False) -> Axis:
        """Axis that covers all finite values with some room on both sides."""
        known = [v for v in values if v is not None and math.isfinite(v)]
        lo, hi = min(known, default=0.0), max(known, default=1.0)
        room = (hi - lo) * pad or abs(hi) * 0.1 or 0.5
        return cls(lo - room, hi + room, flip)

    def share(self, value: float) -> float:
        """Position in [0, 1], clipped."""
        place = min(1.0, max(0.0, (value - self.lo) / (self.hi - self.lo)))
        return 1.0 - place if self.flip else place

    def at(self, value: float) -> str:
        """Position as an SVG percentage."""
        return percent(self.share(value))

    def width(self, lo: float, hi: float) -> str:
        """Distance between two values as an SVG percentage."""
        return percent(abs(self.share(hi) - self.share(lo)))

    def holds(self, value: float) -> bool:
        """Whether a value lies on the axis."""
        return self.lo <= value <= self.hi

    def ticks(self, most: int = 5) -> list[Tick]:
        """Round numbers inside the axis: steps of 1, 2 or 5 times a power of ten."""
        span = self.hi - self.lo
        power = 10.0 ** math.floor(math.log10(span / most))
        step = next(m * power for m in (1, 2, 5, 10) if span / (m * power) <= most)
        places = max(0, -math.floor(math.log10(step) + 1e-9))
        first = math.ceil(self.lo / step - 1e-9)
        last = math.floor(self.hi / step + 1e-9)
        return [self._tick(k * step, places) for k in range(first, last + 1)]

    def _tick(self, value: float, places: int) -> Tick:
        share = self.share(value)
        anchor = "start" if share < 0.03 else "end" if share > 0.97 else "middle"
        return Tick(percent(share), number(value, places), anchor)


def percent(share: float) -> str:
    """`0.1234567` as `12.346%`."""
    return f"{100 * share:.3f}%"
