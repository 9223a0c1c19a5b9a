"""What an objective is: losses of the student and the fake score on one micro-batch.

A new objective is one file beside this one and one test; see CONTRIBUTING.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor, nn

from recipes.families.base import Condition, Family, Task
from recipes.guidance.panel import TeacherPanel
from recipes.schedule import Rungs


@dataclass(frozen=True)
class Batch:
    """One micro-batch: of one task and one shape, all randomness drawn beforehand."""

    task: Task
    condition: Condition
    noise_BCHW: Tensor
    """Where the rollout starts."""
    exits_B: Tensor
    """Exit rung per row, descending."""
    renoise_t_B: Tensor
    """Level at which the sample is judged."""
    renoise_BCHW: Tensor
    """Noise with which it is judged."""
    fresh: Callable[[int], Tensor] | None
    """Noise between rungs, for the re-noising rollout; None for ODE."""
    progress: float = 0.0
    """Share of the cycles done, in [0, 1)."""


@dataclass(frozen=True)
class Networks:
    """The roles at work."""

    family: Family
    student: nn.Module
    fake: nn.Module
    teachers: TeacherPanel
    rungs: Rungs


@dataclass(frozen=True)
class StudentStep:
    """Result of the student's forward: its loss, its sample, and what to log."""

    loss: Tensor
    sample_BCHW: Tensor
    logs: dict[str, float]


class Objective(Protocol):
    """Losses of one objective. Stateless unless it says so in `state_dict`."""

    prompt_only: ClassVar[bool]
    """True where no target images are needed."""

    def student_loss(self, batch: Batch, networks: Networks) -> StudentStep:
        """Loss whose gradient reaches the student only."""
        ...

    def fake_loss(self, batch: Batch, networks: Networks, sample_BCHW: Tensor | None) -> Tensor:
        """Loss whose gradient reaches the fake score only; `sample_BCHW` is reused when given."""
        ...

    def forwards(self, rungs: int, scale: float) -> dict[str, float]:
        """Declared forwards of one cycle by role, in units of F; tests confirm them by hooks."""
        ...
