"""Extractors: the contract is checked, pictures are guarded, the probe hash notices changes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from evaluation.extractors import (
    RandomProjection,
    check_extractor,
    component_as_extractor,
    extract,
    load_extractor,
    probe_hash,
    probe_pictures,
)
from evaluation.protocol_parts import Component


class BatchNormed(RandomProjection):
    """Subtracts the batch mean: its features depend on the company a picture is in."""

    def forward(self, images_u8_NCHW: Tensor) -> Tensor:
        features = super().forward(images_u8_NCHW)
        return features - features.mean(0)


class HalfPrecision(RandomProjection):
    def forward(self, images_u8_NCHW: Tensor) -> Tensor:
        return super().forward(images_u8_NCHW).bfloat16()


def missing_weights() -> nn.Module:
    raise FileNotFoundError("no weights/extractor.safetensors")


@pytest.mark.parametrize("resolution", [8, 24, 50])
def test_random_projection_keeps_the_contract(resolution: int) -> None:
    check_extractor(RandomProjection(num_features=5), resolution)


def test_random_projection_is_seeded_and_leaves_the_global_generator_alone() -> None:
    state = torch.get_rng_state()
    pictures = probe_pictures(8)
    same = [extract(RandomProjection(4, seed=s), pictures) for s in (1, 1, 2)]
    assert torch.equal(same[0], same[1])
    assert not torch.equal(same[0], same[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_batch_size_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (37, 3, 24, 24), generator=generator, dtype=torch.uint8)
    extractor = RandomProjection(num_features=16)
    features = [extract(extractor, pictures, batch_size) for batch_size in (1, 7, 37)]
    torch.testing.assert_close(features[0], features[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(features[0], features[2], rtol=0, atol=1e-5)


def test_batch_statistics_are_caught() -> None:
    with pytest.raises(ValueError, match="batch size"):
        check_extractor(BatchNormed(4), 8)


def test_half_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="bfloat16"):
        check_extractor(HalfPrecision(4), 8)


@pytest.mark.parametrize(
    "pictures", [torch.rand(2, 3, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)]
)
def test_pictures_must_be_uint8_batches(pictures: Tensor) -> None:
    with pytest.raises(ValueError, match="uint8"):
        extract(RandomProjection(4), pictures)


def test_probe_pictures_are_four_different_ones() -> None:
    pictures = probe_pictures(24)
    assert pictures.shape == (4, 3, 24, 24)
    assert pictures.dtype == torch.uint8
    assert len({picture.numpy().tobytes() for picture in pictures}) == 4
    assert int(pictures[3].max()) > 200


def test_probe_hash_ignores_rounding_and_notices_a_change() -> None:
    extractor = RandomProjection(num_features=16, seed=0)
    before = probe_hash(extractor, 24)
    extractor.projection_PD *= 1 + 1e-7
    assert probe_hash(extractor, 24) == before
    extractor.projection_PD *= 1 + 0.02 * torch.arange(16)
    assert probe_hash(extractor, 24) != before


def test_probe_hash_is_compared_with_the_protocols() -> None:
    factory = "evaluation.extractors:RandomProjection"
    right = probe_hash(RandomProjection(seed=5), 8)
    load_extractor(Component(factory=factory, args={"seed": 5}, probe=right), 8)
    with pytest.raises(ValueError, match=right):
        load_extractor(Component(factory=factory, args={"seed": 6}, probe=right), 8)


def test_missing_weights_name_the_command() -> None:
    component = Component(
        factory="tests.evaluation.test_extractors:missing_weights", fetch="make weights"
    )
    with pytest.raises(ValueError, match=r"extractor\.safetensors.*run: cd .* && make weights"):
        load_extractor(component, 8)


def test_what_is_not_an_extractor_is_refused() -> None:
    with pytest.raises(ValueError, match="num_features"):
        component_as_extractor(nn.Identity(), "identity")
