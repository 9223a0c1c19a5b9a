"""The generator: diffusers' Qwen-Image transformer at tiny size, and how it is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import QwenImageTransformer2DModel
from torch import Tensor

from recipes.toyworld.autoencoder import LATENT_CHANNELS, LATENT_SIZE
from recipes.toyworld.text_encoder import TEXT_WIDTH

TRANSFORMER: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "num_layers": 3,
    "attention_head_dim": 32,
    "num_attention_heads": 4,
    "joint_attention_dim": TEXT_WIDTH,
    "axes_dims_rope": (4, 14, 14),
}
"""1.9 million parameters; wide heads, because few rotary frequencies tell 3 positions apart."""


def transformer(config: Mapping[str, Any] | None = None) -> QwenImageTransformer2DModel:
    """A freshly initialised transformer; `config` overrides fields of `TRANSFORMER`."""
    return QwenImageTransformer2DModel(**{**TRANSFORMER, **(config or {})})


def velocity(
    model: QwenImageTransformer2DModel,
    z_t_BCHW: Tensor,
    t_B: Tensor,
    text_BLD: Tensor,
    source_BCHW: Tensor | None = None,
) -> Tensor:
    """Velocity `noise - data` at `z_t = (1 - t) data + t noise`.

    Latents are packed to tokens row by row; the source's tokens are appended with a position of
    their own and the output is cut to the target's tokens, as in Qwen-Image-Edit.

    Args:
        model: the transformer.
        z_t_BCHW: noisy latents (B, 48, 3, 3).
        t_B: noise level (B,) in [0, 1], 1 being noise.
        text_BLD: text hidden states (B, TOKENS, 96).
        source_BCHW: clean latents of the picture to edit (B, 48, 3, 3), None for text-to-image.

    Returns:
        (B, 48, 3, 3).
    """
    tokens_BLC = z_t_BCHW.flatten(2).transpose(1, 2)
    count = tokens_BLC.shape[1]
    shapes = [(1, LATENT_SIZE, LATENT_SIZE)]
    if source_BCHW is not None:
        tokens_BLC = torch.cat([tokens_BLC, source_BCHW.flatten(2).transpose(1, 2)], dim=1)
        shapes = shapes * 2
    (out_BLC,) = model(
        hidden_states=tokens_BLC,
        encoder_hidden_states=text_BLD,
        encoder_hidden_states_mask=None,
        timestep=t_B,
        img_shapes=[shapes] * len(t_B),
        return_dict=False,
    )
    return out_BLC[:, :count].transpose(1, 2).reshape_as(z_t_BCHW)
