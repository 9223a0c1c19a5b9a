"""Steps that objectives share: the student's sample with the gradient asked for, teacher paths.

Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from recipes.flow import clean_from_velocity, euler
from recipes.objectives.base import Batch, Networks
from recipes.objectives.settings import Gradient
from recipes.rollout import Velocity, to_end, to_exit


def velocity(networks: Networks, network: nn.Module, z: Tensor, t: Tensor, batch: Batch) -> Tensor:
    """Velocity (B, C, H, W) that a network predicts for the micro-batch's condition."""
    condition = batch.condition
    return networks.family.velocity(
        network, z, t, condition.text_BLD, condition.source_BCHW, condition.mask_BL
    )


def rung_levels(networks: Networks, rungs_B: Tensor, like: Tensor) -> Tensor:
    """Noise level (B,) of each row's rung; the rung after the last is 0."""
    return torch.tensor(networks.rungs.edges, dtype=like.dtype)[rungs_B]


def state_at_exit(
    batch: Batch, networks: Networks, state_BCHW: Tensor | None = None, first: int = 0
) -> Tensor:
    """The student's state at each row's exit rung, without gradient.

    Starts from the micro-batch's noise, or from `state_BCHW` at rung `first`.
    """
    start = batch.noise_BCHW if state_BCHW is None else state_BCHW
    rolling = _rolling(batch, networks)
    return to_exit(rolling, start, networks.rungs, batch.exits_B, batch.fresh, first)


def student_sample(
    batch: Batch,
    networks: Networks,
    gradient: Gradient | None,
    state_BCHW: Tensor | None = None,
    first: int = 0,
) -> Tensor:
    """Clean prediction x (B, C, H, W) of the student at each row's exit rung.

    Args:
        batch: exits and noise.
        networks: the student, and the rungs.
        gradient: None for none; through the forward at the exit rung; or through every rung from
            `first` to the end.
        state_BCHW: where to start, default the micro-batch's noise.
        first: rung of that state.
    """
    if gradient == "full_rollout":
        start = batch.noise_BCHW if state_BCHW is None else state_BCHW
        return to_end(_rolling(batch, networks), start, networks.rungs, batch.fresh, first)
    z = state_at_exit(batch, networks, state_BCHW, first)
    t = rung_levels(networks, batch.exits_B, z)
    with torch.set_grad_enabled(gradient is not None):
        return clean_from_velocity(z, velocity(networks, networks.student, z, t, batch), t)


@torch.no_grad()
def teacher_path(
    batch: Batch,
    networks: Networks,
    state_BCHW: Tensor,
    levels: Sequence[Tensor],
) -> Tensor:
    """State (B, C, H, W) after the guided panel's Euler steps through levels of (B,) each.

    One panel evaluation per step. The panel is asked for the student's rung that a level belongs
    to: the last one not below it.
    """
    z = state_BCHW
    rungs = torch.tensor(networks.rungs.levels, dtype=z.dtype)
    for t, s in pairwise(levels):
        rungs_B = (rungs[None, :] >= t[:, None]).sum(dim=1) - 1
        v = networks.teachers.velocity(z, t, batch.condition, rungs_B, batch.progress)
        z = euler(z, v, t, s)
    return z


def same_levels(levels: Sequence[float], like_BCHW: Tensor) -> list[Tensor]:
    """Levels for `teacher_path`, (B,) each, the same for every row."""
    return [like_BCHW.new_full((like_BCHW.shape[0],), level) for level in levels]


def _rolling(batch: Batch, networks: Networks) -> Velocity:
    def rolling(z: Tensor, t: Tensor, rows: Tensor | slice) -> Tensor:
        part = batch.condition.rows(rows)
        return networks.family.velocity(
            networks.student, z, t, part.text_BLD, part.source_BCHW, part.mask_BL
        )

    return rolling
