"""How strongly each row is guided, and the guided velocity.

Legend: B batch, N some rows of it, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recipes.flow import clean_from_velocity, guided
from recipes.guidance.settings import Guidance

FLOOR = 1e-12
"""Smallest standard deviation divided by."""


def scales_of(
    guidance: Guidance, t_B: Tensor, rungs_B: Tensor | None, own_scale: float | None = None
) -> Tensor:
    """Guidance scale of each row, (B,) float64; 1 outside the interval.

    Args:
        guidance: settings.
        t_B: noise levels at which the rows are judged; compared in their own precision.
        rungs_B: exit rungs, needed where scales are given by rung.
        own_scale: a teacher's own scale, in the place of `scale`, `by_rung` and `by_level`.
    """
    exact = {"dtype": torch.float64, "device": t_B.device}
    if own_scale is not None:
        scale_B = torch.full(t_B.shape, own_scale, **exact)
    elif guidance.by_rung is not None:
        assert rungs_B is not None, "guidance.by_rung needs the exit rung of every row"
        scale_B = torch.tensor(guidance.by_rung, **exact)[rungs_B.to(t_B.device)]
    elif guidance.by_level is not None:
        pieces = sorted(guidance.by_level.values(), key=lambda piece: piece.below)
        bounds = t_B.new_tensor([piece.below for piece in pieces[:-1]])
        index_B = torch.bucketize(t_B, bounds, right=True)
        scale_B = torch.tensor([piece.scale for piece in pieces], **exact)[index_B]
    else:
        scale_B = torch.full(t_B.shape, guidance.scale, **exact)
    if guidance.interval is None:
        return scale_B
    inside_B = (t_B >= guidance.interval.low) & (t_B <= guidance.interval.high)
    return torch.where(inside_B, scale_B, 1.0)


def guided_rows(
    z_NCHW: Tensor, t_N: Tensor, v_cond: Tensor, v_uncond: Tensor, scale_N: Tensor, rescale: float
) -> Tensor:
    """Guided velocity v_u + w (v_c - v_u), rescaled by `rescale` = phi.

    Lin et al. (arXiv 2305.08891, Eqs. 15-16), on the clean prediction x0 = z - t v rather than on
    the network's output, because what over-guidance inflates is the contrast of the picture:
        x0 = r x0_guided,   r = phi std(x0_cond) / std(x0_guided) + 1 - phi      per row
    which in velocity, without dividing x0 by a small t, is v = r v_guided + (1 - r) z / t.
    """
    if bool((scale_N == scale_N[0]).all()):
        v = guided(v_cond, v_uncond, float(scale_N[0]))
    else:
        v = torch.lerp(v_uncond, v_cond, scale_N.to(v_cond).view(-1, 1, 1, 1))
    if rescale == 0.0:
        return v
    wanted, given = (
        clean_from_velocity(z_NCHW, velocity, t_N).std(dim=(1, 2, 3), keepdim=True)
        for velocity in (v_cond, v)
    )
    # So phi is not comparable with diffusers' `guidance_rescale`, which acts on the output: a
    # velocity is mostly noise.
    r = rescale * wanted / given.clamp_min(FLOOR) + 1 - rescale
    return r * v + (1 - r) * z_NCHW / t_N.to(z_NCHW.dtype).view(-1, 1, 1, 1)
