"""Algebra of the linear path, rungs against diffusers, guidance conventions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recipes.flow import clean_from_velocity, euler, guided, interpolate
from recipes.schedule import Rungs, shifted


def _sample(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_velocity_leads_back_to_the_clean_image():
    x, eps = _sample(5, 2, 3, 3), _sample(5, 2, 3, 3).flip(0)
    t = torch.linspace(0.1, 1, 5, dtype=torch.float64)
    z = interpolate(x, eps, t)
    torch.testing.assert_close(clean_from_velocity(z, eps - x, t), x)
    s = t / 2
    torch.testing.assert_close(euler(z, eps - x, t, s), interpolate(x, eps, s))


def test_scale_one_is_conditional_only_bit_for_bit():
    c, u = _sample(2, 1, 2, 2), _sample(2, 1, 2, 2) + 1
    assert torch.equal(guided(c, u, 1.0), c)
    torch.testing.assert_close(guided(c, u, 3.0), u + 3.0 * (c - u))
    torch.testing.assert_close(guided(c, u, 0.0), u)


@pytest.mark.parametrize(("count", "shift"), [(4, 3.0), (1, 3.0), (8, 1.0), (20, 5.0)])
def test_rungs_equal_the_diffusers_scheduler(count: int, shift: float):
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / count, count))
    ours = Rungs(count, shift).edges
    np.testing.assert_allclose(scheduler.sigmas.numpy(), ours, rtol=1e-6)
    np.testing.assert_allclose(scheduler.timesteps.numpy() / 1000, ours[:-1], rtol=1e-6)


def test_named_rungs():
    assert Rungs(4, 3.0).levels == pytest.approx((1.0, 0.9, 0.75, 0.5))
    assert shifted(0.3, 1.0) == pytest.approx(0.3)
