"""On-policy velocity regression against a plain reading, with one and with several teachers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from recipes.guidance.panel import TeacherPanel
from recipes.objectives.settings import VelocityRegression
from recipes.objectives.velocity_regression import VelocityRegressionObjective
from tests.recipes.plain import LEVELS, assert_same_gradient, batch_for, networks, rows

SCALE = 2.5


@pytest.mark.parametrize(("rollout", "steps"), [("ode", 1), ("ode", 3), ("renoise", 1)])
def test_student_gradient_is_regression_at_its_own_states(rollout: str, steps: int):
    fields = {"name": "velocity_regression", "rollout": rollout, "teacher_steps": steps}
    batch, nets = batch_for(fields, "edit"), networks(SCALE)

    def plain(student):
        total = 0.0
        for row in rows(batch, nets, student, SCALE):
            z = row.noise
            for i in range(row.exit):
                z = row.step(z, row.student(z, LEVELS[i]), i).detach()
            t, s = LEVELS[row.exit : row.exit + 2]
            levels = [t + (s - t) * i / steps for i in range(steps + 1)]
            goal = (z - row.teacher_ode(z, levels)) / (t - s)
            total = total + ((row.student(z, t) - goal) ** 2).sum()
        return total / batch.noise_BCHW.numel()

    step = VelocityRegressionObjective(VelocityRegression(**fields)).student_loss(batch, nets)
    assert_same_gradient(step.loss, nets, plain)


def test_one_step_is_the_mixed_velocity_of_the_panel():
    """With several teachers the target is their velocities mixed by share, at the student's z."""
    batch, nets = batch_for({"name": "velocity_regression"}), networks(1.0)
    family = nets.family
    members = {n: family.network(n) for n in ("teacher", "specialist")}
    panel = TeacherPanel(family, members, {"teacher": 1.0, "specialist": 3.0}, 1.0)
    exits = torch.zeros_like(batch.exits_B)  # states are the noise itself
    step = VelocityRegressionObjective(VelocityRegression()).student_loss(
        replace(batch, exits_B=exits), replace(nets, teachers=panel)
    )
    z, t = batch.noise_BCHW, torch.ones(8, dtype=torch.float64)
    text = batch.condition.text_BLD
    mixed = 0.25 * members["teacher"](z, t, text, None) + 0.75 * members["specialist"](
        z, t, text, None
    )
    expected = (nets.student(z, t, text, None) - mixed).square().mean()
    torch.testing.assert_close(step.loss, expected)


def test_a_mean_velocity_to_the_next_rung_needs_steps_to_the_next_rung():
    with pytest.raises(ValidationError, match="teacher_steps=3 needs rollout: ode"):
        VelocityRegression(teacher_steps=3, rollout="renoise")
