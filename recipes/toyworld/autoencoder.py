"""The tiny autoencoder: 24 x 24 pictures to 3 x 3 latents of 48 channels and back."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

PATCH = 8
LATENT_CHANNELS = 48
LATENT_SIZE = 3


class ToyAutoencoder(ModelMixin, ConfigMixin):
    """Each 8 x 8 patch becomes one latent of 48 numbers; the decoder looks at its neighbours.

    Latents are normalised per channel to mean 0 and standard deviation 1 over the world's
    pictures, by batch statistics frozen after training.
    """

    @register_to_config
    def __init__(self, channels: int = LATENT_CHANNELS, width: int = 320) -> None:
        """Build it.

        Args:
            channels: latent channels.
            width: hidden channels.
        """
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, PATCH, stride=PATCH),
            nn.GELU(),
            nn.Conv2d(width, width // 2, 1),
            nn.GELU(),
            nn.Conv2d(width // 2, channels, 1),
        )
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, 1),
            nn.GELU(),
            nn.Conv2d(width, 3 * PATCH * PATCH, 1),
            nn.PixelShuffle(PATCH),
        )

    def encode(self, images_BCHW: Tensor) -> Tensor:
        """Pictures (B, 3, 24, 24) in [-1, 1] to latents (B, 48, 3, 3) of unit scale."""
        latents: Tensor = self.norm(self.encoder(images_BCHW))
        return latents

    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Latents (B, 48, 3, 3) to pictures (B, 3, 24, 24), clamped to [-1, 1]."""
        return self.decode_raw(latents_BCHW).clamp(-1, 1)

    def decode_raw(self, latents_BCHW: Tensor) -> Tensor:
        """As `decode`, without the clamp: for losses."""
        images: Tensor = self.decoder(latents_BCHW)
        return images

    def forward(self, images_BCHW: Tensor, latent_noise: float = 0.0) -> Tensor:
        """Reconstruction (unclamped), with Gaussian noise of that size on the latents."""
        latents = self.encode(images_BCHW)
        return self.decode_raw(latents + latent_noise * torch.randn_like(latents))
