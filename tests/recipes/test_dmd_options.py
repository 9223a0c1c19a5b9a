"""DMD's options against plain readings: full rollout, normalisers, regression on teacher pairs."""

from __future__ import annotations

import pytest

from recipes.objectives.dmd import DmdObjective
from recipes.objectives.settings import Dmd
from tests.recipes.plain import (
    LEVELS,
    assert_same_gradient,
    batch_for,
    dmd_gradient,
    grid,
    networks,
    rows,
    toward,
)

SCALE = 2.5


@pytest.mark.parametrize("rollout", ["ode", "renoise"])
@pytest.mark.parametrize("normaliser", ["none", "x0_teacher", "xt_teacher"])
def test_full_rollout_differentiates_every_rung(rollout: str, normaliser: str):
    fields = {"gradient": "full_rollout", "rollout": rollout, "normaliser": normaliser}
    batch, nets = batch_for(fields, "edit"), networks(SCALE)
    assert batch.exits_B.tolist() == [3] * 8

    def plain(student):
        total = 0.0
        for row in rows(batch, nets, student, SCALE):
            z = row.noise
            for i in range(3):
                z = row.step(z, row.student(z, LEVELS[i]), i)
            x = z - LEVELS[3] * row.student(z, LEVELS[3])
            total = total + toward(x, dmd_gradient(row, x, normaliser))
        return total / batch.noise_BCHW.numel()

    step = DmdObjective(Dmd(**fields)).student_loss(batch, nets)
    assert_same_gradient(step.loss, nets, plain)


def test_regression_pulls_to_the_teachers_own_sample_from_the_same_noise():
    fields = {"regression": {"weight": 0.3, "teacher_steps": 6}}
    batch, nets = batch_for(fields), networks(SCALE)

    def plain(student):
        total = 0.0
        for row in rows(batch, nets, student, SCALE):
            z = row.noise
            for i in range(row.exit):
                z = row.step(z, row.student(z, LEVELS[i]), i).detach()
            x = z - LEVELS[row.exit] * row.student(z, LEVELS[row.exit])
            y = row.teacher_ode(row.noise, grid(6))
            total = total + toward(x, dmd_gradient(row, x, "x0_teacher"))
            total = total + 0.3 * ((x - y) ** 2).sum()
        return total / batch.noise_BCHW.numel()

    step = DmdObjective(Dmd(**fields)).student_loss(batch, nets)
    assert step.logs["regression"] > 0
    assert_same_gradient(step.loss, nets, plain)
