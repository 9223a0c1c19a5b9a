"""DMD against a plain reading of its equations, gradient routing, forward floor, resume."""

from __future__ import annotations

import copy

import pytest
import torch

from harness.journal.seeds import stream_for
from recipes.cycle import Distillation
from recipes.data.draws import Draws
from recipes.guidance.panel import TeacherPanel
from recipes.objectives.base import Batch, Networks
from recipes.objectives.dmd import DmdObjective
from recipes.objectives.settings import Dmd
from recipes.recipe import Recipe
from recipes.rollout import sample, stratified_exits, to_exit
from recipes.schedule import Rungs
from tests.recipes.tiny import SHAPE, TinyFamily, TinySource

F64 = torch.float64


def _recipe(**overrides) -> Recipe:
    base = {"train": {"batch_size": 8, "cycles": 4}, "objective": {"warmup_fake_updates": 2}}
    for name, value in overrides.items():
        base[name] = {**base.get(name, {}), **value} if isinstance(value, dict) else value
    return Recipe.model_validate(base)


def _distillation(recipe: Recipe, replicate: int = 0) -> Distillation:
    family = TinyFamily(torch.float32)
    return Distillation(recipe, family, Draws(recipe, TinySource(), SHAPE, stream_for(replicate)))


def _networks(scale: float) -> Networks:
    family = TinyFamily()
    panel = TeacherPanel(family, {"base": family.network("teacher")}, {"base": 1.0}, scale)
    return Networks(family, family.network("student"), family.network("fake"), panel, Rungs(4, 3.0))


def _batch(task: str = "t2i", size: int = 8) -> Batch:
    draws = Draws(
        _recipe(tasks={"t2i": 1.0} if task == "t2i" else {"edit": 1.0}, train={"batch_size": size}),
        TinySource(F64),
        SHAPE,
        stream_for(0),
    )
    b = draws.batch("student", 0, 0)
    return Batch(
        b.task,
        b.condition,
        b.noise_BCHW.double(),
        b.exits_B,
        b.renoise_t_B.double(),
        b.renoise_BCHW.double(),
        b.fresh,
    )


def _plain_gradient(batch: Batch, nets: Networks, scale: float, normalise: bool) -> dict:
    """Eq. 4, row by row, with nothing shared with the code under test but the networks."""
    levels = [1.0, 0.9, 0.75, 0.5]
    student = copy.deepcopy(nets.student)
    teacher = nets.teachers.members[0][0]
    total = 0.0
    rows = batch.noise_BCHW.shape[0]
    for i in range(rows):
        text = batch.condition.text_BLD[i : i + 1]
        empty = batch.condition.empty_BLD[i : i + 1]
        src = batch.condition.source_BCHW
        src = None if src is None else src[i : i + 1]
        z = batch.noise_BCHW[i : i + 1]
        with torch.no_grad():
            for k in range(int(batch.exits_B[i])):
                t = torch.tensor([levels[k]], dtype=F64)
                z = z + (levels[k + 1] - levels[k]) * student(z, t, text, src)
        t = torch.tensor([levels[int(batch.exits_B[i])]], dtype=F64)
        x = z - t * student(z, t, text, src)
        tau = batch.renoise_t_B[i : i + 1]
        noisy = ((1 - tau) * x + tau * batch.renoise_BCHW[i : i + 1]).detach()
        v_c, v_u = teacher(noisy, tau, text, src), teacher(noisy, tau, empty, src)
        x_real = noisy - tau * (v_u + scale * (v_c - v_u))
        x_fake = noisy - tau * nets.fake(noisy, tau, text, src)
        g = (x_fake - x_real).detach()
        if normalise:
            g = g / (x - x_real).abs().mean().detach()
        total = total + (g * x).sum()
    (total / batch.noise_BCHW.numel()).backward()
    return {n: p.grad for n, p in student.named_parameters()}


@pytest.mark.parametrize("task", ["t2i", "edit"])
@pytest.mark.parametrize(("scale", "normaliser"), [(1.0, "none"), (2.5, "x0_teacher")])
def test_student_gradient_is_equation_4(task: str, scale: float, normaliser: str):
    batch, nets = _batch(task), _networks(scale)
    step = DmdObjective(Dmd(normaliser=normaliser)).student_loss(batch, nets)
    step.loss.backward()
    expected = _plain_gradient(batch, nets, scale, normaliser != "none")
    for name, p in nets.student.named_parameters():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-10, atol=1e-12)


def test_fake_loss_is_flow_matching_on_student_samples():
    batch, nets = _batch(), _networks(1.0)
    objective = DmdObjective(Dmd())
    x = objective.student_loss(batch, nets).sample_BCHW
    t = batch.renoise_t_B.view(-1, 1, 1, 1)
    z = (1 - t) * x + t * batch.renoise_BCHW
    v = nets.fake(z, batch.renoise_t_B, batch.condition.text_BLD, None)
    expected = ((v - (batch.renoise_BCHW - x)) ** 2).mean()
    torch.testing.assert_close(objective.fake_loss(batch, nets, x), expected)
    torch.testing.assert_close(objective.fake_loss(batch, nets, None), expected)


def test_losses_reach_only_their_role():
    batch, nets = _batch("edit"), _networks(2.0)
    objective = DmdObjective(Dmd())
    objective.student_loss(batch, nets).loss.backward()
    teacher = nets.teachers.members[0][0]
    assert all(p.grad is not None for p in nets.student.parameters())
    assert all(p.grad is None for m in (nets.fake, teacher) for p in m.parameters())
    nets.student.zero_grad(set_to_none=True)
    objective.fake_loss(batch, nets, None).backward()
    assert all(p.grad is not None for p in nets.fake.parameters())
    assert all(p.grad is None for m in (nets.student, teacher) for p in m.parameters())


def test_mixing_velocities_mixes_scores():
    family = TinyFamily()
    nets = {n: family.network(n) for n in ("teacher", "specialist")}
    batch = _batch()
    z, t = batch.noise_BCHW, batch.renoise_t_B
    panel = TeacherPanel(family, nets, {"teacher": 3.0, "specialist": 1.0}, 2.0)
    alone = {n: TeacherPanel(family, {n: m}, {n: 1.0}, 2.0) for n, m in nets.items()}

    def score(v):
        return -(z + (1 - t.view(-1, 1, 1, 1)) * v) / t.view(-1, 1, 1, 1)

    mixed = 0.75 * score(alone["teacher"].velocity(z, t, batch.condition))
    mixed = mixed + 0.25 * score(alone["specialist"].velocity(z, t, batch.condition))
    torch.testing.assert_close(score(panel.velocity(z, t, batch.condition)), mixed)


def test_teachers_of_weight_zero_are_not_run():
    family = TinyFamily()
    nets = {n: family.network(n) for n in ("teacher", "specialist")}
    nets["specialist"].register_forward_pre_hook(lambda *_: pytest.fail("was run"))
    batch = _batch()
    panel = TeacherPanel(family, nets, {"teacher": 1.0, "specialist": 0.0}, 2.0)
    panel.velocity(batch.noise_BCHW, batch.renoise_t_B, batch.condition)


@pytest.mark.parametrize(("k", "scale", "floor"), [(2, 2.0, 16.0), (5, 2.0, 32.5), (4, 1.0, 26.0)])
def test_forward_count_floor_of_a_cycle(k: int, scale: float, floor: float):
    """7.5 F for the student, 3 F for the first fake, 5.5 F for the others; scale 1 saves one."""
    recipe = _recipe(
        objective={"fake_updates": k, "warmup_fake_updates": 0}, guidance={"scale": scale}
    )
    trial = _distillation(recipe)
    trial.cycle()
    counted = trial.ledger.forwards(recipe.train.batch_size)
    assert counted == DmdObjective(recipe.objective).forwards(4, scale)
    assert trial.ledger.cost(recipe.train.batch_size) == pytest.approx(floor)


def test_rollout_leaves_at_the_exit_rung():
    nets, batch = _networks(1.0), _batch()
    seen = []

    def velocity(z, t, rows):
        seen.append((float(t[0]), z.shape[0]))
        part = batch.condition.rows(rows)
        return nets.family.velocity(nets.student, z, t, part.text_BLD, None)

    exits = stratified_exits(8, 4, 0)
    assert exits.tolist() == [3, 3, 2, 2, 1, 1, 0, 0]
    state = to_exit(velocity, batch.noise_BCHW, nets.rungs, exits)
    assert seen == [(1.0, 6), (pytest.approx(0.9), 4), (pytest.approx(0.75), 2)]
    torch.testing.assert_close(state[6:], batch.noise_BCHW[6:])


def test_training_path_is_the_sampling_path():
    """The state at the last rung, finished with one Euler step, is what sampling returns."""
    nets, batch = _networks(1.0), _batch()

    def velocity(z, t, rows):
        part = batch.condition.rows(rows)
        return nets.family.velocity(nets.student, z, t, part.text_BLD, None)

    last = torch.full((8,), 3)
    z = to_exit(velocity, batch.noise_BCHW, nets.rungs, last)
    t = torch.full((8,), 0.5, dtype=F64)
    finished = z - t.view(-1, 1, 1, 1) * velocity(z, t, slice(0, 8))
    torch.testing.assert_close(sample(velocity, batch.noise_BCHW, nets.rungs), finished)


@pytest.mark.parametrize("rollout", ["ode", "renoise"])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path, rollout: str):
    from recipes import checkpoint

    recipe = _recipe(objective={"rollout": rollout})
    whole = _distillation(recipe)
    whole.warm_up()
    logs = [whole.cycle() for _ in range(4)]

    first = _distillation(recipe)
    first.warm_up()
    for _ in range(2):
        first.cycle()
    path = checkpoint.save(tmp_path, 2, first.state_dict(), "hash")
    second = _distillation(recipe)
    cycle, state = checkpoint.load(path, "hash")
    second.load_state_dict(state)
    assert cycle == second.cycles == 2
    assert [second.cycle() for _ in range(2)] == logs[2:]
    for a, b in zip(
        whole.networks.student.parameters(), second.networks.student.parameters(), strict=True
    ):
        assert torch.equal(a, b)
    for a, b in zip(whole.ema.module.parameters(), second.ema.module.parameters(), strict=True):
        assert torch.equal(a, b)
    assert whole.draws.realised == second.draws.realised


def test_non_finite_updates_are_skipped_and_counted():
    trial = _distillation(_recipe(train={"max_skipped": 0}))
    before = copy.deepcopy(trial.networks.student.state_dict())
    with torch.no_grad():
        trial.networks.fake.b.fill_(float("nan"))
    trial.cycle()
    assert trial.skipped == {"student": 1, "fake": 4}
    assert "non-finite" in trial.diverged
    after = trial.networks.student.state_dict()
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_a_family_that_cannot_edit_refuses_edit_shares():
    family = TinyFamily(torch.float32)
    family.edits = False
    recipe = _recipe()
    with pytest.raises(ValueError, match=r"set tasks\.edit to 0"):
        Distillation(recipe, family, Draws(recipe, TinySource(), SHAPE, stream_for(0)))
