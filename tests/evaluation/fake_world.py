"""A world of 8 x 8 colour patches: enough to measure with, small enough to know every answer.

t2i: a picture of one colour, brightness free. Edits: `paint` recolours the left half, `invert`
inverts the whole picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evaluation.extractors import RandomProjection
from evaluation.items import Item
from evaluation.protocol import Protocol, load_protocol
from evaluation.sampling import Batch

SIDE = 8
COLOURS = ("red", "green", "blue")
CHANNEL = {colour: channel for channel, colour in enumerate(COLOURS)}

YAML_TEXT = """
name: fake
version: 1
resolution: 8
items:
  factory: tests.evaluation.fake_world:items
  t2i: {warm: 12, cold: 12}
  edit: {paint: 6, invert: 6}
sampler: {nfe: 1, noise_shape: [3, 2]}
references:
  factory: tests.evaluation.fake_world:reference_images
  per_category: 40
  teacher_draws: [1000, 1001]
extractor: {factory: "evaluation.extractors:RandomProjection", args: {num_features: 6, seed: 3}}
clip: {factory: tests.evaluation.fake_world:FakeClip}
oracle: {factory: tests.evaluation.fake_world:FakeOracle}
edit_pictures: tests.evaluation.fake_world:edit_pictures
digests: tests.evaluation.fake_world:digests
diversity: {per_category: 3, draws: 3}
manifold: {k: 3, max_blocks: 2}
intervals: {resamples: 200, groups: 6}
"""


def fake_protocol(folder: Path, text: str = YAML_TEXT) -> Protocol:
    path = folder / "fake-v1.yaml"
    path.write_text(text, encoding="utf-8")
    return load_protocol(path)


def items(t2i: Mapping[str, int], edit: Mapping[str, int]) -> list[dict[str, object]]:
    made: list[dict[str, object]] = []
    for category, count in t2i.items():
        for index in range(count):
            colour = COLOURS[(index + (category == "cold")) % 3]
            made.append(
                {
                    "item_id": f"{category}-{index}",
                    "task": "t2i",
                    "category": category,
                    "prompt": colour,
                    "detail": {"colour": colour},
                }
            )
    for edit_type, count in edit.items():
        for index in range(count):
            source, target = COLOURS[index % 3], COLOURS[(index + 1) % 3]
            made.append(
                {
                    "item_id": f"{edit_type}-{index}",
                    "task": "edit",
                    "category": edit_type,
                    "prompt": f"{edit_type} {target}",
                    "source_caption": source,
                    "target_caption": target,
                    "detail": {"source": source, "target": target},
                }
            )
    return made


def digests() -> dict[str, str]:
    return {name: hashlib.sha256(name.encode()).hexdigest() for name in ("extractor", "clip")}


def paint(colour: str, brightness: float) -> Tensor:
    picture = torch.full((3, SIDE, SIDE), 20, dtype=torch.uint8)
    picture[CHANNEL[colour]] = int(120 + 100 * brightness)
    return picture


def reference_images(category: str, count: int) -> Tensor:
    shift = int(category == "cold")
    generator = torch.Generator().manual_seed(shift)
    brightness = torch.rand(count, generator=generator).tolist()
    return torch.stack([paint(COLOURS[(i + shift) % 3], b) for i, b in enumerate(brightness)])


def reference_captions(category: str, count: int) -> list[str]:
    return [COLOURS[(i + (category == "cold")) % 3] for i in range(count)]


def edit_pictures(chosen: Sequence[Item]) -> tuple[Tensor, Tensor, Tensor]:
    sources, truths, masks = [], [], []
    for item in chosen:
        source = paint(str(item.detail["source"]), 0.5)
        mask = torch.zeros(1, SIDE, SIDE)
        if item.category == "invert":
            truth = 255 - source
            mask += 1
        else:
            truth = source.clone()
            truth[:, :, : SIDE // 2] = paint(str(item.detail["target"]), 0.5)[:, :, : SIDE // 2]
            mask[:, :, : SIDE // 2] = 1
        sources.append(source)
        truths.append(truth)
        masks.append(mask)
    return torch.stack(sources), torch.stack(truths), torch.stack(masks)


class FakeClip:
    """Embeds a picture as its mean colour, a caption as the colour it names."""

    def embed_images(self, images: Tensor) -> Tensor:
        return images.float().mean(dim=(2, 3))

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.eye(3)[[CHANNEL[text] for text in texts]]


class FakeOracle:
    """Right when the brightest channel is the one asked for; words only for the cold category."""

    def read(self, images: Tensor, chosen: Sequence[Item]) -> dict[str, np.ndarray]:
        brightest = images.float().mean(dim=(2, 3)).argmax(1).tolist()
        right = np.array(
            [float(b == CHANNEL[i.prompt]) for b, i in zip(brightest, chosen, strict=True)]
        )
        cold = np.array([item.category == "cold" for item in chosen])
        return {"attributes": right, "words": np.where(cold, right, np.nan)}

    def follow(self, images: Tensor, chosen: Sequence[Item]) -> Tensor:
        source, truth, _ = (part.float() for part in edit_pictures(chosen))
        far, near = (source - truth).abs(), (images.float() - truth).abs()
        return (1 - near.mean(dim=(1, 2, 3)) / far.mean(dim=(1, 2, 3))).clamp(0, 1)


def good_student(batch: Batch) -> Tensor:
    """Paints what is asked; the noise decides the brightness."""
    if batch.task == "edit":
        return edit_pictures(batch.items)[1]
    brightness = torch.sigmoid(1.7 * batch.noise_BCHW.flatten(1)[:, 0]).tolist()
    return torch.stack([paint(i.prompt, b) for i, b in zip(batch.items, brightness, strict=True)])


def collapsed_student(batch: Batch) -> Tensor:
    """Paints one picture whatever is asked; returns the source of an edit."""
    if batch.source_u8_BCHW is not None:
        return batch.source_u8_BCHW
    return paint("green", 0.5).expand(len(batch.items), -1, -1, -1)


def projection() -> RandomProjection:
    return RandomProjection(num_features=6, seed=3)
