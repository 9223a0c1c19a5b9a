"""Consistency distillation (LCM, arXiv 2310.04378): one prediction all along the teacher's path.

Clean latents x, noise xi, neighbouring levels t > r of the teacher's grid, f(z, t) = z - t v(z, t):
    z_t = (1-t) x + t xi,   z_r = z_t + (r - t) v_teacher(z_t, t)      guided
    L = mean(d(f(z_t, t) - sg f'(z_r, r))),   d(e) = sqrt(e^2 + c^2) - c, or e^2 at c = 0.
f' is the student itself (arXiv 2310.14189) or its moving average (LCM); f(z, 0) = z by form. The
student samples by predicting and re-noising. Needs target images, unless teacher samples stand in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recipes.ema import Ema
from recipes.flow import clean_from_velocity, interpolate
from recipes.objectives import counts
from recipes.objectives.base import Batch, Networks, Objective, StudentStep
from recipes.objectives.matching import sample_logs
from recipes.objectives.on_policy import same_levels, teacher_path, velocity
from recipes.objectives.settings import Consistency
from recipes.schedule import Rungs


class ConsistencyObjective(Objective):
    """Consistency distillation; settings in `settings.Consistency`. Its state: the target's EMA."""

    def __init__(self, settings: Consistency) -> None:
        self.settings = settings
        self._target: Ema | None = None

    def start(self, networks: Networks) -> Mapping[str, nn.Module]:
        """Makes the moving average, where one is asked for."""
        if self.settings.target_decay == 0:
            return {}
        self._target = Ema(networks.student, self.settings.target_decay)
        return {"target": self._target.module}

    def student_loss(self, batch: Batch, networks: Networks) -> StudentStep:
        """Loss (scalar) and the student's clean prediction (B, C, H, W), detached."""
        uniform_B, xi = batch.further("grid")
        edges = torch.tensor(self._grid(networks).edges, dtype=xi.dtype)
        index_B = (uniform_B * self.settings.grid).long()
        t, r = edges[index_B], edges[index_B + 1]
        z_t = interpolate(self._clean(batch, networks), xi, t)
        z_r = teacher_path(batch, networks, z_t, [t, r])
        f = clean_from_velocity(z_t, velocity(networks, networks.student, z_t, t, batch), t)
        with torch.no_grad():
            # The goal is held still (sg): training both sides towards each other would collapse
            # them.
            network = networks.student if self._target is None else self._target.module
            goal = clean_from_velocity(z_r, velocity(networks, network, z_r, r, batch), r)
        c = self.settings.huber
        squared = (f - goal).square()
        loss = squared.mean() if c == 0 else ((squared + c * c).sqrt() - c).mean()
        return StudentStep(loss, f.detach(), sample_logs(f))

    def after_student(self, networks: Networks) -> None:
        """Moves the target's average."""
        if self._target is not None:
            self._target.update(networks.student)

    def _grid(self, networks: Networks) -> Rungs:
        return Rungs(self.settings.grid, networks.rungs.shift)

    def _clean(self, batch: Batch, networks: Networks) -> Tensor:
        if self.settings.clean == "data":
            return batch.condition.target_BCHW
        eps = batch.noise_BCHW
        return teacher_path(batch, networks, eps, same_levels(self._grid(networks).edges, eps))

    def forwards(self, rungs: int, scale: float) -> dict[str, float]:
        """Forwards of one cycle in F; teacher samples cost one guided evaluation a grid level."""
        return counts.consistency(self.settings, scale)

    def state_dict(self) -> dict[str, Any]:
        """The target's weights."""
        return {} if self._target is None else {"target": self._target.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        if self._target is not None:
            self._target.load_state_dict(state["target"])
