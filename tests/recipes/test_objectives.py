"""Every objective of the union: gradient routing, forwards by hooks, resume, refusals, one recipe.

A new objective is taken in here by being in the union; its equation has a test file of its own.
"""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError

from harness.journal.seeds import stream_for
from harness.study.resolver import RecipeError, Resolver
from recipes import checkpoint
from recipes.cycle import Distillation
from recipes.data.draws import Draws
from recipes.objectives.registry import objective_of
from recipes.objectives.settings import OBJECTIVES
from recipes.recipe import Recipe
from tests.recipes.plain import batch_for, networks
from tests.recipes.tiny import SHAPE, TinyFamily, TinySource

DEFAULTS = [{"name": name} for name in OBJECTIVES]
MORE = [
    {"name": "dmd", "gradient": "full_rollout"},
    {"name": "dmd", "gradient": "full_rollout", "rollout": "renoise"},
    {"name": "dmd", "regression": {"weight": 0.25, "teacher_steps": 3}},
    {"name": "dp_dmd", "gradient": "selected_rung"},
    {"name": "dp_dmd", "rollout": "renoise", "anchor_steps": 2},
    {"name": "decoupled_dmd", "ca_below_rung": False, "gradient": "full_rollout"},
    {"name": "consistency", "target_decay": 0.5, "huber": 0.0},
    {"name": "consistency", "clean": "teacher", "grid": 4},
    {"name": "velocity_regression", "teacher_steps": 3},
    {"name": "velocity_regression", "rollout": "renoise"},
]
EVERY = pytest.mark.parametrize("objective", DEFAULTS + MORE, ids=str)


def _recipe(objective: dict, **fields) -> Recipe:
    return Recipe.model_validate(
        {"objective": objective, "train": {"batch_size": 12, "cycles": 4}, **fields}
    )


def _trial(recipe: Recipe) -> Distillation:
    draws = Draws(recipe, TinySource(), SHAPE, stream_for(0))
    return Distillation(recipe, TinyFamily(torch.float32), draws)


@EVERY
def test_losses_reach_only_their_role(objective: dict):
    batch, nets = batch_for(objective, "edit"), networks()
    settings = _recipe(objective).objective
    made = objective_of(settings)
    own = made.start(nets)
    teacher = nets.teachers.members[0][0]
    others = [nets.fake, teacher, *own.values()]
    step = made.student_loss(batch, nets)
    assert not step.sample_BCHW.requires_grad
    step.loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in nets.student.parameters())
    assert all(p.grad is None for m in others for p in m.parameters())
    if settings.fake_updates:
        nets.student.zero_grad(set_to_none=True)
        made.fake_loss(batch, nets, None).backward()
        assert all(p.grad is not None and p.grad.any() for p in nets.fake.parameters())
        assert all(p.grad is None for m in (nets.student, teacher) for p in m.parameters())


@EVERY
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_declared_forwards_are_those_that_hooks_count(objective: dict, scale: float):
    recipe = _recipe(objective, guidance={"scale": scale})
    trial = _trial(recipe)
    trial.cycle()
    counted = trial.ledger.forwards(recipe.train.batch_size)
    assert counted == pytest.approx(trial.objective.forwards(4, scale))


@EVERY
def test_a_fake_score_exists_where_it_is_used(objective: dict):
    trial = _trial(_recipe(objective))
    trial.warm_up()
    logs = trial.cycle()
    used = bool(trial.recipe.objective.fake_updates)
    assert (trial.networks.fake is not None) == used
    for held in (trial.optimisers, trial.skipped, trial.state_dict()["roles"]):
        assert ("fake" in held) == used
    assert ("loss_fake" in logs) == used


@EVERY
def test_resumed_equals_uninterrupted_bit_for_bit(objective: dict, tmp_path):
    recipe = _recipe(objective)
    whole = _trial(recipe)
    whole.warm_up()
    logs = [whole.cycle() for _ in range(4)]
    first = _trial(recipe)
    first.warm_up()
    assert [first.cycle() for _ in range(2)] == logs[:2]
    path = checkpoint.save(tmp_path, 2, first.state_dict(), "hash")
    second = _trial(recipe)
    second.load_state_dict(checkpoint.load(path, "hash")[1])
    assert [second.cycle() for _ in range(2)] == logs[2:]
    for a, b in zip(whole.ema.module.parameters(), second.ema.module.parameters(), strict=True):
        assert torch.equal(a, b)


@EVERY
def test_prompt_only_objectives_never_ask_for_targets(objective: dict):
    recipe = _recipe(objective)
    source = TinySource()
    source.offers_targets = False
    if recipe.objective.prompt_only:
        batch = Draws(recipe, source, SHAPE, stream_for(0)).batch("student", 0, 0)
        assert batch.condition.target_BCHW is None
    else:
        with pytest.raises(ValueError, match=r"needs target images and TinySource offers prompts"):
            Draws(recipe, source, SHAPE, stream_for(0))


@EVERY
def test_prompts_and_noise_do_not_depend_on_the_objective(objective: dict):
    one, other = (
        Draws(_recipe(o), TinySource(), SHAPE, stream_for(0)).batch("student", 3, 0)
        for o in ({"name": "dmd"}, objective)
    )
    assert torch.equal(one.noise_BCHW, other.noise_BCHW)
    assert torch.equal(one.condition.text_BLD, other.condition.text_BLD)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"objective": {"name": "dmdd"}}, "dmdd"),
        ({"objective": {"name": "consistency", "fake_updates": 2}}, "fake_updates"),
        ({"objective": {"name": "dp_dmd"}, "student": {"rungs": 1}}, "use dmd for one"),
        ({"objective": {"name": "dp_dmd", "anchor_steps": 31}}, "at most teacher_steps=30"),
        ({"objective": {"name": "consistency", "grid": 18}}, "multiple of student.rungs=4"),
        ({"objective": {"rollout": "renoise", "regression": {"weight": 1}}}, "needs rollout: ode"),
        (
            {"objective": {"name": "decoupled_dmd"}, "student": {"rungs": 64, "shift": 1.0}},
            "not below the last rung",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_the_recipe(fields: dict, message: str):
    with pytest.raises(ValidationError, match=message):
        Recipe.model_validate(fields)


def test_recipes_written_for_dmd_alone_still_mean_dmd():
    assert Recipe.model_validate({"objective": {"fake_updates": 2}}).objective.name == "dmd"
    written = {"name": "dmd", "fake_updates": 4, "warmup_fake_updates": 20}
    assert Recipe.model_validate({"objective": written}) == Recipe()


def test_a_study_varies_the_objective_whole_or_one_field_of_the_default():
    resolver = Resolver(Recipe, {"objective": {"name": "dmd", "fake_updates": 2}})
    assert resolver.resolve({"objective.regression.weight": 0.5})["objective"]["fake_updates"] == 2
    for objective in DEFAULTS + MORE:
        made = resolver.resolve({"objective": objective})["objective"]
        assert made == _recipe(objective).model_dump(mode="json")["objective"]
        assert Resolver(Recipe, {"objective": made}).resolve({})["objective"] == made
    with pytest.raises(RecipeError, match="did you mean 'consistency'"):
        resolver.resolve({"objective": {"name": "consistancy"}})


@pytest.mark.parametrize("name", ["consistency", "velocity_regression"])
def test_a_fake_optimiser_without_a_fake_score_is_refused(name: str):
    with pytest.raises(ValidationError, match=r"optimiser\.fake says nothing with objective"):
        _recipe({"name": name}, optimiser={"fake": {"lr": 1e-3}})
    _recipe({"name": name}, optimiser={"fake": {"lr": 2e-4}, "student": {"lr": 1e-3}})


def test_without_warm_up_the_first_cycle_logs_finite_numbers():
    """The fake score is still the teacher that the student starts from: matching has no gap."""
    trial = _trial(
        _recipe({"name": "decoupled_dmd", "warmup_fake_updates": 0}, guidance={"scale": 3.0})
    )
    logs = trial.cycle()
    assert all(math.isfinite(value) for value in logs.values()), logs
    assert logs["augmentation_share"] == 1
