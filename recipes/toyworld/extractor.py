"""The feature network behind the headline distances; nothing in the product optimises it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Extractor(nn.Module):
    """Pictures to 64 features.

    Trained, on its own data and apart from the oracle, to tell attributes and letters and to
    regress local colours and fine detail, so that its features see layout, glyphs, hue and
    sharpness.
    """

    num_features = 64

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 5, 2, 2),
            nn.GELU(),
            nn.Conv2d(32, 48, 3, 1, 1),
            nn.GELU(),
            nn.Conv2d(48, 64, 3, 2, 1),
            nn.GELU(),
            nn.Conv2d(64, 48, 3, 1, 1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(48 * 36, 128),
            nn.GELU(),
            nn.Linear(128, self.num_features),
        )

    def forward(self, images_u8: Tensor) -> Tensor:
        """Features of pictures.

        Args:
            images_u8: (N, 3, 24, 24) uint8.

        Returns:
            (N, 64) float32. No batch statistics: a picture's features depend on it alone.

        Raises:
            ValueError: another dtype or size.
        """
        if images_u8.dtype != torch.uint8 or images_u8.shape[1:] != (3, 24, 24):
            raise ValueError(
                f"the extractor takes (N, 3, 24, 24) uint8, not {tuple(images_u8.shape)} "
                f"{images_u8.dtype}: scale [-1, 1] to 0..255 first"
            )
        return self.features(images_u8.float() / 127.5 - 1)

    def features(self, images_BCHW: Tensor) -> Tensor:
        """As `forward`, from floats in [-1, 1]: for training."""
        features: Tensor = self.body(images_BCHW)
        return features
