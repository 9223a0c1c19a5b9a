"""What a model family offers: the only model-specific interface of distillation.

Legend: B batch, C channels, H height, W width, L text tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pathlib import Path

    from recipes.recipe import Recipe

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
    mask_BL: Tensor | None = None
    """True at tokens of `text_BLD`, false at padding; None where no text is padded."""
    empty_mask_BL: Tensor | None = None
    """The same of `empty_BLD`; given exactly where `mask_BL` is."""

    def rows(self, index: Tensor | slice) -> Condition:
        source = None if self.source_BCHW is None else self.source_BCHW[index]
        labels = self.labels
        if labels:
            numbers = torch.arange(len(labels))[index].tolist()
            labels = tuple(labels[number] for number in numbers)
        target = None if self.target_BCHW is None else self.target_BCHW[index]
        masks = [None if m is None else m[index] for m in (self.mask_BL, self.empty_mask_BL)]
        return Condition(
            self.text_BLD[index], self.empty_BLD[index], source, labels, target, *masks
        )


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
        """Category of each caption, edit type of each instruction; empty where it is not told."""
        ...

    def velocity(
        self,
        network: nn.Module,
        z_BCHW: Tensor,
        t_B: Tensor,
        text_BLD: Tensor,
        source_BCHW: Tensor | None,
        mask_BL: Tensor | None = None,
    ) -> Tensor:
        """Predicted velocity eps - x, (B, C, H, W); packing and cutting happen inside.

        `mask_BL` is false where the text is padding; a family that never pads ignores it.
        """
        ...


class PictureFamily(Family, Protocol):
    """A family that also turns pictures into latents and back: what a whole trial needs."""

    negative: str
    """The text that `empty_BLD` embeds; empty for the empty prompt."""
    pixels: int
    """Side of its square pictures."""

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Pictures (B, 3, H, W) in [-1, 1] to clean latents, without gradient."""
        ...

    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Latents to uint8 pictures (B, 3, H, W)."""
        ...

    def export(self, network: nn.Module, recipe: Recipe, folder: Path, cycles: int) -> str:
        """Write a student's folder inside `folder`; returns its name."""
        ...

    def load(
        self, folder: Path, settings: Mapping[str, Any] | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Network in eval mode and card of a folder that `export` wrote.

        `settings` say what a student from elsewhere does not say itself.
        """
        ...
