"""Residual noise, saturation, clipping: known noise on flat, structured and rendered pictures."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.artefacts import clipped_share, residual_noise, saturation
from recipes.toyworld.items import reference_images

Pictures = NDArray[np.uint8]


def noisy(clean_BCHW: np.ndarray, sigma: float, seed: int = 0) -> Pictures:
    """Add Gaussian noise to pictures in [0, 1] and round them to 8 bits."""
    noise = np.random.default_rng(seed).normal(0, sigma, clean_BCHW.shape)
    return (np.clip(clean_BCHW + noise, 0, 1) * 255).round().astype(np.uint8)


def direct(image_CHW: Pictures) -> float:
    """The definition, pixel by pixel, in plain loops."""
    x = image_CHW.astype(float) / 255
    _, height, width = x.shape
    mask = [[1, -2, 1], [-2, 4, -2], [1, -2, 1]]
    places = []
    for i in range(2, height - 2):
        for j in range(2, width - 2):
            average = [
                [[x[c, i + a - 1 : i + a + 2, j + b - 1 : j + b + 2].mean() for b in (-1, 0, 1)]
                 for a in (-1, 0, 1)]
                for c in range(3)
            ]  # fmt: skip
            slope = sum((m[2][1] - m[0][1]) ** 2 + (m[1][2] - m[1][0]) ** 2 for m in average)
            answer = [
                abs(
                    sum(mask[a][b] * x[c, i + a - 1, j + b - 1] for a in range(3) for b in range(3))
                )
                for c in range(3)
            ]
            places.append((slope, answer))
    places.sort(key=lambda place: place[0])
    plain = [value for _, answer in places[: round(0.25 * len(places))] for value in answer]
    return 1.4826 * float(np.median(plain)) / 6


def test_noise_against_the_definition_in_plain_loops() -> None:
    ramp = np.linspace(0.2, 0.8, 12)[None, None, None] * np.ones((3, 3, 10, 12))
    images = noisy(ramp, 0.04)
    assert residual_noise(images) == pytest.approx([direct(image) for image in images], rel=1e-9)


@pytest.mark.parametrize("sigma", [0.01, 0.03, 0.1])
def test_noise_of_a_flat_picture_is_the_noise_that_was_added(sigma: float) -> None:
    images = noisy(np.full((300, 3, 24, 24), 0.5), sigma)
    assert residual_noise(images).mean() == pytest.approx(sigma, rel=0.03)


def test_gradients_and_upright_stripes_are_not_noise() -> None:
    i, j = np.mgrid[:24, :24]
    smooth = 0.3 + 0.012 * i + 0.1 * np.sin(1.2 * j)
    images = noisy(np.broadcast_to(smooth, (1, 3, 24, 24)), 0.0)
    assert residual_noise(images)[0] <= 0.0015  # the rounding to 8 bits


@pytest.mark.parametrize("category", ["landscape", "portrait", "text"])
def test_noise_on_rendered_pictures_is_the_noise_that_was_added(category: str) -> None:
    """The renderer's pictures are the truth: none to read, and what is added is what is read."""
    clean = reference_images(category, 128).numpy() / 255
    assert residual_noise(noisy(clean, 0.0)).mean() < 0.0015
    for sigma in (0.02, 0.05):
        read = residual_noise(noisy(clean, sigma))
        assert read.mean() == pytest.approx(sigma, rel=0.15), sigma
        assert np.mean(read > residual_noise(noisy(clean, 0.0))) > 0.99


def test_noise_is_read_on_the_plain_part() -> None:
    """A quarter of plain ground with noise counts; loud texture elsewhere does not."""
    rng = np.random.default_rng(1)
    clean = np.full((50, 3, 24, 24), 0.5)
    clean[..., :14] = rng.uniform(0, 1, (50, 3, 24, 14)).round()
    assert residual_noise(noisy(clean, 0.02)).mean() == pytest.approx(0.02, rel=0.1)


def test_small_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="6 x 6"):
        residual_noise(np.zeros((1, 3, 5, 24), dtype=np.uint8))


def test_saturation_against_colorsys() -> None:
    images = np.random.default_rng(2).integers(0, 256, (2, 3, 4, 5), dtype=np.uint8)
    images[0, :, 0, 0] = 0
    expected = [
        np.mean([colorsys.rgb_to_hsv(*pixel)[1] for pixel in image.reshape(3, -1).T / 255])
        for image in images
    ]
    assert saturation(images) == pytest.approx(expected, rel=1e-12)


def test_clipped_share_counts_two_levels_at_either_end() -> None:
    values = np.array([0, 2, 3, 128, 252, 253, 255, 100], dtype=np.uint8)
    assert clipped_share(values.reshape(1, 1, 2, 4).repeat(3, axis=1)).tolist() == [0.5]
