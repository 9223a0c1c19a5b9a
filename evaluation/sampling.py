"""Asking a student for pictures: which draws of which items, in batches, with checked answers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from evaluation.items import Item, Task, noise
from evaluation.protocol import Protocol
from evaluation.world import World


@dataclass(frozen=True)
class Batch:
    """What is asked of a student at once; one task, one shape.

    Attributes:
        task: t2i or edit.
        items: B items.
        draws: B draw indices.
        noise_BCHW: initial noise, float32 on the CPU, of the protocol's `sampler.noise_shape`.
        source_u8_BCHW: source pictures of edits, uint8 on the CPU; None for t2i.
        protocol_id: what the noise is seeded with.
    """

    task: Task
    items: tuple[Item, ...]
    draws: tuple[int, ...]
    noise_BCHW: Tensor
    source_u8_BCHW: Tensor | None
    protocol_id: str

    @property
    def prompts(self) -> list[str]:
        """Captions, or instructions of edits."""
        return [item.prompt for item in self.items]

    def further_noise(self, step: int) -> Tensor:
        """Noise for re-noising at a sampler's step, as independent of batching as the first."""
        return noise(
            f"{self.protocol_id}/step-{step}",
            [item.item_id for item in self.items],
            self.draws,
            self.noise_BCHW.shape[1:],
        )


Generate = Callable[[Batch], Tensor]
"""A student as measuring sees it: a batch -> uint8 pictures (B, 3, H, W), any device."""


@dataclass(frozen=True)
class Progress:
    """Where measuring stands: `done` of `total` pictures (or categories) in a named stage."""

    stage: str
    done: int
    total: int


@dataclass(frozen=True)
class Answer:
    """A batch with the student's checked pictures, uint8 on the CPU, and the truth of edits."""

    batch: Batch
    images_u8_BCHW: Tensor
    truth_u8_BCHW: Tensor | None = None
    mask_B1HW: Tensor | None = None


def planned_draws(protocol: Protocol, items: Sequence[Item], task: Task) -> list[tuple[Item, int]]:
    """(item, draw) pairs of a task: draw 0 of every item, then the repeated draws for diversity."""
    chosen = [item for item in items if item.task == task]
    plan = [(item, 0) for item in chosen]
    if task == "edit":
        return plan
    repeated: dict[str, int] = {}
    for item in chosen:
        repeated[item.category] = repeated.get(item.category, 0) + 1
        if repeated[item.category] <= protocol.diversity.per_category:
            plan.extend((item, draw) for draw in range(1, protocol.diversity.draws))
    return plan


def asked(
    generate: Generate,
    protocol: Protocol,
    world: World,
    plan: Sequence[tuple[Item, int]],
    batch_size: int,
) -> Iterator[Answer]:
    """Ask for the planned draws of one task, batch by batch.

    Raises:
        ValueError: the student's pictures have another type, number or size than the protocol's.
    """
    for start in range(0, len(plan), batch_size):
        items = tuple(item for item, _ in plan[start : start + batch_size])
        draws = tuple(draw for _, draw in plan[start : start + batch_size])
        source = truth = mask = None
        if items[0].task == "edit":
            assert world.edit_pictures is not None, "checked when the protocol was loaded"
            source, truth, mask = (part.cpu() for part in world.edit_pictures(items))
        batch = Batch(
            task=items[0].task,
            items=items,
            draws=draws,
            noise_BCHW=noise(
                protocol.protocol_id,
                [item.item_id for item in items],
                draws,
                protocol.sampler.noise_shape,
            ),
            source_u8_BCHW=source,
            protocol_id=protocol.protocol_id,
        )
        with torch.no_grad():
            images = checked_images(generate(batch), len(items), protocol)
        yield Answer(batch, images, truth, mask)


def checked_images(images: Tensor, count: int, protocol: Protocol) -> Tensor:
    """Return the pictures as uint8 (count, 3, R, R) on the CPU, resized if the protocol says so.

    Raises:
        ValueError: not uint8, another number of pictures or channels, or a size the protocol
            refuses.
    """
    size = protocol.resolution
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[:2] != (count, 3):
        raise ValueError(
            f"the student gave {images.dtype} {tuple(images.shape)}; expected torch.uint8 "
            f"({count}, 3, {size}, {size})"
        )
    images = images.detach().cpu()
    if images.shape[2:] == (size, size):
        return images
    if protocol.resize == "refuse":
        raise ValueError(
            f"the student's pictures are {tuple(images.shape[2:])}; {protocol.protocol_id} "
            f"measures {size} x {size} and refuses to resize. Generate at that size, or write a "
            "protocol with resize: bicubic-antialias"
        )
    # Without antialias a shrunk picture has artefacts of the shrinking, and every distance moves.
    # Bicubic overshoots at edges: hence the clamp.
    resized = torch.nn.functional.interpolate(
        images.float(), size=(size, size), mode="bicubic", antialias=True, align_corners=False
    )
    return resized.round().clamp(0, 255).to(torch.uint8)


def sampling_features(
    generate: Generate, protocol: Protocol, world: World, batch_size: int = 64
) -> Generator[Progress, None, dict[str, np.ndarray]]:
    """Features of a teacher's own samples, for the distance to it.

    Samples every t2i item at each of the protocol's `references.teacher_draws`, which the student
    never uses, so that a teacher measured as a student has a distance above 0 from itself.

    Yields:
        Progress in pictures.

    Returns:
        category -> float32 features (items x draws, D).

    Raises:
        ValueError: the protocol names no teacher draws.
    """
    if not protocol.references.teacher_draws:
        raise ValueError(f"{protocol.protocol_id} has no references.teacher_draws")
    plan = [
        (item, draw)
        for draw in protocol.references.teacher_draws
        for item in world.items
        if item.task == "t2i"
    ]
    features_by_category: dict[str, list[np.ndarray]] = {}
    done = 0
    for answer in asked(generate, protocol, world, plan, batch_size):
        for item, row in zip(
            answer.batch.items, world.features(answer.images_u8_BCHW), strict=True
        ):
            features_by_category.setdefault(item.category, []).append(row)
        done += len(answer.batch.items)
        yield Progress("teacher", done, len(plan))
    return {category: np.stack(rows) for category, rows in features_by_category.items()}
