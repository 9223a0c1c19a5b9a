"""A family of linear networks in float64: closed forms for everything distillation does."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recipes.families.base import Condition

SHAPE = (2, 2, 2)


class TinyNetwork(nn.Module):
    """velocity = a z + t b + text + 0.5 source; the text is the condition itself."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.a = nn.Parameter(torch.randn(8, 8, generator=generator, dtype=torch.float64) * 0.3)
        self.b = nn.Parameter(torch.randn(8, generator=generator, dtype=torch.float64))

    def forward(
        self, hidden_states: Tensor, t_B: Tensor, text: Tensor, source: Tensor | None
    ) -> Tensor:
        flat = hidden_states.flatten(1)
        v = flat @ self.a + t_B[:, None] * self.b + text.mean(1)
        if source is not None:
            v = v + 0.5 * source.flatten(1)
        return v.view_as(hidden_states)


class TinyFamily:
    latent_shape = SHAPE
    edits = True

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.dtype = dtype

    def network(self, weights: str) -> TinyNetwork:
        return TinyNetwork({"teacher": 1, "student": 2, "fake": 3, "specialist": 4}[weights]).to(
            self.dtype
        )

    def velocity(self, network, z_BCHW, t_B, text_BLD, source_BCHW, mask_BL=None):
        return network(z_BCHW, t_B.to(z_BCHW.dtype), text_BLD, source_BCHW)


class TinySource:
    """Text is eight uniforms; the empty prompt is zero; targets are Gaussian."""

    offers_targets = True

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype = dtype

    def _text(self, generators):
        return torch.stack([torch.rand(1, 8, generator=g) for g in generators]).to(self.dtype)

    def _latents(self, generators):
        return torch.stack([torch.randn(SHAPE, generator=g) for g in generators]).to(self.dtype)

    def t2i(self, categories, generators, *, targets=False):
        text = self._text(generators)
        target = self._latents(generators) if targets else None
        return Condition(text, torch.zeros_like(text), target_BCHW=target)

    def edit(self, edit_types, generators, *, targets=False):
        text = self._text(generators)
        source = self._latents(generators)
        target = self._latents(generators) if targets else None
        return Condition(text, torch.zeros_like(text), source, target_BCHW=target)
