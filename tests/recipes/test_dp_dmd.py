"""DP-DMD against a plain reading: anchored first step, detached, matching on the later rungs."""

from __future__ import annotations

import pytest
import torch

from recipes.objectives.dp_dmd import DpDmdObjective
from recipes.objectives.settings import DpDmd
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


@pytest.mark.parametrize("gradient", ["full_rollout", "selected_rung"])
@pytest.mark.parametrize("rollout", ["ode", "renoise"])
def test_student_gradient_is_matching_plus_anchor(gradient: str, rollout: str):
    fields = {
        "name": "dp_dmd", "gradient": gradient, "rollout": rollout, "normaliser": "xt_teacher",
        "diversity_weight": 0.07, "anchor_steps": 4, "teacher_steps": 12,
    }  # fmt: skip
    batch, nets = batch_for(fields, "edit"), networks(SCALE)
    tau = grid(12)[4]

    def plain(student):
        total = 0.0
        for row in rows(batch, nets, student, SCALE):
            v1 = row.student(row.noise, 1.0)
            anchor = row.teacher_ode(row.noise, grid(12)[:5])
            total = total + 0.07 * ((v1 - (row.noise - anchor) / (1 - tau)) ** 2).sum()
            z = row.step(row.noise, v1, 0).detach()
            for i in range(1, row.exit):
                z = row.step(z, row.student(z, LEVELS[i]), i)
                z = z.detach() if gradient == "selected_rung" else z
            x = z - LEVELS[row.exit] * row.student(z, LEVELS[row.exit])
            total = total + toward(x, dmd_gradient(row, x, "xt_teacher"))
        return total / batch.noise_BCHW.numel()

    step = DpDmdObjective(DpDmd(**fields)).student_loss(batch, nets)
    assert_same_gradient(step.loss, nets, plain)


def test_matching_never_touches_the_first_step():
    """With the anchor's weight at nothing, the first forward gets no gradient at all."""
    batch, nets = batch_for({"name": "dp_dmd"}), networks(SCALE)
    outputs = []
    nets.student.register_forward_hook(lambda _m, _a, out: outputs.append(out))
    objective = DpDmdObjective(DpDmd(diversity_weight=1e-300))
    loss = objective.student_loss(batch, nets).loss
    first, *later = torch.autograd.grad(loss, [o for o in outputs if o.requires_grad])
    assert first.abs().max() < 1e-200
    assert len(later) == 3
    assert all(g.abs().max() > 1e-6 for g in later)


def test_exits_leave_the_first_rung_to_the_anchor():
    batch = batch_for({"name": "dp_dmd", "gradient": "selected_rung"}, size=9)
    assert sorted(batch.exits_B.tolist()) == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    one = {"name": "dp_dmd", "gradient": "selected_rung", "exit_rungs": "one"}
    assert set(batch_for(one).exits_B.tolist()) < {1, 2, 3}
