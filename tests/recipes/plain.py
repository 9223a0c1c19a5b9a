"""Row by row in float64: what the tests read the objectives' equations with.

Nothing here is shared with the code under test but the tiny networks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch

from harness.journal.seeds import stream_for
from recipes.data.draws import Draws
from recipes.guidance.panel import TeacherPanel
from recipes.objectives.base import Batch, Networks
from recipes.recipe import Recipe
from recipes.schedule import Rungs
from tests.recipes.tiny import SHAPE, TinyFamily, TinySource

F64 = torch.float64
LEVELS = [1.0, 0.9, 0.75, 0.5, 0.0]
"""Four rungs at shift 3, and the end."""


def grid(steps: int) -> list[float]:
    """Levels of a teacher's ODE at shift 3, noise to data."""
    uniform = [1 - i / steps for i in range(steps)]
    return [3 * u / (1 + 2 * u) for u in uniform] + [0.0]


def networks(scale: float = 2.5) -> Networks:
    family = TinyFamily()
    panel = TeacherPanel(family, {"base": family.network("teacher")}, {"base": 1.0}, scale)
    return Networks(family, family.network("student"), family.network("fake"), panel, Rungs(4, 3.0))


def batch_for(objective: dict, task: str = "t2i", size: int = 8) -> Batch:
    """A micro-batch as drawn for an objective, in float64."""
    fields = {"objective": objective, "tasks": {task: 1.0}, "train": {"batch_size": size}}
    draws = Draws(Recipe.model_validate(fields), TinySource(F64), SHAPE, stream_for(0))
    b = draws.batch("student", 0, 0)

    def double(x):
        return None if x is None else x.double()

    return replace(
        b,
        noise_BCHW=b.noise_BCHW.double(),
        renoise_t_B=double(b.renoise_t_B),
        renoise_BCHW=double(b.renoise_BCHW),
        fresh=None if b.fresh is None else lambda rung: b.fresh(rung).double(),
        further=lambda stream: tuple(x.double() for x in b.further(stream)),
    )


@dataclass
class Row:
    """One row of a batch and the networks at it; `t` is a number."""

    batch: Batch
    nets: Networks
    student_net: torch.nn.Module
    scale: float
    i: int

    def __post_init__(self) -> None:
        condition = self.batch.condition
        self.text = condition.text_BLD[self.i : self.i + 1]
        self.empty = condition.empty_BLD[self.i : self.i + 1]
        source = condition.source_BCHW
        self.source = None if source is None else source[self.i : self.i + 1]
        self.noise = self.batch.noise_BCHW[self.i : self.i + 1]
        if self.batch.exits_B is not None:
            self.exit = int(self.batch.exits_B[self.i])
        if self.batch.renoise_t_B is not None:
            self.tau = float(self.batch.renoise_t_B[self.i])
            self.xi = self.batch.renoise_BCHW[self.i : self.i + 1]

    def _at(self, network, z, t, text):
        return network(z, torch.tensor([t], dtype=F64), text, self.source)

    def student(self, z, t):
        return self._at(self.student_net, z, t, self.text)

    def fake(self, z, t):
        return self._at(self.nets.fake, z, t, self.text)

    def teacher(self, z, t, *, empty=False):
        network = self.nets.teachers.members[0][0]
        return self._at(network, z, t, self.empty if empty else self.text)

    def guided(self, z, t):
        v_u = self.teacher(z, t, empty=True)
        return v_u + self.scale * (self.teacher(z, t) - v_u)

    def step(self, z, v, i):
        """From rung i to the next, ODE or with the batch's fresh noise."""
        if self.batch.fresh is None:
            return z + (LEVELS[i + 1] - LEVELS[i]) * v
        xi = self.batch.fresh(i + 1)[self.i : self.i + 1]
        return (1 - LEVELS[i + 1]) * (z - LEVELS[i] * v) + LEVELS[i + 1] * xi

    def teacher_ode(self, z, levels):
        for t, s in pairwise(levels):
            z = z + (s - t) * self.guided(z, t)
        return z.detach()


def rows(batch: Batch, nets: Networks, student: torch.nn.Module, scale: float) -> Iterator[Row]:
    for i in range(batch.noise_BCHW.shape[0]):
        yield Row(batch, nets, student, scale, i)


def assert_same_gradient(loss, nets: Networks, plain_loss) -> None:
    """Gradients of the student under both losses; `plain_loss(student)` gets a copy."""
    loss.backward()
    student = copy.deepcopy(nets.student)
    student.zero_grad(set_to_none=True)
    expected = plain_loss(student)
    torch.testing.assert_close(loss.detach(), expected.detach(), rtol=1e-10, atol=1e-12)
    expected.backward()
    for (name, got), (_, want) in zip(
        nets.student.named_parameters(), student.named_parameters(), strict=True
    ):
        torch.testing.assert_close(got.grad, want.grad, rtol=1e-9, atol=1e-11, msg=name)


def toward(x, grad):
    """A row's share of 1/2 ||x - sg(x - grad)||^2."""
    return 0.5 * ((x - (x - grad).detach()) ** 2).sum()


def dmd_gradient(row: Row, x, normaliser: str):
    """Fake minus guided teacher at the row's own level, over the normaliser."""
    z = ((1 - row.tau) * x + row.tau * row.xi).detach()
    x_real = z - row.tau * row.guided(z, row.tau)
    x_fake = z - row.tau * row.fake(z, row.tau)
    near = {"x0_teacher": x, "xt_teacher": z}.get(normaliser)
    scale = 1.0 if near is None else (near - x_real).abs().mean()
    return ((x_fake - x_real) / scale).detach()
