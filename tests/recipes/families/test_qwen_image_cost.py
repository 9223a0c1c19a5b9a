"""Operations and memory against torch's own counters, and what a plan is told."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from recipes.families.qwen_image_cost import PUBLISHED, Shape, shape_of, teachers_at_work, work
from recipes.families.qwen_image_settings import QwenImage
from recipes.objectives.counts import declared
from recipes.objectives.registry import objective_of
from recipes.recipe import Recipe
from tests.recipes.families import tiny_qwen

SOURCES = {
    "some": {"kind": "files", "path": "nowhere.jsonl", "category": "text"},
    "edits": {"kind": "files", "path": "nowhere.jsonl", "task": "edit"},
}


def _recipe(**changed) -> Recipe:
    fields = {
        "family": "qwen-image",
        "model": {"path": "nowhere", "pixels": 1024},
        "data": {"sources": SOURCES, "composition": {"some": 1}, "edit_types": {"edits": 1}},
        "roles": {"kind": "adapters", "rank": 64},
        "tasks": {"t2i": 1},
        "train": {"cycles": 10, "batch_size": 4},
    }
    return Recipe.model_validate(fields | changed)


@pytest.mark.parametrize(("rows", "edit"), [(1, False), (3, True)])
def test_operations_of_a_forward_are_those_torch_counts(family, rows, edit):
    network = family.network("teacher")
    side = family.latent_shape[1]
    text = torch.randn(rows, 7, tiny_qwen.TEXT_WIDTH)
    z = torch.randn(rows, *family.latent_shape)
    # As products of matrices: counters of older versions do not know the CPU's fused attention.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        family.velocity(network, z, torch.rand(rows), text, z if edit else None)
    tokens = (side // 2) ** 2 * (2 if edit else 1)
    shape = Shape.of(tiny_qwen.TRANSFORMER)
    assert counter.get_total_flops() == rows * shape.forward(tokens, 7)


def test_parameters_are_those_of_the_network(family):
    counted = sum(p.numel() for p in family.network("teacher").parameters() if p.ndim == 2)
    assert Shape.of(tiny_qwen.TRANSFORMER).parameters == counted


def test_the_published_transformer_has_twenty_billion_parameters():
    assert Shape.of(PUBLISHED).parameters == pytest.approx(20.4e9, rel=0.01)


def test_sizes_are_read_from_the_folder_where_there_is_one(settings):
    assert shape_of(settings) == Shape.of(tiny_qwen.TRANSFORMER)
    assert shape_of(QwenImage(path="nowhere")) == Shape.of(PUBLISHED)


@pytest.mark.parametrize(
    "objective",
    [
        {"name": "dmd"},
        {"name": "dmd", "fake_updates": 2, "gradient": "full_rollout"},
        {"name": "dp_dmd"},
        {"name": "decoupled_dmd"},
        {"name": "consistency", "clean": "teacher"},
        {"name": "velocity_regression", "teacher_steps": 3},
    ],
)
def test_counts_without_torch_are_the_objectives_own(objective):
    settings = Recipe.model_validate({"objective": objective}).objective
    assert declared(settings, 4, 2.0) == objective_of(settings).forwards(4, 2.0)


def test_a_cycle_with_adapters_costs_the_known_floor():
    # Rollout 1.5, graded 1, teacher 2, fake 1; fakes 1 each and 2.5 for every further sample.
    plain = work(_recipe(), {})
    assert plain is not None
    assert plain.cycle == 1.5 + 2 + 2 + 1 + 4 * 2 + 3 * 2.5  # a backward is one forward
    copies = work(_recipe(roles={"kind": "copies"}), {})
    assert copies is not None
    assert copies.cycle == 7.5 + 3 + 3 * 5.5


def test_an_edit_costs_more_than_twice_and_checkpointing_trades_time_for_memory():
    plain = work(_recipe(), {})
    edits = work(_recipe(tasks={"edit": 1}), {})
    kept = work(
        _recipe(roles={"kind": "adapters", "rank": 64, "activation_checkpointing": True}), {}
    )
    assert plain is not None
    assert edits is not None
    assert kept is not None
    assert edits.training > 2 * plain.training
    assert edits.memory > plain.memory > kept.memory
    assert kept.training > plain.training


def test_measuring_counts_every_picture_once_a_rung():
    found = work(_recipe(), {"t2i": 10, "edit": 3})
    assert found is not None
    assert found.measuring == 4 * (10 * found.t2i + 3 * found.edit)


def test_teachers_at_work_are_counted_by_when_they_judge():
    model = {"path": "nowhere", "weights": {"other": "elsewhere"}}
    both = {"a": {}, "b": {"weights": "other"}}
    by_rung = {"a": {"by_rung": [1, 1, 0, 0]}, "b": {"weights": "other", "by_rung": [0, 0, 1, 1]}}
    half = {
        "a": {},
        "b": {
            "weights": "other",
            "by_progress": {"x": {"until": 0.5, "share": 0}, "y": {"until": 1, "share": 1}},
        },
    }
    student = {"init": "a"}
    for teachers, expected in ((both, 2.0), (by_rung, 1.0), (half, 1.5)):
        recipe = _recipe(model=model, teachers=teachers, student=student)
        assert teachers_at_work(recipe) == pytest.approx(expected)
    hard = _recipe(model=model, teachers=both, student=student, panel={"mix": "hard"})
    assert teachers_at_work(hard) == 1.0
