"""DMD in the DMD2 style without GAN: distribution matching on the student's own samples.

The gradient and the fake loss are those of `matching`; x is the student's clean prediction at its
exit rung, or the end of its full rollout. Optional regression on pairs (DMD, arXiv 2311.18828):
    L_student + w mean((x - y)^2),   y the guided teacher's ODE sample from the noise behind x.
DMD measures the pair by LPIPS, which needs pixels; latents have squared error. Its pairs are made
as training goes, so that it stays prompt-only like the rest.
"""

from __future__ import annotations

from dataclasses import replace

from recipes.objectives import counts
from recipes.objectives.base import Batch, Networks, StudentStep
from recipes.objectives.matching import MatchingObjective, along
from recipes.objectives.on_policy import same_levels, student_sample, teacher_path
from recipes.objectives.settings import Dmd
from recipes.schedule import Rungs


class DmdObjective(MatchingObjective):
    """Distribution matching distillation; settings in `settings.Dmd`."""

    settings: Dmd

    def student_loss(self, batch: Batch, networks: Networks) -> StudentStep:
        """Loss (scalar) and the student's sample (B, C, H, W), detached."""
        x = student_sample(batch, networks, self.settings.gradient)
        grad, logs = self.matching(x, batch, networks)
        found = StudentStep(along(x, grad), x.detach(), logs)
        regression = self.settings.regression
        if regression.weight == 0:
            return found
        edges = Rungs(regression.teacher_steps, networks.rungs.shift).edges
        levels = same_levels(edges, batch.noise_BCHW)
        y = teacher_path(batch, networks, batch.noise_BCHW, levels)
        error = (x - y).square().mean()
        return replace(
            found,
            loss=found.loss + regression.weight * error,
            logs=logs | {"regression": float(error.detach())},
        )

    def forwards(self, rungs: int, scale: float) -> dict[str, float]:
        """Forwards of one cycle in F: early exit, guidance in one call, first sample reused."""
        return counts.dmd(self.settings, rungs, scale)
