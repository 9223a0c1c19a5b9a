"""The toy world as a model family: real classes at tiny size, latents of 9 tokens.

`QwenImageTransformer2DModel` with source latents appended as in Qwen-Image-Edit; the code path is
the one a 20 B checkpoint takes. Legend: B batch, C channels, H height, W width, L tokens, D width.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recipes.export import export
from recipes.families.base import Condition
from recipes.toyworld import models, weights
from recipes.toyworld.autoencoder import LATENT_CHANNELS, LATENT_SIZE
from recipes.toyworld.prompts import VOCABULARY, encode
from recipes.toyworld.renderer import SIZE

if TYPE_CHECKING:
    from recipes.recipe import Recipe


class ToyWorldFamily:
    """Networks, text and latents of the toy world. Frozen parts are shared by all trials."""

    latent_shape = (LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
    edits = True
    negative = ""
    pixels = SIZE

    def __init__(self, folder: Path = weights.WEIGHTS, *, check: bool = True) -> None:
        self.folder = folder
        self.check = check
        self.autoencoder = weights.load("autoencoder", folder=folder, check=check)
        self.text_encoder = weights.load("text_encoder", folder=folder, check=check)
        self._frozen: dict[str, nn.Module] = {}

    def network(self, name: str) -> nn.Module:
        """A fresh copy of the transformer of named weights (`teacher`, `specialist`)."""
        if name not in self._frozen:
            self._frozen[name] = weights.load(name, folder=self.folder, check=self.check)
        return copy.deepcopy(self._frozen[name])

    def velocity(
        self,
        network: nn.Module,
        z_BCHW: Tensor,
        t_B: Tensor,
        text_BLD: Tensor,
        source_BCHW: Tensor | None,
        mask_BL: Tensor | None = None,
    ) -> Tensor:
        """Predicted velocity eps - x, (B, 48, 3, 3). Captions are of one length: no mask."""
        return models.velocity(network, z_BCHW, t_B, text_BLD, source_BCHW)

    @torch.no_grad()
    def condition(self, texts: Sequence[str], source_BCHW: Tensor | None = None) -> Condition:
        """Condition of captions or instructions and, for edits, source pictures in [-1, 1]."""
        text = self.text_encoder(torch.tensor(encode(texts)))
        empty = self.text_encoder(torch.tensor(encode([""]))).expand_as(text)
        source = None if source_BCHW is None else self.autoencoder.encode(source_BCHW)
        return Condition(text, empty, source)

    @torch.no_grad()
    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Pictures in [-1, 1] to latents."""
        latents: Tensor = self.autoencoder.encode(images_BCHW)
        return latents

    def labels(self, texts: Sequence[str]) -> tuple[str, ...]:
        """Category of each caption, edit type of each instruction."""
        return tuple(VOCABULARY[ids[0]].removeprefix("edit:") for ids in encode(texts))

    @torch.no_grad()
    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Latents to pictures (B, 3, 24, 24) uint8."""
        images = self.autoencoder.decode(latents_BCHW)
        return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    def export(self, network: nn.Module, recipe: Recipe, folder: Path, cycles: int) -> str:
        """Write a student's folder inside `folder`; see `recipes.export`."""
        return export(network, recipe, self, folder, cycles)

    def load(
        self, folder: Path, settings: Mapping[str, Any] | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Network in eval mode and card of a student, of `run` or from elsewhere."""
        from recipes.opened_student import opened as opened_student

        return opened_student(folder, settings or {}, self)


def opened(
    model: Mapping[str, Any] | None, *, negative: str, edits: bool, device: str
) -> ToyWorldFamily:
    """The family as `registry` asks for it; it is small and stays on the CPU."""
    return shared()


@cache
def shared(folder: Path = weights.WEIGHTS) -> ToyWorldFamily:
    """The family, loaded once a process: trials in a warm worker share its frozen parts."""
    return ToyWorldFamily(folder)
