"""DMD in the DMD2 style without GAN: distribution matching on the student's own samples.

Equations 3-4 of Qwen-Image-Flash (arXiv 2606.03746) with the practical gradient of DMD2
(arXiv 2405.14867): x = x0 of the student at its exit rung, x_t = (1-t) x + t xi,
    grad = (x0_fake(x_t) - x0_teacher(x_t)) / mean|x - x0_teacher|      per sample
    L_student = 1/2 mean((x - sg(x - grad))^2),   L_fake = mean((v_fake(x_t) - (xi - x))^2).
Sign: descending L_student moves x towards the teacher's prediction. Prompt-only.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from recipes.flow import clean_from_velocity, interpolate
from recipes.objectives.base import Batch, Networks, StudentStep
from recipes.objectives.settings import Dmd
from recipes.rollout import to_exit

FLOOR = 1e-6
"""Smallest normaliser, against division by zero when student and teacher agree."""


class DmdObjective:
    """Distribution matching distillation; settings in `recipe.Dmd`."""

    prompt_only: ClassVar[bool] = True

    def __init__(self, settings: Dmd) -> None:
        self.settings = settings

    def student_loss(self, batch: Batch, networks: Networks) -> StudentStep:
        """Loss (scalar) and the student's sample (B, C, H, W), detached."""
        x = self._sample(batch, networks, grad=True)
        with torch.no_grad():
            t, xi = batch.renoise_t_B, batch.renoise_BCHW
            z = interpolate(x, xi, t)
            v_fake = _velocity(networks, networks.fake, z, t, batch)
            v_real = networks.teachers.velocity(
                z, t, batch.condition, batch.exits_B, batch.progress
            )
            x0_fake = clean_from_velocity(z, v_fake, t)
            x0_real = clean_from_velocity(z, v_real, t)
            grad = x0_fake - x0_real
            if self.settings.normaliser == "x0_teacher":
                scale = (x - x0_real).abs().mean(dim=(1, 2, 3), keepdim=True)
                grad = grad / scale.clamp_min(FLOOR)
            target = x - grad
        loss = 0.5 * (x - target).square().mean()
        logs = {
            "student_x0_mean": float(x.detach().mean()),
            "student_x0_std": float(x.detach().std()),
            "fake_teacher_gap": float((x0_fake - x0_real).abs().mean()),
        }
        return StudentStep(loss, x.detach(), logs)

    def fake_loss(self, batch: Batch, networks: Networks, sample_BCHW: Tensor | None) -> Tensor:
        """Flow-matching loss (scalar) of the fake score on student samples."""
        x = self._sample(batch, networks, grad=False) if sample_BCHW is None else sample_BCHW
        t, xi = batch.renoise_t_B, batch.renoise_BCHW
        v = _velocity(networks, networks.fake, interpolate(x, xi, t), t, batch)
        return (v - (xi - x)).square().mean()

    def forwards(self, rungs: int, scale: float) -> dict[str, float]:
        """Forwards of one cycle in F: early exit, guidance in one call, first sample reused."""
        k = self.settings.fake_updates
        rollout = (rungs - 1) / 2
        return {
            "student": rollout * k + (k - 1),
            "student.grad": 1.0,
            "fake": 1.0,
            "fake.grad": float(k),
            "teacher": 1.0 if scale == 1.0 else 2.0,
        }

    def _sample(self, batch: Batch, networks: Networks, *, grad: bool) -> Tensor:
        def rolling(z: Tensor, t: Tensor, rows: Tensor | slice) -> Tensor:
            part = batch.condition.rows(rows)
            return networks.family.velocity(networks.student, z, t, part.text_BLD, part.source_BCHW)

        z = to_exit(rolling, batch.noise_BCHW, networks.rungs, batch.exits_B, batch.fresh)
        t = torch.tensor(networks.rungs.levels, dtype=z.dtype)[batch.exits_B]
        with torch.set_grad_enabled(grad):
            v = _velocity(networks, networks.student, z, t, batch)
            return clean_from_velocity(z, v, t)


def _velocity(networks: Networks, network: nn.Module, z: Tensor, t: Tensor, batch: Batch) -> Tensor:
    condition = batch.condition
    return networks.family.velocity(network, z, t, condition.text_BLD, condition.source_BCHW)
