"""Roles: adapters equal copies at full rank; checkpointing keeps the role; gradients stay home."""

from __future__ import annotations

import copy
from dataclasses import replace as changed

import pytest
import torch
from pydantic import ValidationError

from harness.journal.seeds import stream_for
from recipes.data.draws import Draws
from recipes.guidance.panel import TeacherPanel
from recipes.objectives.base import Batch, Networks
from recipes.objectives.dmd import DmdObjective
from recipes.objectives.settings import Dmd
from recipes.recipe import Recipe
from recipes.roles.adapters import SharedBase
from recipes.roles.assembly import Cast, roles_of
from recipes.roles.checkpointing import checkpoint_activations
from recipes.roles.settings import Roles
from recipes.schedule import Rungs
from tests.recipes.qwen import SHAPE, QwenFamily, QwenSource
from tests.recipes.tiny import TinyFamily, TinyNetwork

FAMILY = QwenFamily()
FULL = 32
"""The tiny network's width: full rank of its attention and feed-forward layers."""
TOLERANCE = 1e-11
"""Of the largest number compared."""


@pytest.fixture(autouse=True)
def _rotations_in_float64(monkeypatch):
    """The transformer rotates queries and keys in float32, whatever its own precision."""

    def rotate(x, freqs_cis, use_real):
        assert not use_real
        paired = torch.view_as_complex(x.double().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(paired * freqs_cis.unsqueeze(1)).flatten(3)

    module = "diffusers.models.transformers.transformer_qwenimage"
    monkeypatch.setattr(f"{module}.apply_rotary_emb_qwen", rotate)


def _recipe(**roles) -> Recipe:
    return Recipe.model_validate({"roles": roles, "train": {"batch_size": 4}})


def _adapters(**roles) -> Cast:
    recipe = _recipe(kind="adapters", **{"rank": FULL, "alpha": 48, **roles})
    return roles_of(recipe, FAMILY, stream_for(0))


def _moved(role, seed: int) -> None:
    """Give a role factors that matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in role.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))


def _batch(task: str) -> Batch:
    recipe = Recipe.model_validate({"tasks": {task: 1}, "train": {"batch_size": 4}})
    batch = Draws(recipe, QwenSource(), SHAPE, stream_for(0)).batch("student", 0, 0)
    names = ("noise_BCHW", "renoise_t_B", "renoise_BCHW")
    return changed(batch, **{name: getattr(batch, name).double() for name in names})


def _velocity(network, batch: Batch, z=None):
    z = batch.noise_BCHW if z is None else z
    condition = batch.condition
    return FAMILY.velocity(network, z, batch.renoise_t_B, condition.text_BLD, condition.source_BCHW)


def _networks(student, fake, teacher) -> Networks:
    panel = TeacherPanel(FAMILY, {"base": teacher}, {"base": 1.0}, 2.0)
    return Networks(FAMILY, student, fake, panel, Rungs(4, 3.0))


def _assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    size = float(theirs.detach().abs().max())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=TOLERANCE * size)


def _assert_same_gradients(view, full) -> None:
    """Chain rule: with W = W0 + s B A, dL/dB = s dL/dW A^T and dL/dA = s B^T dL/dW."""
    scaling = view.shared.scaling
    seen = 0
    for path in view.shared.layers:
        factors = view.factors[path.replace(".", "/")]
        grad = full.get_submodule(path).weight.grad
        if grad is None:  # the last block's text branch leads nowhere
            assert factors.B_OR.grad is None
            continue
        expected_B = scaling * grad @ factors.A_RI.T
        expected_A = scaling * factors.B_OR.T @ grad
        _assert_close(factors.B_OR.grad, expected_B)
        _assert_close(factors.A_RI.grad, expected_A)
        seen += 1
    assert seen >= 12 + 8


def test_every_role_starts_as_the_base():
    cast, batch = _adapters(), _batch("edit")
    base = _velocity(FAMILY.network("teacher"), batch)
    for role in (cast.student, cast.fake, cast.teacher("teacher")):
        assert torch.equal(_velocity(role, batch), base)
    other = cast.teacher("specialist")
    assert torch.equal(_velocity(other, batch), _velocity(FAMILY.network("specialist"), batch))


def test_first_factors_come_from_the_replicates_own_stream():
    first, again = _adapters(), _adapters()
    states = [c.student.state_dict() for c in (first, again)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    name = next(iter(states[0]))
    assert not torch.equal(states[0][name], first.fake.state_dict()[name])
    other = roles_of(_recipe(kind="adapters", rank=FULL), FAMILY, stream_for(1))
    assert not torch.equal(states[0][name], other.student.state_dict()[name])


@pytest.mark.parametrize("task", ["t2i", "edit"])
def test_full_rank_adapters_equal_a_full_copy(task: str):
    """Any update of the targeted weights is some adapter: same output, same gradients."""
    cast, batch = _adapters(), _batch(task)
    generator = torch.Generator().manual_seed(5)
    full = FAMILY.network("teacher").requires_grad_(True)
    with torch.no_grad():
        for path in cast.student.shared.layers:
            weight = full.get_submodule(path).weight
            update = 0.1 * torch.randn(weight.shape, generator=generator).double()
            weight += update
            u, s, v = torch.linalg.svd(update, full_matrices=False)
            factors = cast.student.factors[path.replace(".", "/")]
            factors.B_OR.copy_(u * s / cast.student.shared.scaling)
            factors.A_RI.copy_(v)
    made = []
    for network in (cast.student, full):
        z = batch.noise_BCHW.clone().requires_grad_(True)
        v = _velocity(network, batch, z)
        v.square().mean().backward()
        made.append((v.detach(), z.grad))
    for ours, theirs in zip(*made, strict=True):
        _assert_close(ours, theirs)
    _assert_same_gradients(cast.student, full)
    apart = (made[0][0] - _velocity(cast.fake, batch)).abs().max()
    assert apart > 0.1, "the update must matter for this to say anything"


@pytest.mark.parametrize("task", ["t2i", "edit"])
def test_gradients_of_dmd_are_the_same_for_adapters_and_copies(task: str):
    cast, batch = _adapters(), _batch(task)
    _moved(cast.student, 1)
    _moved(cast.fake, 2)
    student, fake = (role.merged().requires_grad_(True) for role in (cast.student, cast.fake))
    objective = DmdObjective(Dmd())
    ours = _networks(cast.student, cast.fake, cast.teacher("teacher"))
    theirs = _networks(student, fake, FAMILY.network("teacher"))
    steps = [objective.student_loss(batch, networks) for networks in (ours, theirs)]
    _assert_close(steps[0].sample_BCHW, steps[1].sample_BCHW)
    for step in steps:
        step.loss.backward()
    _assert_same_gradients(cast.student, student)
    assert all(p.grad is None for p in cast.fake.parameters())
    sample = steps[1].sample_BCHW
    for networks in (ours, theirs):
        objective.fake_loss(batch, networks, sample).backward()
    _assert_same_gradients(cast.fake, fake)


def test_merged_is_the_same_network_without_adapters():
    cast, batch = _adapters(activation_checkpointing=True), _batch("t2i")
    _moved(cast.student, 1)
    merged = cast.student.merged()
    assert set(merged.state_dict()) == set(FAMILY.network("teacher").state_dict())
    assert not merged.is_gradient_checkpointing
    ours, theirs = _velocity(merged, batch), _velocity(cast.student, batch)
    _assert_close(ours, theirs)


def _student_gradients(cast: Cast, *, backward_as=None) -> dict[str, torch.Tensor]:
    """Gradients of a student's forward that a fake score's forward follows before backward."""
    batch = _batch("edit")
    loss = _velocity(cast.student, batch).square().mean()
    with torch.no_grad():
        _velocity(cast.fake, batch)
    if backward_as is None:
        loss.backward()
    else:
        with cast.student.shared.active.use(backward_as):
            loss.backward()
    found = {name: p.grad for name, p in cast.student.named_parameters() if p.grad is not None}
    cast.student.zero_grad(set_to_none=True)
    return found


def _relative_error(found, expected) -> float:
    apart = sum(float((found[n] - expected[n]).square().sum()) for n in expected)
    return (apart / sum(float(e.square().sum()) for e in expected.values())) ** 0.5


def test_checkpointing_recomputes_as_the_role_of_the_forward():
    """The default checkpoint recomputes as whoever is active: wrong, and nothing complains."""
    cast = _adapters()
    _moved(cast.student, 1)
    _moved(cast.fake, 2)
    network, active = cast.student.shared.network, cast.student.shared.active
    expected = _student_gradients(cast)
    network.enable_gradient_checkpointing()
    naive = _student_gradients(cast, backward_as=cast.fake.factors)
    checkpoint_activations(network, active)
    captured = _student_gradients(cast, backward_as=cast.fake.factors)
    assert _relative_error(naive, expected) > 0.1
    assert captured.keys() == expected.keys()
    assert _relative_error(captured, expected) == 0.0


@pytest.mark.parametrize("kind", ["copies", "adapters"])
def test_checkpointing_recomputes_blocks_and_changes_no_gradient(kind: str):
    more = {"rank": 4} if kind == "adapters" else {}
    plain = roles_of(_recipe(kind=kind, **more), FAMILY, stream_for(0))
    saving = roles_of(
        _recipe(kind=kind, activation_checkpointing=True, **more), FAMILY, stream_for(0)
    )
    expected = _student_gradients(plain)
    network = saving.student.shared.network if kind == "adapters" else saving.student
    runs: list[bool] = []
    network.transformer_blocks[0].register_forward_pre_hook(
        lambda *_: runs.append(torch.is_grad_enabled())
    )
    found = _student_gradients(saving)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    # Forward and recomputation of the student; on a shared base also the fake score's one pass.
    assert runs == ([True, False, True] if kind == "adapters" else [True, True])


def test_a_copy_of_a_role_shares_the_base_only():
    cast, batch = _adapters(), _batch("t2i")
    average = copy.deepcopy(cast.student)
    before = _velocity(average, batch)
    _moved(cast.student, 1)
    assert torch.equal(_velocity(average, batch), before)
    assert not torch.equal(_velocity(cast.student, batch), before)
    assert average.shared is cast.student.shared


@pytest.mark.parametrize(
    ("targets", "rank", "count"),
    [("attention", 4, 2 * 8), ("mlp", 4, 2 * 4), ("attention+mlp", 4, 24), ("all", 4, 34)],
)
def test_targets_name_layers(targets: str, rank: int, count: int):
    shared = SharedBase(
        FAMILY.network("teacher"), Roles(kind="adapters", targets=targets, rank=rank)
    )
    assert len(shared.layers) == count


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="full rank of the smallest"):
        _adapters(rank=FULL + 1)
    with pytest.raises(ValueError, match="no linear layer of TinyNetwork"):
        SharedBase(TinyNetwork(1), Roles(kind="adapters", rank=1))
    with pytest.raises(ValidationError, match="rank=4 says nothing with kind=copies"):
        Roles(rank=4)
    with pytest.raises(ValueError, match="no activation checkpointing"):
        roles_of(_recipe(activation_checkpointing=True), TinyFamily(), stream_for(0))


def test_without_a_fake_score_none_is_built():
    for kind in ("copies", "adapters"):
        assert roles_of(_recipe(kind=kind), FAMILY, stream_for(0), need_fake=False).fake is None
