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

    def __init__(
        self, folder: Path = weights.WEIGHTS, *, check: bool = True, device: str = "cpu"
    ) -> None:
        """Load what is frozen; networks live on the device, latents and texts on the CPU."""
        self.folder = folder
        self.check = check
        self.device = torch.device(device)
        self.autoencoder: Any = self._loaded("autoencoder")
        self.text_encoder: Any = self._loaded("text_encoder")
        self._frozen: dict[str, nn.Module] = {}

    def network(self, name: str) -> nn.Module:
        """A fresh copy of the transformer of named weights (`teacher`, `specialist`)."""
        if name not in self._frozen:
            self._frozen[name] = self._loaded(name)
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
        source = None if source_BCHW is None else source_BCHW.to(self.device)
        z, t, text = (given.to(self.device) for given in (z_BCHW, t_B, text_BLD))
        return models.velocity(network, z, t, text, source).to(z_BCHW.device)

    @torch.no_grad()
    def condition(self, texts: Sequence[str], source_BCHW: Tensor | None = None) -> Condition:
        """Condition of captions or instructions and, for edits, source pictures in [-1, 1]."""
        text = self._embedded(texts)
        empty = self._embedded([""]).expand_as(text)
        source = None if source_BCHW is None else self.encode(source_BCHW)
        return Condition(text, empty, source)

    @torch.no_grad()
    def encode(self, images_BCHW: Tensor) -> Tensor:
        latents: Tensor = self.autoencoder.encode(images_BCHW.to(self.device))
        return latents.cpu()

    def labels(self, texts: Sequence[str]) -> tuple[str, ...]:
        return tuple(VOCABULARY[ids[0]].removeprefix("edit:") for ids in encode(texts))

    @torch.no_grad()
    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Latents to pictures (B, 3, 24, 24) uint8."""
        images: Tensor = self.autoencoder.decode(latents_BCHW.to(self.device))
        return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).cpu()

    def export(self, network: nn.Module, recipe: Recipe, folder: Path, cycles: int) -> str:
        return export(network, recipe, self, folder, cycles)

    def load(
        self, folder: Path, settings: Mapping[str, Any] | None = None
    ) -> tuple[nn.Module, dict[str, Any]]:
        """Network in eval mode and card of a student, of `run` or from elsewhere."""
        from recipes.opened_student import opened as opened_student

        network, card = opened_student(folder, settings or {}, self)
        return network.to(self.device), card

    def _loaded(self, name: str) -> nn.Module:
        made: nn.Module = weights.load(name, folder=self.folder, check=self.check)
        return made.to(self.device)

    def _embedded(self, texts: Sequence[str]) -> Tensor:
        hidden: Tensor = self.text_encoder(torch.tensor(encode(texts)).to(self.device))
        return hidden.cpu()


def opened(
    model: Mapping[str, Any] | None, *, negative: str, edits: bool, device: str
) -> ToyWorldFamily:
    """The family as `registry` asks for it."""
    return shared() if device == "cpu" else shared(device=device)


@cache
def shared(folder: Path = weights.WEIGHTS, device: str = "cpu") -> ToyWorldFamily:
    """The family, loaded once a process: trials in a warm worker share its frozen parts."""
    return ToyWorldFamily(folder, device=device)
