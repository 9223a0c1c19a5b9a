"""What a model family offers: the only model-specific interface of distillation.

Legend: B batch, C channels, H height, W width, L text tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

Task = Literal["t2i", "edit"]


@dataclass(frozen=True)
class Condition:
    """What an image is asked to be. One task and one shape per micro-batch."""

    text_BLD: Tensor
    """Embedded prompt or instruction."""
    empty_BLD: Tensor
    """Embedded empty prompt, for guidance; edits keep their source beside it."""
    source_BCHW: Tensor | None = None
    """Source latents of an edit; None for T2I (absent, not zeros)."""
    labels: tuple[str, ...] = ()
    """Category or edit type of each row, for teachers routed by condition; empty if unknown."""
    target_BCHW: Tensor | None = None
    """Clean latents of a picture that answers it; only where the objective needs one."""

    def rows(self, index: Tensor | slice) -> Condition:
        """The condition of some rows."""
        source = None if self.source_BCHW is None else self.source_BCHW[index]
        labels = self.labels
        if labels:
            numbers = torch.arange(len(labels))[index].tolist()
            labels = tuple(labels[number] for number in numbers)
        target = None if self.target_BCHW is None else self.target_BCHW[index]
        return Condition(self.text_BLD[index], self.empty_BLD[index], source, labels, target)


class Family(Protocol):
    """Networks and latents of one kind of model."""

    latent_shape: tuple[int, int, int]
    """(C, H, W) of a latent."""
    edits: bool
    """Whether the family can edit; one that cannot refuses `tasks.edit > 0`."""

    def network(self, weights: str) -> nn.Module:
        """A fresh copy of named weights, in eval mode."""
        ...

    def condition(self, texts: Sequence[str], source_BCHW: Tensor | None = None) -> Condition:
        """Condition of captions or instructions and, for edits, source pictures in [-1, 1]."""
        ...

    def labels(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Category of each caption, edit type of each instruction."""
        ...

    def velocity(
        self,
        network: nn.Module,
        z_BCHW: Tensor,
        t_B: Tensor,
        text_BLD: Tensor,
        source_BCHW: Tensor | None,
    ) -> Tensor:
        """Predicted velocity eps - x, (B, C, H, W); packing and cutting happen inside."""
        ...
