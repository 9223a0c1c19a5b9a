"""A real open_clip model at tiny size: text-image similarity for the toy world."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn

from recipes.toyworld.prompts import TOKENS, VOCABULARY, encode
from recipes.toyworld.renderer import SIZE

EMBEDDING = 64
START, END = len(VOCABULARY), len(VOCABULARY) + 1
"""Token ids around a caption; open_clip pools at the largest id, which is END."""


class ToyClip(nn.Module):
    """An `open_clip.CLIP` of 0.9 million parameters with the world's vocabulary."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = CLIP(
            embed_dim=EMBEDDING,
            vision_cfg=CLIPVisionCfg(
                image_size=SIZE, patch_size=8, layers=3, width=128, head_width=32
            ),
            text_cfg=CLIPTextCfg(
                context_length=TOKENS + 2, vocab_size=END + 1, width=96, heads=3, layers=2
            ),
        )

    def encode_images(self, images_BCHW: Tensor) -> Tensor:
        """Pictures (B, 3, 24, 24) in [-1, 1] to embeddings (B, 64) of length 1."""
        embeddings: Tensor = self.clip.encode_image(images_BCHW, normalize=True)
        return embeddings

    def encode_captions(self, captions: Sequence[str]) -> Tensor:
        """Captions to embeddings (B, 64) of length 1.

        Raises:
            ValueError: a text that is no caption of the world.
        """
        ids_BL = tokenise(captions).to(self.clip.logit_scale.device)
        embeddings: Tensor = self.clip.encode_text(ids_BL, normalize=True)
        return embeddings

    @property
    def scale(self) -> Tensor:
        """The learnt factor on cosines."""
        scale: Tensor = self.clip.logit_scale.exp()
        return scale


def tokenise(captions: Sequence[str]) -> Tensor:
    """(B, TOKENS + 2) ids: START, the caption's tokens, END."""
    return torch.tensor([[START, *ids, END] for ids in encode(captions)])
