"""Exported students: loaded by diffusers, bit for bit the pictures that were measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline

from harness.contract import Context, Measurement
from harness.journal.seeds import stream_for
from recipes import subject
from recipes.export import export
from recipes.families.toyworld import shared
from recipes.recipe import Recipe
from recipes.roles.adapters import deployed
from recipes.roles.assembly import roles_of
from recipes.sampling import student_pictures
from recipes.toyworld.pipeline import ToyWorldPipeline
from recipes.toyworld.prompts import edit_cases, prompts

CAPTIONS = [prompts(category)[0].caption for category in ("landscape", "portrait", "text")]
INSTRUCTIONS = [edit_cases(kind)[0].instruction for kind in ("scene", "object", "style")]
PROTOCOL = str(Path(__file__).parent / "toyworld-tiny-v1.yaml")


@pytest.fixture(autouse=True)
def _modules_cache(tmp_path, monkeypatch):
    """Diffusers copies a folder's own pipeline class there before it imports it."""
    home = str(tmp_path / "modules")
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", home)


def _student(**fields):
    """A recipe and a student of it that has moved off its teacher."""
    recipe = Recipe.model_validate(fields)
    network = roles_of(recipe, shared(), stream_for(0), need_fake=False).student
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p += 0.02 * torch.randn(p.shape, generator=generator)
    return recipe, network


def _load(folder: Path) -> ToyWorldPipeline:
    return DiffusionPipeline.from_pretrained(folder, trust_remote_code=True, local_files_only=True)


ADAPTERS = {"roles": {"kind": "adapters", "rank": 4, "alpha": 6}}
RENOISING = {"objective": {"rollout": "renoise"}, "student": {"rungs": 3, "shift": 2.0}}


@pytest.mark.parametrize("fields", [{}, RENOISING, ADAPTERS], ids=["ode", "renoise", "adapters"])
def test_diffusers_loads_it_and_draws_the_measured_pictures(tmp_path, fields):
    recipe, network = _student(**fields)
    folder = tmp_path / export(network, recipe, shared(), tmp_path, 7)
    pipe = _load(folder)
    renoises = recipe.objective.renoises
    draw = student_pictures(shared(), deployed(network), recipe.student.levels, renoise=renoises)
    noise = torch.randn(3, 48, 3, 3, generator=torch.Generator().manual_seed(2))

    def fresh_of(generator):
        return lambda _step: torch.randn(3, 48, 3, 3, generator=generator)

    def seeded():
        return torch.Generator().manual_seed(3)

    expected = draw(CAPTIONS, noise, None, fresh_of(seeded()))
    found = pipe(CAPTIONS, latents=noise, generator=seeded())
    assert torch.equal(found, expected)
    edited = draw(INSTRUCTIONS, noise, expected, fresh_of(seeded()))
    assert torch.equal(
        pipe(INSTRUCTIONS, image=expected, latents=noise, generator=seeded()), edited
    )
    assert not torch.equal(edited, expected)
    assert found.float().std() > 10, "flat pictures would be equal whatever drew them"
    assert torch.equal(pipe(CAPTIONS, generator=seeded()), pipe(CAPTIONS, generator=seeded()))


def test_the_lora_gives_the_students_velocities_on_the_base(tmp_path):
    recipe, network = _student(**ADAPTERS)
    export(network, recipe, shared(), tmp_path, 7)
    family = shared()
    base = family.network("teacher")
    condition = family.condition(CAPTIONS)
    z, t = torch.randn(3, 48, 3, 3), torch.tensor([1.0, 0.75, 0.5])

    def velocity(of):
        with torch.no_grad():
            return family.velocity(of, z, t, condition.text_BLD, None)

    expected, before = velocity(network), velocity(base)
    base.load_lora_adapter(
        tmp_path / "student" / "lora", weight_name="pytorch_lora_weights.safetensors"
    )
    torch.testing.assert_close(velocity(base), expected, rtol=1e-4, atol=1e-4)
    assert (expected - before).abs().max() > 0.05


def test_full_copies_have_no_lora(tmp_path):
    recipe, network = _student()
    export(network, recipe, shared(), tmp_path, 7)
    assert not (tmp_path / "student" / "lora").exists()
    assert "load_lora_adapter" not in (tmp_path / "student" / "README.md").read_text()


def test_the_model_card_says_what_it_is_and_how_it_samples(tmp_path):
    recipe, network = _student(**ADAPTERS)
    export(network, recipe, shared(), tmp_path, 7)
    card = (tmp_path / "student" / "README.md").read_text()
    for said in ("4-step student", "after 7 cycles", "1, 0.9, 0.75, 0.5", "rank 4", "Apache"):
        assert said in card
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert "\n\n\n" not in card


def test_the_model_cards_own_lines_run(tmp_path):
    recipe, network = _student()
    folder = tmp_path / export(network, recipe, shared(), tmp_path, 7)
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    scope = {"folder": folder}
    exec(code, scope)  # our own card
    assert scope["edited"].shape == scope["pictures"].shape == (1, 3, 24, 24)


def test_folders_of_before_still_load(tmp_path):
    """The network at the root, and a card that does not know re-noising."""
    network = shared().network("teacher")
    network.save_pretrained(tmp_path)
    card = {"family": "toyworld", "rungs": 4, "shift": 3.0, "guidance_scale": 2.0, "cycles": 40}
    (tmp_path / "card.json").write_text(json.dumps(card))
    loaded, read = shared().load(tmp_path)
    assert read == {**card, "renoises": False}
    state = network.state_dict()
    assert all(torch.equal(v, state[name]) for name, v in loaded.state_dict().items())


def test_what_is_no_student_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no model_index\.json"):
        shared().load(tmp_path)


def test_a_kept_student_of_adapters_measures_to_the_same_bits(tmp_path):
    fields = {
        "roles": {"kind": "adapters", "rank": 4},
        "train": {"cycles": 2, "batch_size": 4},
        "objective": {"warmup_fake_updates": 1, "fake_updates": 1},
    }
    recipe = Recipe.model_validate(fields).model_dump(mode="json")

    def context(name: str) -> Context:
        folder = tmp_path / name
        folder.mkdir()
        return Context(
            key="k", replicate=0, seed=stream_for(0), folder=folder,
            measurement=Measurement(protocol=PROTOCOL), cache=tmp_path / "cache",
        )  # fmt: skip

    last = list(subject.run(recipe, context("run")))[-1]
    again = list(subject.measure(tmp_path / "run" / "student", PROTOCOL, context("again")))[-1]
    assert again.metrics == last.metrics
