"""Flow-matching algebra on the linear path, in float32 (tests use float64).

z_t = (1 - t) x + t eps with t=1 noise (Qwen-Image-Flash, Eq. 1); the network predicts the velocity
v = eps - x (Eq. 2), hence x0 = z_t - t v. Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _like(t_B: Tensor, x_BCHW: Tensor) -> Tensor:
    return t_B.to(x_BCHW.dtype).view(-1, *([1] * (x_BCHW.dim() - 1)))


def interpolate(x_BCHW: Tensor, noise_BCHW: Tensor, t_B: Tensor) -> Tensor:
    """Point on the path: (1 - t) x + t eps."""
    t = _like(t_B, x_BCHW)
    return (1 - t) * x_BCHW + t * noise_BCHW


def clean_from_velocity(z_BCHW: Tensor, v_BCHW: Tensor, t_B: Tensor) -> Tensor:
    """Clean prediction x0 = z_t - t v."""
    return z_BCHW - _like(t_B, z_BCHW) * v_BCHW


def euler(z_BCHW: Tensor, v_BCHW: Tensor, t_B: Tensor, s_B: Tensor) -> Tensor:
    """One ODE step from level t to level s < t: z + (s - t) v."""
    return z_BCHW + _like(s_B - t_B, z_BCHW) * v_BCHW


def guided(v_cond: Tensor, v_uncond: Tensor, scale: float) -> Tensor:
    """Standard classifier-free guidance v_u + w (v_c - v_u); w=1 is v_c exactly."""
    if scale == 1.0:
        return v_cond
    return torch.lerp(v_uncond, v_cond, scale)
