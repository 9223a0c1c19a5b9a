"""Rungs: the student's few sampling noise levels; training and inference take them from here.

Legend: S rungs.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from recipes.settings import Settings


def shifted(u: float, shift: float) -> float:
    """T = s u / (1 + (s - 1) u), the static shift of SD3 and Qwen-Image; s=1 is the identity."""
    return shift * u / (1.0 + (shift - 1.0) * u)


@dataclass(frozen=True)
class Rungs:
    """Noise levels in decreasing order, first 1.0 (pure noise); sampling ends at 0.

    With 4 rungs and shift 3: 1, 0.9, 0.75, 0.5. Equals `FlowMatchEulerDiscreteScheduler(shift=s)`
    after `set_timesteps(sigmas=linspace(1, 1/S, S))` (tested).
    """

    count: int
    shift: float

    @property
    def levels(self) -> tuple[float, ...]:
        """The S noise levels t, each in (0, 1]."""
        return tuple(shifted(1.0 - i / self.count, self.shift) for i in range(self.count))

    @property
    def edges(self) -> tuple[float, ...]:
        """Levels followed by 0: S + 1 numbers."""
        return (*self.levels, 0.0)


class Student(Settings):
    """The few-step student: its sampling noise levels."""

    rungs: int = Field(
        4, ge=1, le=64, description="Sampling steps = network evaluations per image."
    )
    shift: float = Field(3.0, gt=0, description="Shift of the rungs towards noise.")
    init: str = Field("base", description="Teacher (by name in `teachers`) it starts from.")

    @property
    def levels(self) -> Rungs:
        """The rungs, for training and for sampling alike."""
        return Rungs(self.rungs, self.shift)
