"""A trial of the large family from files to a measured student, on tiny random weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from evaluation.extractors import RandomProjection
from harness.contract import Context, Measurement
from harness.journal.seeds import stream_for
from recipes import checkpoint, subject
from recipes.families import qwen_image_files
from recipes.recipe import Recipe

PROTOCOL = """
name: tiny-files
version: 1
resolution: 32
items:
  factory: evaluation.filed:items
  file: {home}/items.jsonl
  t2i: {{text: 4}}
  edit: {{style: 2}}
sampler: {{nfe: 2, noise_shape: [4, 4, 4]}}
references:
  factory: evaluation.filed:reference_images
  args: {{folder: {home}/references, resolution: 32}}
  per_category: 8
extractor: {{factory: evaluation.extractors:RandomProjection, args: {{num_features: 4}}}}
clip: {{factory: "tests.recipes.families.test_qwen_image_trial:Clip"}}
oracle: {{factory: "tests.recipes.families.test_qwen_image_trial:Oracle"}}
edit_pictures: evaluation.filed:edit_pictures
manifold: {{k: 1, max_blocks: 1}}
intervals: {{resamples: 20, groups: 2}}
"""


class Clip:
    """Random projections of pixels and of lengths."""

    def embed_images(self, images_u8_BCHW: torch.Tensor) -> torch.Tensor:
        return RandomProjection(4).to(images_u8_BCHW.device)(images_u8_BCHW)

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[float(len(t)), 1.0, 2.0, 3.0] for t in texts])


class Oracle:
    """Brightness, for everything."""

    def read(self, images_u8_BCHW, items):
        return {"attributes": images_u8_BCHW.float().mean((1, 2, 3)) / 255}

    def follow(self, images_u8_BCHW, items):
        return images_u8_BCHW.float().mean((1, 2, 3)) / 255


def _picture(path: Path, seed: int, size: tuple[int, int] = (40, 36)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("files")
    prompts = [{"prompt": f'a sign that reads "{n}"'} for n in range(6)]
    (home / "signs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    rows = []
    for n in range(4):
        _picture(home / f"source-{n}.png", n)
        rows.append({"instruction": f"make it {n} times bluer", "source": f"source-{n}.png"})
    (home / "edits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    items = [
        {"item_id": f"t{n}", "task": "t2i", "category": "text", "prompt": f"held out {n}"}
        for n in range(4)
    ] + [
        {
            "item_id": f"e{n}", "task": "edit", "category": "style", "prompt": f"more of {n}",
            "detail": {"source": f"source-{n}.png"},
        }
        for n in range(2)
    ]  # fmt: skip
    (home / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    for n in range(8):
        _picture(home / "references" / "text" / f"{n}.png", 100 + n)
    (home / "tiny-files-v1.yaml").write_text(PROTOCOL.format(home=home))
    return home


def _recipe(weights: Path, home: Path, **changed) -> dict:
    fields = {
        "family": "qwen-image",
        "model": {"path": str(weights), "pixels": 32, "dtype": "float32"},
        "data": {
            "sources": {
                "signs": {
                    "kind": "files", "path": str(home / "signs.jsonl"), "category": "text",
                },
                "styles": {"kind": "files", "task": "edit", "path": str(home / "edits.jsonl")},
            },
            "composition": {"signs": 1},
            "edit_types": {"styles": 1},
        },
        "guidance": {"scale": 2.0},
        "student": {"rungs": 2},
        "roles": {"kind": "adapters", "rank": 2, "activation_checkpointing": True},
        "objective": {"name": "dmd", "fake_updates": 2, "warmup_fake_updates": 1},
        "train": {"cycles": 2, "batch_size": 2, "checkpoint_every": 1, "log_every": 1},
    } | changed  # fmt: skip
    return Recipe.model_validate(fields).model_dump(mode="json")


def _context(folder: Path, home: Path, cache: Path, resume: Path | None = None) -> Context:
    folder.mkdir(parents=True, exist_ok=True)
    return Context(
        key="k", replicate=0, seed=stream_for(0), folder=folder, cache=cache, resume_from=resume,
        measurement=Measurement(protocol=str(home / "tiny-files-v1.yaml")),
    )  # fmt: skip


def test_a_trial_is_trained_measured_kept_and_resumed_to_the_bit(weights, home, tmp_path):
    recipe = _recipe(weights, home)
    assert subject.missing(recipe, str(home / "tiny-files-v1.yaml")) == ()
    whole = list(subject.run(recipe, _context(tmp_path / "whole", home, tmp_path / "cache")))
    last = whole[-1]
    assert last.outcome is not None
    assert last.outcome.state == "done"
    assert {"t2i/fid", "t2i/kd", "t2i/clip", "edit/fidelity"} <= set(last.metrics)
    shares = whole[-1].metrics | {k: v for r in whole for k, v in r.metrics.items()}
    assert shares["train/share_t2i"] > 0
    assert shares["train/share_edit"] > 0

    part = tmp_path / "part"
    steps = subject.run(recipe, _context(part, home, tmp_path / "cache"))
    for report in steps:
        if any(a.kind == "checkpoint" for a in report.artifacts):
            break
    steps.close()
    resumed = list(
        subject.run(
            recipe,
            _context(tmp_path / "again", home, tmp_path / "cache", part / checkpoint.name_of(1)),
        )
    )
    assert resumed[-1].metrics == last.metrics

    student = tmp_path / "whole" / "student"
    assert not (student / "transformer").exists()  # the base's 20 B are not copied
    again = list(
        subject.measure(
            student,
            str(home / "tiny-files-v1.yaml"),
            _context(tmp_path / "kept", home, tmp_path / "cache"),
        )
    )
    assert again[-1].metrics == pytest.approx(last.metrics, rel=1e-5, abs=1e-6)


def test_the_base_may_be_in_half_precision_under_float32_adapters(weights, home, tmp_path):
    model = {"path": str(weights), "pixels": 32, "dtype": "bfloat16"}
    recipe = _recipe(weights, home, model=model, train={"cycles": 1, "batch_size": 2})
    last = list(subject.run(recipe, _context(tmp_path / "a", home, tmp_path / "c")))[-1]
    assert last.measured
    assert not last.non_finite()
    factors = load_file(tmp_path / "a" / "student" / "lora" / "pytorch_lora_weights.safetensors")
    assert {v.dtype for v in factors.values()} == {torch.float32}
    assert any(v.abs().sum() > 0 for name, v in factors.items() if "lora_B" in name)


def test_full_copies_are_trained_and_kept_whole(weights, home, tmp_path):
    recipe = _recipe(
        weights, home, roles={"kind": "copies"}, tasks={"t2i": 1},
        train={"cycles": 1, "batch_size": 1},
    )  # fmt: skip
    last = list(subject.run(recipe, _context(tmp_path / "a", home, tmp_path / "c")))[-1]
    assert (tmp_path / "a" / "student" / "transformer").is_dir()
    again = list(
        subject.measure(
            tmp_path / "a" / "student",
            str(home / "tiny-files-v1.yaml"),
            _context(tmp_path / "b", home, tmp_path / "c"),
        )
    )
    assert again[-1].metrics == pytest.approx(last.metrics, rel=1e-6)


def test_reference_rows_of_the_teacher_can_be_made(weights, home, tmp_path):
    recipe = _recipe(weights, home)
    rows = subject.references(recipe, "ignored")
    assert set(rows) == {"teacher-g2", "undistilled-2nfe"}
    made = list(
        subject.reference(rows["undistilled-2nfe"], _context(tmp_path / "r", home, tmp_path / "c"))
    )
    assert made[-1].outcome is not None
    assert made[-1].measured


def test_what_is_missing_is_told_and_keys_wait_for_it_unless_declared(weights, home, tmp_path):
    absent = _recipe(tmp_path / "none", tmp_path)
    told = subject.missing(absent, str(home / "tiny-files-v1.yaml"))
    assert any("hf download" in line for line in told)
    assert any("signs" in line for line in told)
    before = qwen_image_files.digest(absent)
    declared = json.loads(json.dumps(absent))
    declared["model"]["digest"] = "0123456789abcdef"
    for source in declared["data"]["sources"].values():
        source["digest"] = "fedcba9876543210"
    pinned = qwen_image_files.digest(declared)
    (tmp_path / "none" / "transformer").mkdir(parents=True)
    (tmp_path / "none" / "transformer" / "config.json").write_text("{}")
    (tmp_path / "signs.jsonl").write_text('{"prompt": "x"}\n')
    assert qwen_image_files.digest(absent) != before
    assert qwen_image_files.digest(declared) == pinned


def test_other_weights_are_another_key(weights, home, tmp_path):
    import shutil

    copied = shutil.copytree(weights, tmp_path / "copy")
    first = qwen_image_files.digest(_recipe(weights, home))
    assert qwen_image_files.digest(_recipe(copied, home)) == first  # a path says nothing
    file = next((copied / "transformer").glob("*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert qwen_image_files.digest(_recipe(copied, home)) != first


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"model": None}, "needs `model"),
        ({"data": {}}, "rendered by the toy world"),
        (
            {"teachers": {"base": {"weights": "signs"}}, "student": {"init": "base"}},
            "model.weights",
        ),
        ({"family": "toyworld"}, "the toy world has its own"),
    ],
)
def test_what_does_not_fit_is_refused(weights, home, changed, told):
    with pytest.raises(ValueError, match=told):
        _recipe(weights, home, **changed)
