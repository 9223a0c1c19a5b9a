"""CLIP cosine: value, scale, and torchmetrics' convention."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.functional.pairwise import pairwise_cosine_similarity

from evaluation.text_image import clip_cosines


def test_per_item_and_not_clamped() -> None:
    images, texts = [[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, -1.0], [1.0, 0.0]]
    assert clip_cosines(images, texts) == pytest.approx([1, -1, 0.5**0.5])


def test_against_torchmetrics_cosine() -> None:
    """Torchmetrics' CLIPScore is the mean of 100 x these cosines, clamped at the mean only."""
    generator = torch.Generator().manual_seed(0)
    images, texts = torch.randn(2, 20, 8, generator=generator)
    expected = pairwise_cosine_similarity(images.double(), texts.double()).diagonal()
    got = clip_cosines(images, texts)
    assert got == pytest.approx(expected.numpy(), abs=1e-12)


def test_zero_embedding_has_cosine_zero() -> None:
    assert clip_cosines(np.zeros((1, 4)), np.ones((1, 4))).tolist() == [0.0]


def test_one_text_per_picture() -> None:
    with pytest.raises(ValueError, match="one text per picture"):
        clip_cosines(np.ones((3, 4)), np.ones((1, 4)))
