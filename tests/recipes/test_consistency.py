"""Consistency distillation against a plain reading, its target network, its clean latents."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from recipes.data.toyworld import ToyWorldSource
from recipes.families.toyworld import shared
from recipes.objectives.consistency import ConsistencyObjective
from recipes.objectives.settings import Consistency
from tests.recipes.plain import assert_same_gradient, batch_for, grid, networks, rows

SCALE = 2.5


@pytest.mark.parametrize("huber", [0.0, 1e-3])
@pytest.mark.parametrize("clean", ["data", "teacher"])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_student_gradient_is_consistency_along_the_teacher(huber: float, clean: str, decay: float):
    fields = {
        "name": "consistency", "grid": 8, "clean": clean, "huber": huber, "target_decay": decay,
    }  # fmt: skip
    batch, nets = batch_for(fields, "edit", size=12), networks(SCALE)
    uniform = torch.linspace(0, 0.999, 12, dtype=torch.float64)  # every grid level, both ends
    noise = batch.further("grid")[1]
    batch = replace(batch, further=lambda _stream: (uniform, noise))
    objective = ConsistencyObjective(Consistency(**fields))
    objective.start(nets)
    held = copy.deepcopy(nets.student)
    with torch.no_grad():
        nets.student.b.add_(0.1)  # so that the average, if any, is not the student
    target = held if decay else nets.student

    def plain(student):
        total = 0.0
        for row in rows(batch, nets, student, SCALE):
            n = int(float(uniform[row.i]) * 8)
            t, r = grid(8)[n : n + 2]
            if clean == "data":
                x = batch.condition.target_BCHW[row.i : row.i + 1]
            else:
                x = row.teacher_ode(row.noise, grid(8))
            z_t = (1 - t) * x + t * noise[row.i : row.i + 1]
            z_r = z_t + (r - t) * row.guided(z_t, t)
            f = z_t - t * row.student(z_t, t)
            goal = z_r - r * target(z_r, torch.tensor([r], dtype=z_r.dtype), row.text, row.source)
            squared = (f - goal.detach()) ** 2
            total = total + (((squared + huber**2) ** 0.5 - huber) if huber else squared).sum()
        return total / batch.noise_BCHW.numel()

    step = objective.student_loss(batch, nets)
    assert_same_gradient(step.loss, nets, plain)


def test_the_target_is_an_average_of_students():
    nets = networks(SCALE)
    objective = ConsistencyObjective(Consistency(target_decay=0.75))
    target = objective.start(nets)["target"]
    before = target.b.clone()
    with torch.no_grad():
        nets.student.b.add_(1.0)
    objective.after_student(nets)
    torch.testing.assert_close(target.b, before + 0.25)


@pytest.mark.parametrize("task", ["t2i", "edit"])
def test_toy_world_targets_are_the_pictures_asked_for_and_move_no_other_draw(task: str):
    family = shared()
    source = ToyWorldSource(family)
    names = ["portrait", "text"] if task == "t2i" else ["object", "style"]
    draw = source.t2i if task == "t2i" else source.edit

    def generators():
        return [torch.Generator().manual_seed(i) for i in range(2)]

    plain, asked = draw(names, generators()), draw(names, generators(), targets=True)
    assert plain.target_BCHW is None
    assert torch.equal(plain.text_BLD, asked.text_BLD)
    assert asked.target_BCHW.shape == (2, *family.latent_shape)
    if task == "edit":
        assert torch.equal(plain.source_BCHW, asked.source_BCHW)
        assert not torch.equal(asked.target_BCHW, asked.source_BCHW)
