"""A toy-world student as a diffusers pipeline: captions or instructions to pictures.

It samples with the rollout and the rungs that the student was trained with, so its pictures are
those that were measured. Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers import DiffusionPipeline, QwenImageTransformer2DModel
from torch import Generator, Tensor

from recipes.rollout import sample
from recipes.schedule import Rungs
from recipes.toyworld.autoencoder import LATENT_CHANNELS, LATENT_SIZE, ToyAutoencoder
from recipes.toyworld.models import velocity
from recipes.toyworld.prompts import encode
from recipes.toyworld.text_encoder import ToyTextEncoder


class ToyWorldPipeline(DiffusionPipeline):
    """One network evaluation per rung, no guidance."""

    def __init__(
        self,
        transformer: QwenImageTransformer2DModel,
        text_encoder: ToyTextEncoder,
        autoencoder: ToyAutoencoder,
        rungs: int = 4,
        shift: float = 3.0,
        renoises: bool = False,
    ) -> None:
        """Join the parts.

        Args:
            transformer: the student.
            text_encoder: frozen, of the toy world.
            autoencoder: frozen, of the toy world.
            rungs: sampling steps.
            shift: shift of the rungs towards noise.
            renoises: fresh noise between rungs, instead of ODE steps.
        """
        super().__init__()
        self.register_modules(
            transformer=transformer, text_encoder=text_encoder, autoencoder=autoencoder
        )
        self.register_to_config(rungs=rungs, shift=shift, renoises=renoises)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        image: Tensor | None = None,
        generator: Generator | None = None,
        latents: Tensor | None = None,
    ) -> Tensor:
        """Pictures (B, 3, 24, 24) uint8.

        Args:
            prompt: captions, or with `image` instructions.
            image: uint8 pictures to edit (B, 3, 24, 24); None for text-to-image.
            generator: draws the first noise unless `latents` are given, and the noise between
                rungs where the student takes it.
            latents: the first noise (B, 48, 3, 3).

        Raises:
            ValueError: a text that is no caption or instruction of the toy world.
        """
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        shape = (len(texts), LATENT_CHANNELS, LATENT_SIZE, LATENT_SIZE)
        text = self.text_encoder(torch.tensor(encode(texts)))
        source = None if image is None else self.autoencoder.encode(image.float() / 127.5 - 1)

        def student(z: Tensor, t: Tensor, _rows: Tensor | slice) -> Tensor:
            return velocity(self.transformer, z, t, text, source)

        def fresh(_rung: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        first = fresh(0) if latents is None else latents
        rungs = Rungs(self.config.rungs, self.config.shift)
        made = sample(student, first, rungs, fresh if self.config.renoises else None)
        pictures = self.autoencoder.decode(made)
        return ((pictures + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
