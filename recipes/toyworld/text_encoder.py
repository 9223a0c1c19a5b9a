"""The tiny text encoder: a learnt row for every token in every slot."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from recipes.toyworld.prompts import TOKENS, VOCABULARY

TEXT_WIDTH = 96


class ToyTextEncoder(ModelMixin, ConfigMixin):
    """Token ids to hidden states, one table row per (slot, token).

    Separate rows per slot, because an added position embedding vanishes after the transformer's
    text normalisation, and letters must know their place. Trained with the base teacher, then
    frozen and shared by teachers and students.
    """

    @register_to_config
    def __init__(
        self, vocabulary: int = len(VOCABULARY), tokens: int = TOKENS, width: int = TEXT_WIDTH
    ) -> None:
        """Build it.

        Args:
            vocabulary: number of token ids.
            tokens: slots in a text.
            width: size of a hidden state.
        """
        super().__init__()
        self.rows = nn.Embedding(tokens * vocabulary, width)
        self.register_buffer("offset", torch.arange(tokens) * vocabulary, persistent=False)

    def forward(self, ids_BL: Tensor) -> Tensor:
        """Ids (B, TOKENS) int64 to (B, TOKENS, 96)."""
        hidden: Tensor = self.rows(ids_BL + self.offset)
        return hidden
