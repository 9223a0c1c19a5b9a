"""Cycles with adapters on the shipped teacher: EMA, checkpoints, ledger, gradients at home."""

from __future__ import annotations

import copy

import pytest
import torch

from harness.journal.seeds import stream_for
from recipes import checkpoint
from recipes.cycle import Distillation
from recipes.data.draws import Draws
from recipes.data.toyworld import ToyWorldSource
from recipes.families.toyworld import shared
from recipes.objectives.base import StudentStep
from recipes.objectives.settings import OBJECTIVES
from recipes.recipe import Recipe


def _trial(kind: str = "adapters", objective: dict | None = None, **roles) -> Distillation:
    recipe = Recipe.model_validate(
        {
            "roles": {"kind": kind, **roles},
            "train": {"batch_size": 4, "cycles": 4, "ema_decay": 0.75},
            "objective": objective or {"warmup_fake_updates": 1, "fake_updates": 2},
            "optimiser": {"student": {"lr": 1e-2}, **({} if objective else {"fake": {"lr": 1e-2}})},
        }
    )
    family = shared()
    source = ToyWorldSource(family)
    return Distillation(recipe, family, Draws(recipe, source, family.latent_shape, stream_for(0)))


@pytest.fixture(scope="module")
def trained() -> Distillation:
    trial = _trial(rank=4)
    trial.warm_up()
    for _ in range(3):
        trial.cycle()
    return trial


def test_training_moves_both_roles_and_never_the_base(trained):
    base = shared().network("teacher").state_dict()
    linears = trained.student.shared.layers
    held = trained.student.shared.network.state_dict()
    for name, value in base.items():
        path, _, leaf = name.rpartition(".")
        now = held[f"{path}.base.{leaf}" if path in linears else name]
        assert torch.equal(now, value)
    assert len(held) == len(base)
    for role in (trained.networks.student, trained.networks.fake):
        # The last block's text branch leads nowhere; everything else has left zero.
        assert sum(bool(f.B_OR.any()) for f in role.factors.values()) >= len(linears) - 4


def test_the_average_is_over_the_factors():
    trial = _trial(rank=4)
    expected = {n: p.detach().clone() for n, p in trial.student.named_parameters()}
    for _ in range(2):
        trial.cycle()
        for name, p in trial.student.named_parameters():
            expected[name] = 0.75 * expected[name] + 0.25 * p.detach()
    averaged = dict(trial.ema.module.named_parameters())
    assert averaged.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(averaged[name], value)


def test_a_checkpoint_holds_factors_only_and_resumes_to_the_same_bits(trained, tmp_path):
    first = _trial(rank=4)
    first.warm_up()
    for _ in range(2):
        first.cycle()
    path = checkpoint.save(tmp_path, 2, first.state_dict(), "hash")
    factors = sum(p.numel() for p in first.student.parameters())
    # Student, average, fake score, and two moments of each of the two that are trained.
    assert path.stat().st_size < 1.3 * 4 * 7 * factors
    second = _trial(rank=4)
    second.load_state_dict(checkpoint.load(path, "hash")[1])
    second.cycle()
    for a, b in (
        (trained.student, second.student),
        (trained.networks.fake, second.networks.fake),
        (trained.ema.module, second.ema.module),
    ):
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("name", list(OBJECTIVES))
@pytest.mark.parametrize("kind", ["copies", "adapters"])
def test_every_objective_runs_on_roles_and_forwards_are_counted_by_role(kind: str, name: str):
    """All roles of adapters call one base; recomputed blocks are no forwards of their own."""
    trial = _trial(kind, {"name": name}, activation_checkpointing=True)
    logs = trial.cycle()
    counted = trial.ledger.forwards(trial.recipe.train.batch_size)
    assert counted == pytest.approx(trial.objective.forwards(4, 2.0))
    assert logs["grad_norm_student"] > 0
    assert not trial.diverged


@pytest.mark.parametrize("kind", ["copies", "adapters"])
def test_a_loss_that_reaches_another_role_stops_the_trial(kind: str):
    trial = _trial(kind)
    honest = trial.objective.student_loss

    def leaking(batch, networks):
        step = honest(batch, networks)
        extra = next(networks.fake.parameters()).square().sum()
        return StudentStep(step.loss + extra, step.sample_BCHW, step.logs)

    trial.objective.student_loss = leaking
    with pytest.raises(AssertionError, match="student's update reached another role"):
        trial.cycle()


def test_a_loss_without_gradient_for_its_role_stops_the_trial():
    """What PEFT's switch before backward does: no gradient, no error."""
    trial = _trial(rank=4)
    honest = trial.objective.student_loss
    stranger = copy.deepcopy(trial.student)

    def elsewhere(batch, networks):
        step = honest(batch, networks)
        return StudentStep(next(stranger.parameters()).sum(), step.sample_BCHW, step.logs)

    trial.objective.student_loss = elsewhere
    with pytest.raises(AssertionError, match="student's update"):
        trial.cycle()
