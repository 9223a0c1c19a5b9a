"""DP-DMD (arXiv 2602.03139): the first step keeps the teacher's diversity, the others match.

From the noise eps the guided teacher runs K of its N ODE steps to z_tau; with the student's first
velocity v1 = v(eps, 1),
    L = L_DMD(x) + lambda mean((v1 - (eps - z_tau) / (1 - tau))^2),
where x starts from the state after step 1, detached: matching never touches the first step.
As published the gradient of L_DMD runs through all later rungs; at a selected rung it runs through
one of them. The published code normalises by mean |x_t - x0_teacher|. Prompt-only.
"""

from __future__ import annotations

from torch import Tensor

from recipes.objectives import counts
from recipes.objectives.base import Batch, Networks, StudentStep
from recipes.objectives.matching import MatchingObjective, along
from recipes.objectives.on_policy import (
    same_levels,
    student_sample,
    teacher_path,
    velocity,
)
from recipes.objectives.settings import DpDmd
from recipes.rollout import step
from recipes.schedule import Rungs


class DpDmdObjective(MatchingObjective):
    """Diversity-preserved DMD; settings in `settings.DpDmd`."""

    settings: DpDmd

    def student_loss(self, batch: Batch, networks: Networks) -> StudentStep:
        """Loss (scalar) and the student's sample (B, C, H, W), detached."""
        eps = batch.noise_BCHW
        t, s = same_levels(networks.rungs.edges[:2], eps)
        v1 = velocity(networks, networks.student, eps, t, batch)
        fresh = None if batch.fresh is None else batch.fresh(1)
        after = step(eps, v1.detach(), t, s, fresh)
        x = student_sample(batch, networks, self.settings.gradient, after, first=1)
        grad, logs = self.matching(x, batch, networks)
        diversity = (v1 - self._anchor(batch, networks)).square().mean()
        loss = along(x, grad) + self.settings.diversity_weight * diversity
        return StudentStep(loss, x.detach(), logs | {"diversity": float(diversity.detach())})

    def _anchor(self, batch: Batch, networks: Networks) -> Tensor:
        """Mean velocity (B, C, H, W) of the teacher from the noise to its K-th state."""
        eps = batch.noise_BCHW
        whole = Rungs(self.settings.teacher_steps, networks.rungs.shift).edges
        run = whole[: self.settings.anchor_steps + 1]
        z_tau = teacher_path(batch, networks, eps, same_levels(run, eps))
        return (eps - z_tau) / (1 - run[-1])

    def forwards(self, rungs: int, scale: float) -> dict[str, float]:
        """Forwards of one cycle in F: DMD's, and K guided teacher steps for the anchor."""
        return counts.dp_dmd(self.settings, rungs, scale)
