"""A family of tiny, random, real Qwen-Image transformers in float64, and its source of prompts."""

from __future__ import annotations

import copy
from functools import cache

import torch

from recipes.families.base import Condition
from recipes.toyworld import models

SHAPE = (48, 3, 3)


@cache
def _network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    small = {"attention_head_dim": 16, "num_attention_heads": 2, "num_layers": 2}
    network = models.transformer({**small, "axes_dims_rope": (4, 6, 6)})
    with torch.no_grad():  # fresh ones are too flat to tell right from wrong
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return network.double().eval().requires_grad_(False)


class QwenFamily:
    latent_shape = SHAPE
    edits = True

    def network(self, weights: str) -> torch.nn.Module:
        return copy.deepcopy(_network({"teacher": 1, "specialist": 2}[weights]))

    def velocity(self, network, z_BCHW, t_B, text_BLD, source_BCHW, mask_BL=None):
        return models.velocity(network, z_BCHW, t_B.to(z_BCHW.dtype), text_BLD, source_BCHW)


class QwenSource:
    """Random text and sources, float64."""

    def t2i(self, categories, generators):
        text = torch.stack([torch.randn(6, 96, generator=g) for g in generators]).double()
        return Condition(text, torch.zeros_like(text))

    def edit(self, edit_types, generators):
        condition = self.t2i(edit_types, generators)
        source = torch.stack([torch.randn(SHAPE, generator=g) for g in generators]).double()
        return Condition(condition.text_BLD, condition.empty_BLD, source)
