"""Progress lines with an estimate of the time left, and the learning-rate schedule."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

from torch import Tensor


class Progress:
    """Writes a line to standard error every few seconds: step, smoothed values, time left."""

    def __init__(self, name: str, steps: int, every_s: float = 15.0) -> None:
        """Start counting.

        Args:
            name: what is being trained.
            steps: how many steps in all.
            every_s: seconds between lines.
        """
        self.name, self.steps, self.every_s = name, steps, every_s
        self.start = self.last = time.monotonic()
        self.means: dict[str, float] = {}

    def step(self, step: int, **values: Tensor | float) -> None:
        """Count a step (from 0) and note its values."""
        for key, value in values.items():
            number = float(value)
            self.means[key] = 0.98 * self.means.get(key, number) + 0.02 * number
        now = time.monotonic()
        if now - self.last < self.every_s and step + 1 < self.steps:
            return
        self.last = now
        left = (now - self.start) / (step + 1) * (self.steps - step - 1)
        text = "  ".join(f"{key} {value:.4f}" for key, value in self.means.items())
        sys.stderr.write(
            f"{self.name} {step + 1}/{self.steps}  {text}  "
            f"{now - self.start:.0f} s, left {left:.0f} s\n"
        )
        sys.stderr.flush()


def cosine(steps: int, warmup: int = 50, floor: float = 0.02) -> Callable[[int], float]:
    """Learning-rate factor by step: linear warm-up, then a cosine to `floor`."""

    def factor(step: int) -> float:
        if step < min(warmup, steps // 10):
            return (step + 1) / (min(warmup, steps // 10) + 1)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))

    return factor
