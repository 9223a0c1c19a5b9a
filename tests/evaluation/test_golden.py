"""Distances against torch-fidelity 0.4 and prdc 0.2, on features where those are right.

Features are handed to the libraries' own formulas, so nothing is downloaded. torchmetrics stands in
`test_frechet`, `test_kernel`, `test_edit` and `test_structure`, scipy's matrix root in
`test_frechet`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from prdc import compute_prdc
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from evaluation.frechet import frechet_distance
from evaluation.kernel import cmmd, kernel_distance
from evaluation.manifold import manifold_metrics

Features = NDArray[np.float64]


def sets(n: int, m: int, d: int = 12, seed: int = 0) -> tuple[Features, Features]:
    """Fakes (n, d) and reals (m, d): continuous, correlated, no ties."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d)) / np.sqrt(np.arange(1, d + 1))
    return (1.1 * rng.normal(size=(n, d)) + 0.2) @ mixing, rng.normal(size=(m, d)) @ mixing


def test_frechet_against_torch_fidelity() -> None:
    """More samples than features and float64: its eigenvalues have no imaginary part to drop."""
    fake, real = sets(150, 220)
    statistics = [fid_features_to_statistics(torch.from_numpy(part)) for part in (fake, real)]
    expected = fid_statistics_to_metric(*statistics, verbose=False)
    assert frechet_distance(fake, real) == pytest.approx(
        expected["frechet_inception_distance"], rel=1e-9
    )


def test_kernel_distance_against_torch_fidelity() -> None:
    """Equal sizes, one subset that holds every sample, float64: only its order is random."""
    fake, real = sets(90, 90)
    expected = kid_features_to_metric(
        torch.from_numpy(fake), torch.from_numpy(real), kid_subsets=1, kid_subset_size=90,
        kid_kernel="poly", verbose=False,
    )  # fmt: skip
    assert kernel_distance(fake, real) == pytest.approx(
        expected["kernel_inception_distance_mean"], rel=1e-9
    )


def test_cmmd_u_against_torch_fidelity() -> None:
    """Its KID with the kernel of CMMD (RBF, sigma 10) on unit rows, times 1000, is CMMD-U."""
    fake, real = sets(80, 80, d=32)
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (fake, real)]
    expected = kid_features_to_metric(
        *map(torch.from_numpy, unit), kid_subsets=1, kid_subset_size=80,
        kid_kernel="rbf", kid_kernel_rbf_sigma=10.0, verbose=False,
    )  # fmt: skip
    assert cmmd(fake, real) == pytest.approx(
        1000 * expected["kernel_inception_distance_mean"], rel=1e-6
    )


def test_precision_and_recall_against_torch_fidelity() -> None:
    """Without ties its <= is our <; 0.4.0 has precision and recall the right way round."""
    fake, real = sets(100, 100, d=4)
    expected = prc_features_to_metric(
        torch.from_numpy(fake), torch.from_numpy(real), prc_neighborhood=5, prc_batch_size=64,
        save_cpu_ram=False, verbose=False,
    )  # fmt: skip
    ours = manifold_metrics(real, fake, k=5)
    assert 0.5 < ours["recall"] < 1 > ours["precision"] > 0.5
    assert ours["precision"] == pytest.approx(expected["precision"], abs=1e-6)
    assert ours["recall"] == pytest.approx(expected["recall"], abs=1e-6)


@pytest.mark.parametrize(("n", "m"), [(100, 100), (60, 90)])
def test_all_four_against_prdc(n: int, m: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Strict like ours; it takes the (k+1)-th of distances that include the sample itself."""
    fake, real = sets(n, m, d=4, seed=1)
    assert manifold_metrics(real, fake, k=5) == pytest.approx(compute_prdc(real, fake, 5))
    capsys.readouterr()


def test_where_prdc_and_torch_fidelity_part() -> None:
    """A collapsed set has balls of radius 0: `<` recalls nothing, `<=` the reals it sits on."""
    real = np.array([[0.0], [1.0], [2.0], [3.0]])
    fake = np.ones((4, 1))
    strict = compute_prdc(real, fake, 2)["recall"]
    loose = prc_features_to_metric(
        torch.from_numpy(fake), torch.from_numpy(real), prc_neighborhood=2, prc_batch_size=64,
        save_cpu_ram=False, verbose=False,
    )["recall"]  # fmt: skip
    assert (strict, loose) == (0.0, 0.25)
    assert manifold_metrics(real, fake, k=2)["recall"] == strict
