"""What an objective is: losses of the student and, where there is one, of the fake score.

A new objective is one file beside this one and one test; see CONTRIBUTING.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from recipes.families.base import Condition, Family, Task
from recipes.guidance.panel import TeacherPanel
from recipes.schedule import Rungs


@dataclass(frozen=True)
class Batch:
    """One micro-batch: of one task and one shape, all randomness drawn beforehand."""

    task: Task
    condition: Condition
    """With target latents where the objective is not prompt-only."""
    noise_BCHW: Tensor
    """Where the rollout starts."""
    exits_B: Tensor | None
    """Exit rung per row, descending; None where the objective rolls nothing out."""
    renoise_t_B: Tensor | None
    """Level at which the sample is judged; None where the objective judges none."""
    renoise_BCHW: Tensor | None
    """Noise with which it is judged."""
    fresh: Callable[[int], Tensor] | None
    """Noise between rungs, for the re-noising rollout; None for ODE."""
    progress: float = 0.0
    """Share of the cycles done, in [0, 1)."""
    further: Callable[[str], tuple[Tensor, Tensor]] | None = None
    """Name of a stream of the objective's own -> uniforms (B,) float64 and noise (B, C, H, W)."""


@dataclass(frozen=True)
class Networks:
    """The roles at work."""

    family: Family
    student: nn.Module
    fake: nn.Module | None
    """None for objectives without a fake score."""
    teachers: TeacherPanel
    rungs: Rungs


@dataclass(frozen=True)
class StudentStep:
    """Result of the student's forward: its loss, its sample, and what to log."""

    loss: Tensor
    sample_BCHW: Tensor
    logs: dict[str, float]


class Objective(ABC):
    """Losses of one objective, made from its settings. Stateless unless `state_dict` says more."""

    def start(self, networks: Networks) -> Mapping[str, nn.Module]:
        """Called once before training; networks of its own by role, for the ledger."""
        return {}

    @abstractmethod
    def student_loss(self, batch: Batch, networks: Networks) -> StudentStep:
        """Loss whose gradient reaches the student only."""

    def fake_loss(self, batch: Batch, networks: Networks, sample_BCHW: Tensor | None) -> Tensor:
        """Loss whose gradient reaches the fake score only; `sample_BCHW` is reused when given."""
        raise AssertionError(f"{type(self).__name__} has no fake score to train")

    def after_student(self, networks: Networks) -> None:  # noqa: B027 (most have nothing to do)
        """Called after every student update."""

    @abstractmethod
    def forwards(self, rungs: int, scale: float) -> dict[str, float]:
        """Declared forwards of one cycle by role, in units of F; tests confirm them by hooks."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs beside the roles."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert not state, "a stateless objective was given state"
