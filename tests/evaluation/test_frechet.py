"""Frechet distance: closed forms, agreement of its forms, torchmetrics, scipy, the jackknife."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torchmetrics.image.fid import FrechetInceptionDistance

from evaluation.extractors import RandomProjection, extract
from evaluation.frechet import (
    Gaussian,
    frechet_distance,
    gaussian_distance,
)
from evaluation.jackknife import prompt_jackknife
from evaluation.prompts_left_out import LeftOut


def correlated(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(d, d)) / np.sqrt(np.arange(1, d + 1))
    return np.maximum(rng.normal(size=(n, d)) @ mixing + 0.3 + shift, 0)


def test_closed_form_of_gaussians() -> None:
    x = Gaussian.from_moments([0.0, 1.0], [[4.0, 0.0], [0.0, 9.0]])
    y = Gaussian.from_moments([1.0, 1.0], [[1.0, 0.0], [0.0, 25.0]])
    # Diagonal covariances: |mu|^2 + sum (s_x - s_y)^2 = 1 + (2-1)^2 + (3-5)^2.
    assert gaussian_distance(x, y) == pytest.approx(6.0, abs=1e-12)


def test_rotated_gaussians_against_scipy() -> None:
    x, y = correlated(400, 12, 1), correlated(300, 12, 2, 0.1)
    root = sqrtm(np.cov(x.T) @ np.cov(y.T))
    assert np.abs(np.imag(root)).max() < 1e-6
    expected = (
        ((x.mean(0) - y.mean(0)) ** 2).sum()
        + np.trace(np.cov(x.T) + np.cov(y.T))
        - 2 * np.trace(np.real(root))
    )
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [20, 64, 65, 500])
def test_identical_sets_have_distance_zero(n: int) -> None:
    x = correlated(n, 64, 3)
    assert frechet_distance(x, x[::-1]) < 1e-9


@pytest.mark.parametrize(("n", "m"), [(30, 40), (30, 300), (300, 30), (300, 200), (64, 64)])
def test_forms_agree(n: int, m: int) -> None:
    """Sample-space, QR and eigh forms on the same sets, on either side of n = d."""
    x, y = correlated(n, 64, 4), correlated(m, 64, 5, 0.2)
    by_moments = [Gaussian.from_moments(s.mean(0), np.cov(s.T)) for s in (x, y)]
    by_samples = [Gaussian(s.mean(0), (s - s.mean(0)) / np.sqrt(len(s) - 1)) for s in (x, y)]
    expected = frechet_distance(x, y)
    assert gaussian_distance(*by_moments) == pytest.approx(expected, rel=1e-6)
    assert gaussian_distance(*by_samples) == pytest.approx(expected, rel=1e-9)


def test_against_torchmetrics_with_the_same_extractor() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (150, 3, 24, 24), generator=generator, dtype=torch.uint8)
    fake = (real[:120].float() * 0.7 + 20).to(torch.uint8)
    extractor = RandomProjection(num_features=16, seed=1)
    metric = FrechetInceptionDistance(
        feature=extractor, normalize=False, input_img_size=(3, 24, 24)
    )
    metric.update(real, real=True)
    metric.update(fake, real=False)
    ours = frechet_distance(extract(extractor, fake), extract(extractor, real))
    # torchmetrics returns the dtype of the features, float32.
    assert ours == pytest.approx(float(metric.compute()), rel=1e-4)


def test_bias_falls_with_the_number_of_samples() -> None:
    reference = correlated(4000, 16, 6)
    values = [frechet_distance(correlated(n, 16, 7), reference) for n in (50, 200, 800)]
    assert values[0] > 2 * values[1] > 4 * values[2] > 0


def test_monotone_in_blur() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (64, 3, 8, 8), generator=generator, dtype=torch.uint8)
    extractor = RandomProjection(num_features=8)
    reference = extract(extractor, images)
    distances = []
    for keep in (1.0, 0.7, 0.4, 0.1):
        blurred = (keep * images.float() + (1 - keep) * images.float().mean((2, 3), True)).byte()
        distances.append(frechet_distance(extract(extractor, blurred), reference))
    assert distances == sorted(distances)
    assert distances[0] < 1e-9 < distances[1]


def test_jackknife_covers_the_expectation_and_removes_bias() -> None:
    """SE of the right size (reference notes: conservative), and most of the 1/N bias removed."""
    reference = Gaussian.from_features(correlated(6000, 8, 8))
    left = LeftOut.of([str(i % 24) for i in range(120)], 24)
    runs = [
        prompt_jackknife([left.frechet(correlated(120, 8, 100 + s), reference)]) for s in range(60)
    ]
    values = np.array([run.value for run in runs])
    spread, mean_se = values.std(ddof=1), np.mean([run.se for run in runs])
    assert 0.7 * spread < mean_se < 2.5 * spread
    corrected = np.mean([run.corrected for run in runs])
    assert abs(corrected) < 0.35 * values.mean()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 4)), "at least 2"),
        (np.full((5, 4), np.nan), "NaN"),
        (np.zeros(5), "samples, features"),
    ],
)
def test_bad_features_are_refused(x: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance(x, np.zeros((5, 4)))


def test_different_extractors_are_refused() -> None:
    with pytest.raises(ValueError, match="same extractor"):
        frechet_distance(np.zeros((5, 4)), np.zeros((5, 3)))
