"""TeacherPanel: frozen teachers, guided and mixed by velocity.

Scores are affine in velocity with the same coefficients for every teacher, and the weights sum to
one, so mixing velocities equals mixing scores (Qwen-Image-Flash, Eqs. 5-6; tested).
Teachers of weight zero are not run.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recipes.families.base import Condition, Family
from recipes.flow import guided


class TeacherPanel:
    """Guided velocity of a convex mixture of frozen teachers."""

    def __init__(
        self,
        family: Family,
        networks: Mapping[str, nn.Module],
        shares: Mapping[str, float],
        scale: float,
    ) -> None:
        total = sum(shares.values())
        if total <= 0 or min(shares.values()) < 0:
            raise ValueError(f"teacher shares {dict(shares)} must be >= 0 and sum to more than 0")
        self.family = family
        self.members = [(networks[n], s / total) for n, s in shares.items() if s > 0]
        self.scale = scale
        for network, _ in self.members:
            network.requires_grad_(False).eval()

    @torch.no_grad()
    def velocity(
        self,
        z_BCHW: Tensor,
        t_B: Tensor,
        condition: Condition,
        rungs_B: Tensor | None = None,
        progress: float = 0.0,
    ) -> Tensor:
        """Guided velocity (B, C, H, W); conditional and empty prompt go through one call.

        Args:
            z_BCHW: states.
            t_B: their noise levels.
            condition: what is asked, with labels where teachers are routed by condition.
            rungs_B: the student's exit rung of each row (the paper's step index, first reading).
            progress: share of the cycles done (second reading).
        """
        mixed = torch.zeros_like(z_BCHW)
        for network, share in self.members:
            mixed += share * self._guided(network, z_BCHW, t_B, condition)
        return mixed

    @torch.no_grad()
    def conditional(
        self,
        z_BCHW: Tensor,
        t_B: Tensor,
        condition: Condition,
        rungs_B: Tensor | None = None,
        progress: float = 0.0,
    ) -> Tensor:
        """Unguided velocity (B, C, H, W), as `velocity` at scale 1: one forward a teacher."""
        mixed = torch.zeros_like(z_BCHW)
        for network, share in self.members:
            mixed += share * self._conditional(network, z_BCHW, t_B, condition)
        return mixed

    @torch.no_grad()
    def conditional_and_guided(
        self,
        z_BCHW: Tensor,
        t_B: Tensor,
        condition: Condition,
        rungs_B: Tensor | None = None,
        progress: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """`conditional` and `velocity` from the same call: two forwards a teacher."""
        mixed, mixed_guided = torch.zeros_like(z_BCHW), torch.zeros_like(z_BCHW)
        for network, share in self.members:
            v_cond, v_uncond = self._both(network, z_BCHW, t_B, condition)
            mixed += share * v_cond
            mixed_guided += share * guided(v_cond, v_uncond, self.scale)
        return mixed, mixed_guided

    def _guided(self, network: nn.Module, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        if self.scale == 1.0:
            return self._conditional(network, z, t, condition)
        v_cond, v_uncond = self._both(network, z, t, condition)
        return guided(v_cond, v_uncond, self.scale)

    def _conditional(
        self, network: nn.Module, z: Tensor, t: Tensor, condition: Condition
    ) -> Tensor:
        return self.family.velocity(network, z, t, condition.text_BLD, condition.source_BCHW)

    def _both(
        self, network: nn.Module, z: Tensor, t: Tensor, condition: Condition
    ) -> tuple[Tensor, Tensor]:
        source = condition.source_BCHW
        both = self.family.velocity(
            network,
            torch.cat([z, z]),
            torch.cat([t, t]),
            torch.cat([condition.text_BLD, condition.empty_BLD]),
            None if source is None else torch.cat([source, source]),
        )
        v_cond, v_uncond = both.chunk(2)
        return v_cond, v_uncond
