"""SSIM of the kept region: the map against the formula, and what each rule rewards."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torchmetrics.functional.image import structural_similarity_index_measure

from evaluation.structure import piebench_ssim, ssim_columns, ssim_map, ssim_outside

SIDE = 24


def pair(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    source = rng.random((4, 3, SIDE, SIDE))
    return np.clip(source + rng.normal(0, 0.2, source.shape), 0, 1), source


def kept_right(columns: int) -> np.ndarray:
    """Everything but the first columns is kept."""
    kept = np.ones((4, 1, SIDE, SIDE), dtype=bool)
    kept[..., :columns] = False
    return kept


def windowed(values: np.ndarray) -> np.ndarray:
    return gaussian_filter(values, 1.5, radius=5, axes=(2, 3), mode="mirror")


def test_map_against_the_formula() -> None:
    """Wang et al. 2004, with scipy's Gaussian window; to the digits that were recorded with it."""
    x, y = pair()
    mean_x, mean_y = windowed(x), windowed(y)
    var_x, var_y = windowed(x**2) - mean_x**2, windowed(y**2) - mean_y**2
    covariance = windowed(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    below = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    assert ssim_map(x, y) == pytest.approx(above / below, abs=1e-12)


def test_piebench_rule_against_torchmetrics() -> None:
    """PIE-Bench calls torchmetrics' SSIM with range 1 on masked pictures."""
    images, source = pair()
    kept = kept_right(9)
    x, y = torch.from_numpy(images), torch.from_numpy(source)
    mask = torch.from_numpy(kept)
    expected = structural_similarity_index_measure(
        x * mask, y * mask, data_range=1.0, reduction="none"
    )
    assert piebench_ssim(images, source, kept) == pytest.approx(expected.numpy(), abs=1e-12)


def test_area_rule_reads_whole_windows_of_the_kept_region_only() -> None:
    images, source = pair()
    kept = kept_right(6)
    # Windows of 11 pixels centred on rows 5 to 18 and columns 11 to 18 lie in frame and region.
    expected = ssim_map(images, source)[:, :, 5:19, 11:19].mean(axis=(1, 2, 3))
    assert ssim_outside(images, source, kept) == pytest.approx(expected, rel=1e-12)
    changed = images.copy()
    changed[..., :6] = 0
    assert np.array_equal(ssim_outside(changed, source, kept), ssim_outside(images, source, kept))


def test_the_masked_share_inflates_piebench_and_not_the_area_rule() -> None:
    images, source = pair()
    rules = [
        (piebench_ssim(images, source, kept).mean(), ssim_outside(images, source, kept).mean())
        for kept in (kept_right(0), kept_right(8), kept_right(12))
    ]
    piebench, area = zip(*rules, strict=True)
    assert piebench[0] + 0.05 < piebench[1] < piebench[2] - 0.02
    assert np.ptp(area) < 0.01


def test_columns_are_nan_where_nothing_can_be_compared() -> None:
    images, source = ((255 * part).astype(np.uint8) for part in pair())
    edited = np.zeros((4, 1, SIDE, SIDE))
    edited[0] = 1  # a whole-frame edit
    edited[1, ..., :15] = 1  # kept, but no window fits
    edited[2, ..., :12] = 1  # fits without dilation only: 11 columns are left
    columns = ssim_columns(images, source, edited, dilation_px=1)
    assert np.isnan(columns["ssim_outside"]).tolist() == [True, True, False, False]
    assert np.isnan(columns["ssim_piebench"]).tolist() == [True, False, False, False]
    same = ssim_columns(source, source, edited, dilation_px=1)
    assert same["ssim_outside"][2:] == pytest.approx([1, 1])
