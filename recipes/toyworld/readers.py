"""CLIP and oracle of the toy world as a protocol calls them: modules, which move to a device.

Pictures come on the module's device; what the oracle finds is on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recipes.toyworld.item_cases import case_of, prompt_of
from recipes.toyworld.oracle import SCORES, follows, matches
from recipes.toyworld.weights import load


class ClipReader(nn.Module):
    """The tiny open_clip model."""

    def __init__(self) -> None:
        super().__init__()
        self.model: Any = load("clip")

    def embed_images(self, images_u8_BCHW: Tensor) -> Tensor:
        """uint8 pictures to embeddings."""
        with torch.no_grad():
            found: Tensor = self.model.encode_images(_unit(images_u8_BCHW))
            return found

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Captions to embeddings."""
        with torch.no_grad():
            found: Tensor = self.model.encode_captions(list(texts))
            return found


class OracleReader(nn.Module):
    """The oracle."""

    def __init__(self) -> None:
        super().__init__()
        self.model: Any = load("oracle")

    def read(self, images_u8_BCHW: Tensor, items: Sequence[Any]) -> dict[str, Tensor]:
        """Columns `words`, `letters`, `attributes` in [0, 1]; NaN where one does not apply."""
        found = matches(self.model, _unit(images_u8_BCHW), [prompt_of(i) for i in items])
        return {"words": found.words, "letters": found.letters, "attributes": found.accuracy}

    def follow(self, images_u8_BCHW: Tensor, items: Sequence[Any]) -> Tensor:
        """Was the instruction carried out, (B,) in [0, 1]."""
        return follows(self.model, _unit(images_u8_BCHW), [case_of(i) for i in items])

    def kept(self, images_u8_BCHW: Tensor, items: Sequence[Any]) -> Tensor:
        """Share of unchanged attributes that still read as they were, (B,); NaN for operations.

        Grey, sepia, inversion, denoising and deblurring have one true result, so pixels judge them.
        """
        cases = [case_of(item) for item in items]
        found = matches(self.model, _unit(images_u8_BCHW), [c.target for c in cases]).attributes
        for row, case in enumerate(cases):
            if case.operation is not None:
                found[row] = torch.nan
            else:
                assert case.changed is not None, "an edit without operation changes an attribute"
                found[row, SCORES.index(case.changed)] = torch.nan
        return found.nanmean(1)


def _unit(images_u8_BCHW: Tensor) -> Tensor:
    return images_u8_BCHW.float() / 127.5 - 1
