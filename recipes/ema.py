"""Exponential moving average of the student, in float32, one fused call per update."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """Shadow weights: shadow <- decay shadow + (1 - decay) weights, once per cycle."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        # Of a role made of adapters this copies the factors, so their average is taken. The product
        # of averaged factors is not the average of the products; near the end of training the two
        # are close, and no copy of full size is kept.
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self._shadow = list(self.module.parameters())

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the shadow towards `module`."""
        torch._foreach_lerp_(self._shadow, list(module.parameters()), 1.0 - self.decay)

    def state_dict(self) -> dict[str, Tensor]:
        """Shadow weights."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore shadow weights."""
        self.module.load_state_dict(state)
