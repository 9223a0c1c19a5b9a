"""Rollout: the student's own few-step path, for sampling and for training on it.

Backward simulation (DMD2): a sample stops at its exit rung, where one more forward, with gradient,
predicts the clean image. Rows leave as soon as they exit, so no forward is spent beyond it.
A full rollout keeps the graph of every rung instead.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recipes.flow import clean_from_velocity, euler, interpolate
from recipes.schedule import Rungs

Velocity = Callable[[Tensor, Tensor, "Tensor | slice"], Tensor]
"""(z of some rows, t of those rows, which rows) -> velocity."""


def stratified_exits(batch_size: int, count: int, offset: int) -> Tensor:
    """Exit rung of each row, (B,) int64 in [0, count): every rung as equally often as B allows.

    `offset` rotates who gets the surplus when count does not divide B. Sorted from late to early,
    so that the rows still rolling are always a prefix.
    """
    exits = torch.tensor([(i + offset) % count for i in range(batch_size)])
    return exits.sort(descending=True).values


def step(z: Tensor, v: Tensor, t: Tensor, s: Tensor, fresh: Tensor | None) -> Tensor:
    """From level t to s < t: an Euler step, or the clean prediction re-noised with `fresh`."""
    if fresh is None:
        return euler(z, v, t, s)
    return interpolate(clean_from_velocity(z, v, t), fresh, s)


def to_exit(
    velocity: Velocity,
    state_BCHW: Tensor,
    rungs: Rungs,
    exits_B: Tensor,
    fresh: Callable[[int], Tensor] | None = None,
    first: int = 0,
) -> Tensor:
    """State of every row at its exit rung, without gradient.

    Args:
        velocity: student velocity of a prefix of rows.
        state_BCHW: the state at rung `first`; pure noise at rung 0.
        rungs: the noise levels.
        exits_B: exit rung per row, descending.
        fresh: None for ODE steps; else `fresh(i)` gives noise (B, C, H, W) for the step to rung i,
            and the clean prediction is re-noised with it (DMD2's stochastic rule).
        first: rung to start from; no row may exit before it.
    """
    assert bool((exits_B[:-1] >= exits_B[1:]).all()), "rows must be sorted by exit, late first"
    assert int(exits_B.min()) >= first, "a row exits before the first rung"
    state = state_BCHW.clone()
    levels = rungs.levels
    with torch.no_grad():
        for i in range(first, int(exits_B.max())):
            rolling = int((exits_B > i).sum())
            rows = slice(0, rolling)
            z = state[rows]
            t = torch.full((rolling,), levels[i], dtype=state.dtype)
            s = torch.full((rolling,), levels[i + 1], dtype=state.dtype)
            noise = None if fresh is None else fresh(i + 1)[rows]
            state[rows] = step(z, velocity(z, t, rows), t, s, noise)
    return state


def to_end(
    velocity: Velocity,
    state_BCHW: Tensor,
    rungs: Rungs,
    fresh: Callable[[int], Tensor] | None = None,
    first: int = 0,
) -> Tensor:
    """Clean latents after all rungs from `first` on, (B, C, H, W), with the caller's gradient.

    One evaluation per rung, ODE unless `fresh`; the graph of every rung is kept.
    """
    z = state_BCHW
    edges = rungs.edges
    rows = slice(0, z.shape[0])
    for i in range(first, rungs.count):
        t = torch.full((z.shape[0],), edges[i], dtype=z.dtype)
        s = torch.full((z.shape[0],), edges[i + 1], dtype=z.dtype)
        # The last step ends at level 0, where no noise would be left of what is added.
        noise = None if fresh is None or i + 1 == rungs.count else fresh(i + 1)
        z = step(z, velocity(z, t, rows), t, s, noise)
    return z


@torch.no_grad()
def sample(
    velocity: Velocity,
    noise_BCHW: Tensor,
    rungs: Rungs,
    fresh: Callable[[int], Tensor] | None = None,
) -> Tensor:
    """Latents after all rungs, (B, C, H, W), without gradient; ODE unless `fresh`."""
    return to_end(velocity, noise_BCHW, rungs, fresh)
