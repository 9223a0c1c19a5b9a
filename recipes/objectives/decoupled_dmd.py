"""Decoupled DMD (arXiv 2511.22677): matching and guidance judged at noise levels of their own.

With guidance alpha the gradient of DMD is the sum of two terms that need not share a level:
    DM = x0_fake(x_tau) - x0_cond(x_tau),        tau over the whole range
    CA = (alpha - 1) (x0_uncond(x_tau') - x0_cond(x_tau')),   tau' cleaner than the student's rung
    grad = DM / N + CA / N',   L_student = 1/2 mean((x - sg(x - grad))^2).
DM is unguided; CA, the classifier-free-guidance augmentation, is how far guidance moves the
teacher. Without normaliser and with tau' = tau and the same noise it is DMD's guided gradient
(tested). N and N' are DMD's normaliser at each level, against the conditional and the guided
teacher; the paper leaves constants open. The fake score learns over the whole range. Prompt-only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recipes.flow import clean_from_velocity, interpolate
from recipes.objectives import counts
from recipes.objectives.base import Batch, Networks, StudentStep
from recipes.objectives.matching import MatchingObjective, along, sample_logs
from recipes.objectives.on_policy import rung_levels, student_sample, velocity
from recipes.objectives.settings import DecoupledDmd
from recipes.schedule import shifted


class DecoupledDmdObjective(MatchingObjective):
    """Decoupled DMD; settings in `settings.DecoupledDmd`."""

    settings: DecoupledDmd

    def student_loss(self, batch: Batch, networks: Networks) -> StudentStep:
        """Loss (scalar) and the student's sample (B, C, H, W), detached."""
        x = student_sample(batch, networks, self.settings.gradient)
        dm, gap = self._matching_term(x, batch, networks)
        ca = self._augmentation_term(x, batch, networks)
        logs = sample_logs(x) | {
            "fake_teacher_gap": gap,
            "augmentation_share": _share(ca, dm),
        }
        return StudentStep(along(x, dm + ca), x.detach(), logs)

    @torch.no_grad()
    def _matching_term(self, x: Tensor, batch: Batch, networks: Networks) -> tuple[Tensor, float]:
        t = batch.renoise_t_B
        z = interpolate(x, batch.renoise_BCHW, t)
        x0_fake = clean_from_velocity(z, velocity(networks, networks.fake, z, t, batch), t)
        v = networks.teachers.conditional(z, t, batch.condition, batch.exits_B, batch.progress)
        x0_cond = clean_from_velocity(z, v, t)
        grad = self.normalised(x0_fake - x0_cond, x, z, x0_cond)
        return grad, float((x0_fake - x0_cond).abs().mean())

    @torch.no_grad()
    def _augmentation_term(self, x: Tensor, batch: Batch, networks: Networks) -> Tensor:
        uniform_B, xi = batch.further("augmentation")
        t = self._levels(uniform_B, batch, networks).to(x.dtype)
        z = interpolate(x, xi, t)
        v_cond, v_guided = networks.teachers.conditional_and_guided(
            z, t, batch.condition, batch.exits_B, batch.progress
        )
        x0_guided = clean_from_velocity(z, v_guided, t)
        # x0_guided = x0_uncond + alpha (x0_cond - x0_uncond), so this is CA, from one call, and
        # right for panels whose teachers have scales of their own.
        grad = clean_from_velocity(z, v_cond, t) - x0_guided
        return self.normalised(grad, x, z, x0_guided)

    def _levels(self, uniform_B: Tensor, batch: Batch, networks: Networks) -> Tensor:
        """Levels (B,) of the augmentation: those of `renoise`, squeezed below each row's rung."""
        where = self.settings.renoise
        t = shifted(where.low + (where.high - where.low) * uniform_B, where.shift)
        if not self.settings.ca_below_rung:
            return t
        lowest, highest = where.lowest, shifted(where.high, where.shift)
        top = rung_levels(networks, batch.exits_B, t).clamp_max(highest)
        return lowest + (t - lowest) * (top - lowest) / (highest - lowest)

    def forwards(self, rungs: int, scale: float) -> dict[str, float]:
        """Forwards of one cycle in F: the teacher unguided for one term, guided for the other."""
        return counts.decoupled_dmd(self.settings, rungs, scale)


def _share(ca: Tensor, dm: Tensor) -> float:
    """Norm of the augmentation in the sum of both norms, in [0, 1]; 0 where both vanish.

    A ratio would be infinite before the first update of a fake score that was not warmed up.
    """
    both = (ca.norm() + dm.norm()).clamp_min(torch.finfo(ca.dtype).tiny)
    return float(ca.norm() / both)
