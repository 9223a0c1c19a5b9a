"""Renders prompts and edit cases: pure, deterministic, vectorised over the batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from recipes.toyworld.canvas import FREE, SIZE
from recipes.toyworld.landscape import landscape
from recipes.toyworld.portrait import portrait
from recipes.toyworld.prompts import (
    ATTRIBUTES,
    CATEGORIES,
    EDIT_TYPES,
    EditCase,
    Prompt,
    edit_cases,
    prompts,
    word_letters,
)
from recipes.toyworld.sign import sign

__all__ = [
    "FREE",
    "SIZE",
    "attribute_indices",
    "degrade",
    "fingerprint",
    "render",
    "render_edit",
    "render_sources",
    "stylise",
]

NOISE = 0.35
"""Standard deviation of the noise that `denoise` asks to remove, on the [-1, 1] scale."""
BLUR_PASSES = 2
"""3 x 3 box blurs that `deblur` asks to undo."""

_DRAW = {"landscape": landscape, "portrait": portrait, "text": sign}


@cache
def attribute_indices(prompt: Prompt) -> tuple[int, ...]:
    """Index of each attribute's value; a word gives its four letter indices instead."""
    row: list[int] = []
    for (name, values), value in zip(
        ATTRIBUTES[prompt.category].items(), prompt.attributes, strict=True
    ):
        row.extend(word_letters(value) if name == "word" else (values.index(value),))
    return tuple(row)


def render(prompts: Sequence[Prompt], free_BF: Tensor) -> Tensor:
    """Pictures of prompts.

    Args:
        prompts: what each picture shows; categories may be mixed.
        free_BF: (B, FREE) uniform in [0, 1]: position, size, hue, texture. Its dtype is the
            dtype of the computation.

    Returns:
        (B, 3, 24, 24) float32 in [-1, 1].

    Raises:
        ValueError: free variables of the wrong shape.
    """
    if free_BF.shape != (len(prompts), FREE):
        raise ValueError(
            f"free variables have shape {tuple(free_BF.shape)}; {len(prompts)} prompts need "
            f"({len(prompts)}, {FREE})"
        )
    return _render(prompts, free_BF).float()


def _render(prompts: Sequence[Prompt], free_BF: Tensor) -> Tensor:
    images = free_BF.new_empty(len(prompts), 3, SIZE, SIZE)
    for category in CATEGORIES:
        rows = [i for i, prompt in enumerate(prompts) if prompt.category == category]
        if rows:
            index = torch.tensor([attribute_indices(prompts[i]) for i in rows])
            images[rows] = _DRAW[category](index, free_BF[rows]) * 2 - 1
    return images


def render_edit(
    cases: Sequence[EditCase], free_BF: Tensor, noise_BCHW: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Source, target and edited region of edit cases.

    Args:
        cases: the edits.
        free_BF: (B, FREE) uniform in [0, 1], shared by source and target.
        noise_BCHW: (B, 3, 24, 24) standard normal; the noise of `denoise` sources.

    Returns:
        Source and target (B, 3, 24, 24) float32 in [-1, 1], and the exact edited region
        (B, 1, 24, 24) float32 in {0, 1}: every pixel for enhance and style, otherwise the pixels
        where the two renderings differ.
    """
    target = render([case.target for case in cases], free_BF)
    changed = [i for i, case in enumerate(cases) if case.operation is None]
    source = target.clone()
    if changed:
        source[changed] = render([cases[i].source for i in changed], free_BF[changed])
    mask = ((source - target).abs().amax(1, keepdim=True) > 1 / 255).float()
    for operation in ("denoise", "deblur", "grey", "sepia", "invert"):
        rows = [i for i, case in enumerate(cases) if case.operation == operation]
        if not rows:
            continue
        mask[rows] = 1.0
        if operation in ("denoise", "deblur"):
            source[rows] = degrade(target[rows], noise_BCHW[rows], operation)
        else:
            target[rows] = stylise(target[rows], operation)
    return source, target, mask


def render_sources(cases: Sequence[EditCase], free_BF: Tensor, noise_BCHW: Tensor) -> Tensor:
    """The sources of `render_edit` alone, (B, 3, 24, 24), to the same bits, for half its cost."""
    sources = render([case.source for case in cases], free_BF)
    for operation in ("denoise", "deblur"):
        rows = [i for i, case in enumerate(cases) if case.operation == operation]
        if rows:
            sources[rows] = degrade(sources[rows], noise_BCHW[rows], operation)
    return sources


def degrade(images_BCHW: Tensor, noise_BCHW: Tensor, operation: str) -> Tensor:
    """What `denoise` or `deblur` is asked to undo, in [-1, 1]."""
    if operation == "denoise":
        return (images_BCHW + NOISE * noise_BCHW).clamp(-1, 1)
    for _ in range(BLUR_PASSES):
        padded = torch.nn.functional.pad(images_BCHW, (1, 1, 1, 1), mode="replicate")
        images_BCHW = torch.nn.functional.avg_pool2d(padded, 3, stride=1)
    return images_BCHW


def stylise(images_BCHW: Tensor, operation: str) -> Tensor:
    """Grey, sepia or inverted colours, in [-1, 1]."""
    if operation == "invert":
        return -images_BCHW
    unit = images_BCHW / 2 + 0.5
    grey = (unit * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    if operation == "grey":
        return (grey * 2 - 1).expand_as(images_BCHW)
    low, high = torch.tensor([0.16, 0.09, 0.05]), torch.tensor([1.0, 0.90, 0.70])
    return (low + (high - low) * grey.movedim(1, -1)).movedim(-1, 1) * 2 - 1


@cache
def fingerprint() -> str:
    """Digest of what the renderer draws: changes exactly when pictures change.

    SHA-256 over a fixed probe set, rendered in float64 and rounded to 1e-4, so that the last
    bits of a machine's sine do not matter. The prompts and edits themselves are part of it.
    """
    digest = hashlib.sha256()
    golden = torch.tensor(0.6180339887498949, dtype=torch.float64)
    for category in CATEGORIES:
        probe = prompts(category)
        index = torch.arange(len(probe) * FREE, dtype=torch.float64).view(-1, FREE)
        images = _render(probe, (index * golden + 0.1) % 1)
        digest.update("".join(p.caption for p in probe).encode())
        digest.update((images * 1e4).round().to(torch.int16).numpy().tobytes())
    for edit_type in EDIT_TYPES:
        cases = edit_cases(edit_type)
        digest.update("".join(c.instruction + c.target.caption for c in cases).encode())
    digest.update(f"{NOISE} {BLUR_PASSES}".encode())
    return digest.hexdigest()
