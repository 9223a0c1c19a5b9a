"""On-policy velocity regression: the student learns the teacher's velocity where it goes itself.

In the manner of DanceOPD (arXiv 2606.27377), the rival of mixing scores of several teachers. The
student rolls out without gradient to the state z at its exit rung t; s is the next level, and
    L = mean((v(z, t) - (z - z_s) / (t - s))^2),
where z_s is the guided panel's ODE from z in m steps. m = 1, as published, is the panel's velocity
at z; larger m teaches the mean velocity of the step that the student takes. Prompt-only.
"""

from __future__ import annotations

from recipes.flow import clean_from_velocity
from recipes.objectives import counts
from recipes.objectives.base import Batch, Networks, Objective, StudentStep
from recipes.objectives.matching import sample_logs
from recipes.objectives.on_policy import (
    rung_levels,
    state_at_exit,
    teacher_path,
    velocity,
)
from recipes.objectives.settings import VelocityRegression


class VelocityRegressionObjective(Objective):
    """Regression of velocities on the student's own states; settings in `VelocityRegression`."""

    def __init__(self, settings: VelocityRegression) -> None:
        self.settings = settings

    def student_loss(self, batch: Batch, networks: Networks) -> StudentStep:
        """Loss (scalar) and the student's clean prediction (B, C, H, W), detached."""
        z = state_at_exit(batch, networks)
        t = rung_levels(networks, batch.exits_B, z)
        s = rung_levels(networks, batch.exits_B + 1, z)
        m = self.settings.teacher_steps
        levels = [t + (s - t) * (i / m) for i in range(m)] + [s]
        z_s = teacher_path(batch, networks, z, levels)
        goal = (z - z_s) / (t - s).view(-1, 1, 1, 1)
        v = velocity(networks, networks.student, z, t, batch)
        loss = (v - goal).square().mean()
        x = clean_from_velocity(z, v.detach(), t)
        return StudentStep(loss, x, sample_logs(x))

    def forwards(self, rungs: int, scale: float) -> dict[str, float]:
        """Forwards of one cycle in F: rollout with early exit, no fake score."""
        return counts.velocity_regression(self.settings, rungs, scale)
