"""A cycle whose updates hold both tasks: gradients by rows, resume, forwards."""

from __future__ import annotations

import copy

import pytest
import torch

from harness.journal.seeds import stream_for
from recipes.cycle import Distillation
from recipes.data.draws import Draws
from recipes.recipe import Recipe
from tests.recipes.tiny import SHAPE, TinyFamily, TinySource

MIXED = {
    "tasks": {"t2i": 0.75, "edit": 0.25},
    "mixing": {"by": "sample", "count": "t2i", "schedule": {"start": 0.0, "end": 0.5}},
    "train": {"batch_size": 8, "cycles": 3},
    "objective": {"warmup_fake_updates": 2, "fake_updates": 2},
}


def _distillation(**fields) -> Distillation:
    recipe = Recipe.model_validate({**MIXED, **fields})
    draws = Draws(recipe, TinySource(), SHAPE, stream_for(0))
    return Distillation(recipe, TinyFamily(torch.float32), draws)


def test_a_split_update_weights_every_row_alike(monkeypatch):
    """The gradient of the update is the mean over its rows, each taken alone."""
    trial = _distillation(mixing={"by": "sample"}, objective={"fake_updates": 1})
    networks, objective = trial.networks, trial.objective
    expected = {}
    for role, module in (("student", networks.student), ("fake", networks.fake)):
        alone = copy.deepcopy(module)
        parts = trial.draws.batches("student", 0, 0)
        assert [weight for _, weight in parts] == [0.75, 0.25]
        steps = [objective.student_loss(batch, networks) for batch, _ in parts]
        judged = trial.draws.judged_anew(parts, 0)
        losses = (
            [step.loss for step in steps]
            if role == "student"
            else [
                objective.fake_loss(batch, networks, step.sample_BCHW)
                for (batch, _), step in zip(judged, steps, strict=True)
            ]
        )
        rows = sum(6 * a + 2 * b for a, b in [losses]) / 8
        grads = torch.autograd.grad(rows, list(module.parameters()))
        expected[role] = dict(zip(dict(alone.named_parameters()), grads, strict=True))
    seen = {}

    def keep(role, loss):
        loss.backward()
        module = getattr(networks, role)
        seen[role] = {n: p.grad.clone() for n, p in module.named_parameters()}
        module.zero_grad()
        return 0.0

    monkeypatch.setattr(trial, "_step", keep)
    trial.cycle()
    for role, grads in expected.items():
        for name, grad in grads.items():
            torch.testing.assert_close(seen[role][name], grad)


def test_a_split_cycle_runs_as_many_forwards_as_a_whole_one():
    split = _distillation(mixing={"by": "sample"})
    whole = _distillation(mixing={})
    for trial in (split, whole):
        trial.cycle()
    assert split.ledger.forwards(8) == whole.ledger.forwards(8)


def test_resumed_equals_uninterrupted_with_schedule_and_fixed_count():
    whole = _distillation()
    total = whole.recipe.total_cycles
    assert total == 4  # three T2I updates at a mean T2I share of 0.75
    whole.warm_up()
    logs = [whole.cycle() | whole.standing() for _ in range(total)]
    first = _distillation()
    first.warm_up()
    for _ in range(2):
        first.cycle()
    second = _distillation()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert [second.cycle() | second.standing() for _ in range(2)] == logs[2:]
    for a, b in zip(whole.student.parameters(), second.student.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_family_that_cannot_edit_refuses_an_edit_schedule():
    recipe = Recipe.model_validate({**MIXED, "tasks": {"t2i": 1.0}})
    family = TinyFamily(torch.float32)
    family.edits = False
    with pytest.raises(ValueError, match="cannot edit"):
        Distillation(recipe, family, Draws(recipe, TinySource(), SHAPE, stream_for(0)))
