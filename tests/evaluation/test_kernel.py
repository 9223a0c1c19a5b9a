"""Kernel distances: hand computation, the null, torchmetrics' KID, CMMD, the jackknife."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import KernelInceptionDistance

from evaluation.extractors import RandomProjection, extract
from evaluation.jackknife import assign_groups, delete_group_jackknife
from evaluation.kernel import (
    KernelTerms,
    cmmd,
    gaussian_rbf,
    kernel_distance,
    mean_within,
)


def test_hand_computation() -> None:
    x, y = np.array([[1.0], [2.0]]), np.array([[0.0], [3.0]])
    # k(a, b) = (ab + 1)^3: within x 27, within y 1, across mean of 1, 64, 1, 343.
    assert kernel_distance(x, y) == pytest.approx(27 + 1 - 2 * (1 + 64 + 1 + 343) / 4, abs=1e-12)


def test_mean_is_zero_under_the_null() -> None:
    rng = np.random.default_rng(0)
    values = np.array(
        [kernel_distance(rng.normal(size=(40, 6)), rng.normal(size=(60, 6))) for _ in range(400)]
    )
    standard_error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean()) < 3.5 * standard_error
    assert (values < 0).any()


@pytest.mark.filterwarnings("ignore:Metric .Kernel Inception Distance. will save")
def test_against_torchmetrics_on_one_full_subset() -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (90, 3, 24, 24), generator=generator, dtype=torch.uint8)
    fake = (real.float() * 0.6 + 30).to(torch.uint8)
    extractor = RandomProjection(num_features=16, seed=2)
    metric = KernelInceptionDistance(feature=extractor, subsets=1, subset_size=90)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    ours = kernel_distance(extract(extractor, fake), extract(extractor, real))
    # torchmetrics computes the kernels in float32.
    assert ours == pytest.approx(float(metric.compute()[0]), rel=1e-3)


@pytest.mark.parametrize("block", [1, 7, 64, 4096])
def test_blocks_do_not_change_the_value(block: int) -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(64, 5)), rng.normal(size=(50, 5)) + 0.3
    assert kernel_distance(x, y, block=block) == pytest.approx(kernel_distance(x, y), rel=1e-12)


def test_cmmd_is_unbiased_where_the_published_statistic_is_not() -> None:
    rng = np.random.default_rng(2)
    pairs = [(rng.normal(size=(30, 64)), rng.normal(size=(30, 64))) for _ in range(200)]
    values = np.array([cmmd(x, y) for x, y in pairs])
    assert abs(values.mean()) < 3.5 * values.std(ddof=1) / np.sqrt(len(values))

    def v_statistic(x: np.ndarray, y: np.ndarray) -> float:
        x, y = (s / np.linalg.norm(s, axis=1, keepdims=True) for s in (x, y))
        terms = (
            gaussian_rbf(x, x).mean() + gaussian_rbf(y, y).mean() - 2 * gaussian_rbf(x, y).mean()
        )
        return 1000 * float(terms)

    # Orthogonal embeddings: k is about exp(-2/200), so the floor is about 2000 (1 - k) / 30.
    floor = np.mean([v_statistic(x, y) for x, y in pairs])
    assert floor == pytest.approx(2000 * (1 - np.exp(-0.01)) / 30, rel=0.1)


def test_cmmd_ignores_the_length_of_embeddings() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(20, 8)), rng.normal(size=(25, 8)) + 0.5
    assert cmmd(3 * x, y * 0.1) == pytest.approx(cmmd(x, y), rel=1e-9)


def test_terms_leave_a_group_out_exactly() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(24, 4)), rng.normal(size=(50, 4)) + 0.2
    terms = KernelTerms.build(x, y, assign_groups(24, 6), reference_mean=mean_within(y))
    assert terms.distance() == pytest.approx(kernel_distance(x, y), rel=1e-12)
    for group in range(6):
        expected = kernel_distance(x[terms.label_N != group], y)
        assert terms.distance(group) == pytest.approx(expected, rel=1e-10)


def test_jackknife_error_matches_the_spread_over_samples() -> None:
    reference = np.random.default_rng(5).normal(size=(1500, 5))
    rngs = [np.random.default_rng(50 + s) for s in range(80)]
    label = assign_groups(96, 24)
    terms = [KernelTerms.build(r.normal(size=(96, 5)) * 1.2 + 0.2, reference, label) for r in rngs]
    runs = [delete_group_jackknife(t.distance, 24) for t in terms]
    spread = np.std([run.value for run in runs], ddof=1)
    assert np.mean([run.se for run in runs]) == pytest.approx(spread, rel=0.35)


def test_paired_difference_is_narrower_than_its_parts() -> None:
    rng = np.random.default_rng(6)
    reference, a = rng.normal(size=(400, 5)), rng.normal(size=(96, 5)) + 0.3
    b = a + 0.05 * rng.normal(size=a.shape)
    terms = [KernelTerms.build(s, reference, assign_groups(96, 24)) for s in (a, b)]
    apart = [delete_group_jackknife(t.distance, 24) for t in terms]
    together = delete_group_jackknife(lambda g: terms[0].distance(g) - terms[1].distance(g), 24)
    assert together.se < 0.4 * min(one.se for one in apart)
