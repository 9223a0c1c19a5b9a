"""Decoupled DMD against a plain reading, and against DMD where both terms share a level."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recipes.objectives.decoupled_dmd import DecoupledDmdObjective
from recipes.objectives.dmd import DmdObjective
from recipes.objectives.settings import DecoupledDmd, Dmd
from tests.recipes.plain import (
    LEVELS,
    assert_same_gradient,
    batch_for,
    networks,
    rows,
    toward,
)

SCALE = 2.5


def _shifted(u: float) -> float:
    u = 0.02 + 0.96 * u
    return 2.5 * u / (1 + 1.5 * u)


@pytest.mark.parametrize("below", [True, False])
@pytest.mark.parametrize("normaliser", ["none", "x0_teacher"])
def test_student_gradient_is_matching_plus_augmentation(below: bool, normaliser: str):
    fields = {"name": "decoupled_dmd", "ca_below_rung": below, "normaliser": normaliser}
    batch, nets = batch_for(fields, "edit"), networks(SCALE)
    uniform, noise = batch.further("augmentation")

    def plain(student):
        total = 0.0
        for row in rows(batch, nets, student, SCALE):
            z = row.noise
            for i in range(row.exit):
                z = row.step(z, row.student(z, LEVELS[i]), i).detach()
            x = z - LEVELS[row.exit] * row.student(z, LEVELS[row.exit])
            z = ((1 - row.tau) * x + row.tau * row.xi).detach()
            cond = z - row.tau * row.teacher(z, row.tau)
            dm = (z - row.tau * row.fake(z, row.tau)) - cond
            t = _shifted(float(uniform[row.i]))
            if below:
                low, high = _shifted(0.0), _shifted(1.0)
                top = min(high, LEVELS[row.exit])
                t = low + (t - low) * (top - low) / (high - low)
                assert t <= LEVELS[row.exit]
            z = ((1 - t) * x + t * noise[row.i : row.i + 1]).detach()
            c, u = z - t * row.teacher(z, t), z - t * row.teacher(z, t, empty=True)
            ca = (SCALE - 1) * (u - c)
            if normaliser == "x0_teacher":
                dm = dm / (x - cond).abs().mean()
                ca = ca / (x - (u + SCALE * (c - u))).abs().mean()
            total = total + toward(x, (dm + ca).detach())
        return total / batch.noise_BCHW.numel()

    step = DecoupledDmdObjective(DecoupledDmd(**fields)).student_loss(batch, nets)
    assert_same_gradient(step.loss, nets, plain)


def test_at_one_shared_level_it_is_dmd():
    """The split only regroups DMD's guided gradient: same level, same noise, same sum."""
    batch, nets = batch_for({"name": "decoupled_dmd"}), networks(SCALE)
    t = batch.renoise_t_B / (2.5 - 1.5 * batch.renoise_t_B)  # undo the shift
    uniform = (t - 0.02) / 0.96
    shared = replace(batch, further=lambda _stream: (uniform, batch.renoise_BCHW))
    decoupled = DecoupledDmdObjective(DecoupledDmd(ca_below_rung=False, normaliser="none"))
    dmd = DmdObjective(Dmd(normaliser="none"))
    gradients = []
    for objective in (decoupled, dmd):
        nets.student.zero_grad(set_to_none=True)
        objective.student_loss(shared, nets).loss.backward()
        gradients.append([p.grad for p in nets.student.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
