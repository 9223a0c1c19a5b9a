"""Written measurements read back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluation.measure import Measured, measure
from evaluation.summary import summarise
from evaluation.world import load_world
from evaluation.writers import read_features, write_features, write_items
from tests.evaluation.fake_world import fake_protocol, good_student


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    protocol = fake_protocol(tmp_path_factory.mktemp("protocol"))
    return measure(good_student, protocol, load_world(protocol))


def written(measured: Measured, folder: Path) -> dict[str, Path]:
    features = write_features(measured.features, measured.items, folder / "features.npz")
    return {**write_items(measured.items, folder), "features": features}


def test_round_trip(measured: Measured, tmp_path: Path) -> None:
    paths = written(measured, tmp_path)
    names = {"items.parquet", "items.csv", "features.npz"}
    assert {path.name for path in tmp_path.iterdir()} == names  # nothing half written beside them
    pd.testing.assert_frame_equal(pd.read_parquet(paths["items_parquet"]), measured.items)
    csv = pd.read_csv(paths["items_csv"])
    np.testing.assert_array_equal(csv["clip"], measured.items["clip"])
    features = read_features(paths["features"])
    assert features.keys() == measured.features.keys()
    for name, rows in features.items():
        np.testing.assert_array_equal(rows, measured.features[name])


def test_rows_of_features_are_named(measured: Measured, tmp_path: Path) -> None:
    path = written(measured, tmp_path)["features"]
    with np.load(path, allow_pickle=False) as stored:
        assert stored["t2i/rows"][0] == "warm-0#0"
        assert len(stored["edit/rows"]) == len(stored["edit/features"]) == 12


def test_summary_from_disk_is_the_same(measured: Measured, tmp_path: Path) -> None:
    protocol = fake_protocol(tmp_path)
    paths = written(measured, tmp_path)
    world = load_world(protocol)
    references = {category: world.reference(category, 40) for category in protocol.items.t2i}
    metrics, _ = summarise(
        pd.read_parquet(paths["items_parquet"]),
        read_features(paths["features"]),
        references,
        protocol,
    )
    assert metrics == measured.metrics
