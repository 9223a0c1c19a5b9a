"""What the DMD family shares: the matching gradient on a student sample, and the fake score's loss.

Equations 3-4 of Qwen-Image-Flash (arXiv 2606.03746) with the practical gradient of DMD2
(arXiv 2405.14867): x a student sample, x_t = (1-t) x + t xi,
    grad = (x0_fake(x_t) - x0_teacher(x_t)) / N                         per sample
    L_student = 1/2 mean((x - sg(x - grad))^2),   L_fake = mean((v_fake(x_t) - (xi - x))^2).
Sign: descending L_student moves x towards the teacher's prediction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recipes.flow import clean_from_velocity, interpolate
from recipes.objectives.base import Batch, Networks, Objective
from recipes.objectives.on_policy import student_sample, velocity
from recipes.objectives.settings import Matching

FLOOR = 1e-6
"""Smallest normaliser, against division by zero when student and teacher agree."""


def along(x: Tensor, grad: Tensor) -> Tensor:
    """Loss (scalar) whose gradient with respect to x is grad / numel."""
    return 0.5 * (x - (x - grad).detach()).square().mean()


class MatchingObjective(Objective):
    """Matching gradient and fake loss; a member adds how its student samples and what else."""

    def __init__(self, settings: Matching) -> None:
        self.settings = settings

    def fake_loss(self, batch: Batch, networks: Networks, sample_BCHW: Tensor | None) -> Tensor:
        """Flow-matching loss (scalar) of the fake score on student samples."""
        x = student_sample(batch, networks, None) if sample_BCHW is None else sample_BCHW
        t, xi = batch.renoise_t_B, batch.renoise_BCHW
        v = velocity(networks, networks.fake, interpolate(x, xi, t), t, batch)
        return (v - (xi - x)).square().mean()

    @torch.no_grad()
    def matching(
        self, x: Tensor, batch: Batch, networks: Networks
    ) -> tuple[Tensor, dict[str, float]]:
        """DMD's gradient on a sample (B, C, H, W), against the guided panel; and what to log."""
        t = batch.renoise_t_B
        z = interpolate(x, batch.renoise_BCHW, t)
        v_fake = velocity(networks, networks.fake, z, t, batch)
        v_real = networks.teachers.velocity(z, t, batch.condition, batch.exits_B, batch.progress)
        x0_fake = clean_from_velocity(z, v_fake, t)
        x0_real = clean_from_velocity(z, v_real, t)
        grad = self.normalised(x0_fake - x0_real, x, z, x0_real)
        return grad, sample_logs(x) | {"fake_teacher_gap": float((x0_fake - x0_real).abs().mean())}

    def normalised(self, grad: Tensor, x: Tensor, z: Tensor, x0_teacher: Tensor) -> Tensor:
        """The gradient over its per-sample normaliser."""
        if self.settings.normaliser == "none":
            return grad
        near = x if self.settings.normaliser == "x0_teacher" else z
        scale = (near - x0_teacher).abs().mean(dim=(1, 2, 3), keepdim=True)
        return grad / scale.clamp_min(FLOOR)


def sample_logs(x: Tensor) -> dict[str, float]:
    """Mean and spread of a sample, signs of collapse and of over-saturation."""
    return {"student_x0_mean": float(x.detach().mean()), "student_x0_std": float(x.detach().std())}
