"""Euler sampling of the toy teacher with guidance, straight from its networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from recipes.toyworld.autoencoder import LATENT_CHANNELS, LATENT_SIZE
from recipes.toyworld.models import velocity
from recipes.toyworld.prompts import encode


@torch.no_grad()
def sample(
    model: nn.Module,
    text_encoder: nn.Module,
    texts: Sequence[str],
    *,
    generator: Generator,
    source_BCHW: Tensor | None = None,
    guidance: float = 2.0,
    steps: int = 20,
    shift: float = 3.0,
) -> Tensor:
    """Latents (B, 48, 3, 3) for captions, or for instructions with source latents.

    Args:
        model: the transformer.
        text_encoder: ids to hidden states.
        texts: captions or instructions.
        generator: of the initial noise.
        source_BCHW: source latents for editing.
        guidance: w in `v_u + w (v_c - v_u)`; at 1 only the conditional branch is run.
        steps: Euler steps.
        shift: time shift s of the levels `s t / (1 + (s - 1) t)`.
    """
    count = len(texts)
    text = text_encoder(torch.tensor(encode(texts)))
    empty = text_encoder(torch.tensor(encode([""] * count)))
    levels = torch.linspace(1, 0, steps + 1)
    levels = shift * levels / (1 + (shift - 1) * levels)
    z = torch.randn(count, LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE, generator=generator)
    for now, then in itertools.pairwise(levels):
        t = now.expand(count)
        v = velocity(model, z, t, text, source_BCHW)
        if guidance != 1:
            v_u = velocity(model, z, t, empty, source_BCHW)
            v = v_u + guidance * (v - v_u)
        z = z + (then - now) * v
    return z
