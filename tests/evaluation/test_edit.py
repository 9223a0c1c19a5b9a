"""Edits: area rule, PIE-Bench's rule, preservation, fidelity, direction similarity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.image import PeakSignalNoiseRatio

from evaluation.edit import (
    QUANTISATION_MSE,
    Preservation,
    as_pictures,
    direction_similarity,
    edit_fidelity,
    kept_region,
    masked_mse,
    moved,
    piebench_psnr,
    preservation,
    psnr,
)

SIDE = 20


def flat(value: int) -> np.ndarray:
    return np.full((1, 3, SIDE, SIDE), value, dtype=np.uint8)


def left_mask(columns: int) -> np.ndarray:
    mask = np.zeros((1, 1, SIDE, SIDE))
    mask[..., :columns] = 1
    return mask


def score(
    images: np.ndarray, source: np.ndarray, truth: np.ndarray, mask: np.ndarray
) -> Preservation:
    return preservation(images, source, truth, mask, scale=0.3, min_kept_share=0.1, dilation_px=0)


@pytest.mark.parametrize(
    ("columns", "inflation_db"), [(2, 0.46), (6, 1.55), (10, 3.01), (16, 6.99)]
)
def test_area_rule_and_piebench_rule(columns: int, inflation_db: float) -> None:
    """PIE-Bench's PSNR exceeds the area-normalised one by -10 log10(1 - edited share)."""
    rng = np.random.default_rng(0)
    source = np.full((60, 3, SIDE, SIDE), 0.5)
    images = source + rng.normal(0, 0.05, source.shape)
    kept = kept_region(left_mask(columns).repeat(60, axis=0), 0)
    area = psnr(masked_mse(images, source, kept))
    # 60 pictures with at least 240 values each: the mean is good to 0.05 dB.
    assert area.mean() == pytest.approx(-20 * np.log10(0.05), abs=0.15)
    assert piebench_psnr(images, source, kept) - area == pytest.approx(inflation_db, abs=0.01)


@given(data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_inflation_is_its_closed_form_for_any_mask(data: st.DataObject, seed: int) -> None:
    """Per picture and to the last digits: -10 log10(1 - f), f being the masked-out share."""
    rng = np.random.default_rng(seed)
    images, source = rng.random((2, 1, 3, SIDE, SIDE))
    left = data.draw(st.integers(1, SIDE * SIDE))
    kept = (rng.permutation(SIDE * SIDE) < left).reshape(1, 1, SIDE, SIDE)
    difference = piebench_psnr(images, source, kept) - psnr(masked_mse(images, source, kept))
    assert difference == pytest.approx(-10 * np.log10(left / SIDE**2), abs=1e-9)


def test_piebench_rule_against_torchmetrics_per_picture() -> None:
    generator = torch.Generator().manual_seed(0)
    images, source = torch.rand(2, 5, 3, SIDE, SIDE, generator=generator, dtype=torch.float64)
    kept = kept_region(left_mask(7).repeat(5, axis=0), 0)
    mask = torch.from_numpy(kept)
    metric = PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3), reduction="none")
    expected = metric(images * mask, source * mask)
    got = piebench_psnr(images.numpy(), source.numpy(), kept, mse_floor=0.0)
    # torchmetrics keeps its sums in float32.
    assert got == pytest.approx(expected.numpy(), rel=1e-5)


def test_identical_pictures_stop_at_the_quantisation_floor() -> None:
    assert psnr(np.zeros(1)) == pytest.approx(58.92, abs=0.01)
    assert np.isinf(psnr(np.zeros(1), mse_floor=0.0))
    assert pytest.approx((0.5 / 255) ** 2 / 3) == QUANTISATION_MSE


def test_dilation_grows_the_edited_region() -> None:
    mask = np.zeros((1, 1, 7, 7))
    mask[0, 0, 3, 3] = 1
    assert [(~kept_region(mask, px)).sum() for px in (0, 1, 2)] == [1, 9, 25]


def test_dilation_stays_inside_its_picture() -> None:
    mask = np.zeros((2, 1, 5, 5))
    mask[0] = 1
    assert kept_region(mask, 1)[1].all()


def test_preservation_of_a_local_edit_ignores_the_edited_region() -> None:
    source, mask = flat(100), left_mask(10)
    images = source.copy()
    images[..., :10] = 255
    got = score(images, source, source, mask)
    assert got.score.tolist() == [1.0]
    assert got.rmse_outside.tolist() == [0.0]
    assert got.rmse_inside == pytest.approx([155 / 255])
    assert not got.against_truth.any()


def test_preservation_formula_and_its_floor() -> None:
    source, mask = flat(100), left_mask(10)
    slightly, far = source.copy(), source.copy()
    slightly[..., 10:] += 51  # rmse 0.2 on the kept half
    far[..., 10:] += 120
    assert score(slightly, source, source, mask).score == pytest.approx([1 - 0.2 / 0.3])
    assert score(far, source, source, mask).score.tolist() == [0.0]


def test_preservation_does_not_depend_on_the_masked_share() -> None:
    source = flat(100)
    scores = [
        float(score(source + 51, source, source, left_mask(columns)).score[0])
        for columns in (1, 10, 17)
    ]
    assert scores == pytest.approx([1 - 0.2 / 0.3] * 3)


def test_whole_picture_edit_is_compared_with_the_truth() -> None:
    source = flat(40)
    source[..., ::2] = 90
    truth, everything = 255 - source, left_mask(SIDE)
    done, copied = (score(s, source, truth, everything) for s in (truth, source))
    assert done.against_truth.all()
    assert done.score.tolist() == [1.0]
    assert copied.score.tolist() == [0.0]
    assert np.isnan(done.rmse_outside).all()
    assert np.isnan(done.psnr_outside).all()
    assert np.isnan(done.psnr_piebench).all()


def test_copied_source_has_no_fidelity() -> None:
    """Perfect preservation, nothing followed: 0; half of both: a half, not the mean of extremes."""
    assert edit_fidelity([0.0, 0.5, 1.0], [1.0, 0.5, 1.0]).tolist() == [0.0, 0.5, 1.0]
    extremes = edit_fidelity([0.0, 1.0], [1.0, 0.0])
    assert extremes.mean() == 0


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan])
def test_fidelity_refuses_scores_out_of_range(bad: float) -> None:
    with pytest.raises(ValueError, match="following"):
        edit_fidelity([bad], [0.5])


def test_float_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        as_pictures(np.zeros((1, 3, 4, 4), dtype=np.float32), "images")


def test_mask_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="mask"):
        score(flat(1), flat(1), flat(1), np.zeros((1, 1, 4, 4)))


def test_direction_similarity() -> None:
    source_image = np.tile([1.0, 0.0, 0.0], (4, 1))
    image = np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    source_text = np.array([[1.0, 0, 0], [0, 1.0, 0], [1.0, 0, 0], [1.0, 0, 0]])
    target_text = np.array([[0, 1.0, 0], [1.0, 0, 0], [0, 1.0, 0], [2.0, 0, 0]])
    cosine = direction_similarity(source_image, image, source_text, target_text)
    # Along, against, not moved (defined 0), and no direction asked for (not applicable).
    assert cosine[:3] == pytest.approx([1, -1, 0])
    assert np.isnan(cosine[3])
    assert moved(source_image, image).tolist() == [True, True, False, True]
