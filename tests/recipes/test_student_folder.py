"""Folders of students from elsewhere: what can be measured, and why the others cannot."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline, QwenImageTransformer2DModel
from safetensors.torch import save_file

from harness.contract import Context, Measurement
from harness.journal.seeds import stream_for
from recipes import subject
from recipes.export import export
from recipes.families.toyworld import shared
from recipes.opened_student import opened
from recipes.recipe import Recipe
from recipes.roles.adapters import deployed
from recipes.roles.assembly import roles_of
from recipes.student_folder import BASES, SIZES, examined
from recipes.toyworld import models, weights

PROTOCOL = str(Path(__file__).parent / "toyworld-tiny-v1.yaml")
FIELDS = {
    "roles": {"kind": "adapters", "rank": 4, "alpha": 6},
    "student": {"rungs": 3, "shift": 2.0},
}


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """A student of adapters that has moved off its teacher, and its folder."""
    recipe = Recipe.model_validate(FIELDS)
    network = roles_of(recipe, shared(), stream_for(0), need_fake=False).student
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in network.parameters():
            p += 0.02 * torch.randn(p.shape, generator=generator)
    place = tmp_path_factory.mktemp("student")
    return deployed(network), place / export(network, recipe, shared(), place, 7)


def _copy(student, tmp_path):
    return shutil.copytree(student[1], tmp_path / "copy")


def _same(network, other) -> bool:
    ours, theirs = network.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(v, theirs[k]) for k, v in ours.items())


def test_what_is_said_here_is_what_the_toy_world_has():
    assert ("teacher", *weights.SPECIALISTS) == BASES
    assert {k: models.TRANSFORMER[k] for k in SIZES} == SIZES


def test_looking_at_a_folder_imports_no_torch(student):
    code = (
        "import sys; from recipes import subject; from pathlib import Path; "
        f"subject.examine(Path({str(student[1])!r}), {{}}); "
        "assert not {'torch', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ours_is_opened_as_it_was_exported(student):
    network, card = opened(student[1], {}, shared())
    assert _same(network, student[0])
    assert (card["rungs"], card["shift"], card["cycles"]) == (3, 2.0, 7)


def test_a_pipeline_that_diffusers_saved_again_needs_no_card(student, tmp_path, monkeypatch):
    home = str(tmp_path / "modules")
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", home)
    pipe = DiffusionPipeline.from_pretrained(
        student[1], trust_remote_code=True, local_files_only=True
    )
    pipe.save_pretrained(tmp_path / "theirs")
    assert not (tmp_path / "theirs" / "card.json").exists()
    network, card = opened(tmp_path / "theirs", {}, shared())
    assert _same(network, student[0])
    assert card == {"rungs": 3, "shift": 2.0, "renoises": False}


def test_a_lora_on_its_base_is_the_student(student):
    said = {"base": "teacher", "rungs": 3, "shift": 2.0}
    network, card = opened(student[1] / "lora", said, shared())
    expected = student[0].state_dict()
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    assert not _same(network, shared().network("teacher"))
    assert card["rungs"] == 3


def test_a_peft_folder_names_its_base_itself(tmp_path):
    from peft import LoraConfig, get_peft_model

    made = get_peft_model(
        shared().network("teacher"), LoraConfig(r=2, lora_alpha=8, target_modules=["to_q"])
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if "lora_B" in name:
                p += torch.randn(p.shape, generator=generator)
    made.save_pretrained(tmp_path / "peft")
    file = tmp_path / "peft" / "adapter_config.json"
    config = json.loads(file.read_text()) | {"base_model_name_or_path": "teacher"}
    file.write_text(json.dumps(config))
    network, _ = opened(tmp_path / "peft", {}, shared())
    expected = made.merge_and_unload().state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in network.state_dict().items())


def test_a_students_teacher_is_judged_only_where_it_is_known(student):
    lora = student[1] / "lora"
    assert "teacher" not in examined(lora, {"base": "teacher"}).card
    assert examined(lora, {"base": "teacher", "guidance_scale": 2}).card["guidance_scale"] == 2


def test_a_stranger_measures_as_the_trial_did(student, tmp_path):
    def numbers(folder, **settings):
        place = Context(
            key="", replicate=0, seed=stream_for(0), folder=tmp_path, cache=tmp_path / "cache",
            measurement=Measurement(protocol=PROTOCOL), student_settings=settings,
        )  # fmt: skip
        *_, last = subject.measure(folder, PROTOCOL, place)
        return last.metrics

    ours = numbers(student[1])
    copied = _copy(student, tmp_path)
    for extra in ("card.json", "README.md", "pipeline.py"):
        (copied / extra).unlink()
    theirs = numbers(copied)
    assert "t2i/fid_teacher" in ours
    assert "t2i/fid_teacher" not in theirs
    teacher = {"t2i/fid_teacher", "more/kd_teacher"}
    assert theirs == {k: v for k, v in ours.items() if k not in teacher}


def _without(*names):
    def change(folder):
        for name in names:
            (folder / name).unlink()

    return change


def _config(**fields):
    def change(folder):
        file = folder / "transformer" / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return change


def _other_pipeline(folder):
    (folder / "card.json").unlink()
    index = folder / "model_index.json"
    said = json.loads(index.read_text()) | {"_class_name": "StableDiffusionXLPipeline"}
    index.write_text(json.dumps(said))


def _pickled(folder):
    home = folder / "transformer"
    (home / "diffusion_pytorch_model.safetensors").unlink()
    (home / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps({}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_without("model_index.json", "card.json"), "it holds no model_index.json"),
        (_other_pipeline, "is a StableDiffusionXLPipeline: the protocol asks for pictures"),
        (_without("transformer/diffusion_pytorch_model.safetensors"), "holds no weights"),
        (_pickled, "diffusion_pytorch_model.bin is pickled, and unpickling runs whatever"),
        (_without("transformer/config.json"), "lacks config.json"),
        (_config(_class_name="FluxTransformer2DModel"), "is a FluxTransformer2DModel"),
        (_config(in_channels=64), "in_channels 64 instead of 48"),
        (lambda f: (f / "card.json").write_text("{"), "card.json cannot be read"),
        (lambda f: (f / "card.json").write_text('{"a":' + "[" * 99_999), "nested too deep"),
        (lambda f: (f / "card.json").write_text('{"shift": NaN}'), "NaN is no number of JSON"),
        (lambda f: (f / "card.json").write_text(r'{"a": "\ud83d"}'), "surrogates not allowed"),
        (lambda f: (f / "card.json").write_bytes(b'{"a": "caf\xe9"}'), "card.json cannot be read"),
        (lambda f: (f / "card.json").write_text(" " * 4_000_001), "over 4000000 bytes"),
        (lambda f: (f / "model_index.json").write_text("[]"), "holds no object"),
    ],
)
def test_each_wrong_folder_says_why(student, tmp_path, change, told):
    folder = _copy(student, tmp_path)
    examined(folder)
    change(folder)
    with pytest.raises(ValueError, match="^" + str(tmp_path)) as error:
        examined(folder)
    assert told in str(error.value)


def test_wrong_paths_settings_and_bases(student, tmp_path):
    (tmp_path / "file").touch()
    for path, settings, told in (
        (tmp_path / "gone", {}, "does not exist"),
        (tmp_path / "file", {}, "is a file"),
        (student[1], {"rung": 4}, "no setting 'rung'; allowed: base, rungs"),
        (student[1], {"rungs": "4"}, "rungs must be int, given '4'"),
        (student[1], {"rungs": True}, "rungs must be int"),
        (student[1], {"base": "teacher"}, "`base` is for a LoRA"),
        (student[1] / "lora", {}, "needs the base it was trained on (it does not say which)"),
        (student[1] / "lora", {"base": "sdxl"}, "it names 'sdxl'"),
    ):
        with pytest.raises(ValueError, match=r".") as error:
            examined(path, settings)
        assert told in str(error.value)


def test_weights_that_do_not_fit_are_told_in_a_line(student, tmp_path):
    folder = _copy(student, tmp_path)
    file = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    QwenImageTransformer2DModel(**models.TRANSFORMER | {"num_layers": 1}).save_pretrained(
        tmp_path / "small"
    )
    shutil.copy(tmp_path / "small" / file.name, file)
    with pytest.raises(ValueError, match=r"do not fit: 64 missing_keys, e\.g\."):
        opened(folder, {}, shared())
    file.write_bytes(b"not a tensor")
    with pytest.raises(ValueError, match="cannot be loaded"):
        opened(folder, {}, shared())
    save_file(
        {"transformer.nowhere.lora_A.weight": torch.zeros(2, 4),
         "transformer.nowhere.lora_B.weight": torch.zeros(4, 2)},
        student[1].parent / "pytorch_lora_weights.safetensors",
    )  # fmt: skip
    with pytest.raises(ValueError, match="LoRA"):
        opened(student[1].parent, {"base": "teacher"}, shared())
