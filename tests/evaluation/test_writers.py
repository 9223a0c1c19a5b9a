"""Written measurements read back as they were."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation.measure import Measured, Shown, measure
from evaluation.summary import summarise
from evaluation.world import load_world
from evaluation.writers import read_features, write_measured, write_strip
from tests.evaluation.fake_world import fake_protocol, good_student


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    protocol = fake_protocol(tmp_path_factory.mktemp("protocol"))
    return measure(good_student, protocol, load_world(protocol))


def test_round_trip(measured: Measured, tmp_path: Path) -> None:
    paths = write_measured(measured, tmp_path / "measured")
    assert {path.name for path in (tmp_path / "measured").iterdir()} == {
        "items.parquet",
        "items.csv",
        "features.npz",
        "estimates.json",
        "t2i.png",
        "edit.png",
    }
    pd.testing.assert_frame_equal(pd.read_parquet(paths["items_parquet"]), measured.items)
    csv = pd.read_csv(paths["items_csv"])
    np.testing.assert_array_equal(csv["clip"], measured.items["clip"])
    features = read_features(paths["features"])
    assert features.keys() == measured.features.keys()
    for name, rows in features.items():
        np.testing.assert_array_equal(rows, measured.features[name])
    stored = json.loads(paths["estimates"].read_text())
    assert stored == {"metrics": measured.metrics, "estimates": measured.estimates}


def test_rows_of_features_are_named(measured: Measured, tmp_path: Path) -> None:
    path = write_measured(measured, tmp_path)["features"]
    with np.load(path, allow_pickle=False) as stored:
        assert stored["t2i/rows"][0] == "warm-0#0"
        assert len(stored["edit/rows"]) == len(stored["edit/features"]) == 12


def test_summary_from_disk_is_the_same(measured: Measured, tmp_path: Path) -> None:
    protocol = fake_protocol(tmp_path)
    paths = write_measured(measured, tmp_path)
    world = load_world(protocol)
    references = {category: world.reference(category, 40) for category in protocol.items.t2i}
    metrics, _ = summarise(
        pd.read_parquet(paths["items_parquet"]),
        read_features(paths["features"]),
        references,
        protocol,
    )
    assert metrics == measured.metrics


def test_strip_shows_every_picture_unsmoothed(measured: Measured, tmp_path: Path) -> None:
    edits = [picture for picture in measured.images if picture.task == "edit"]
    path = write_strip(edits, tmp_path / "strip.png", magnify=3)
    strip = np.asarray(Image.open(path))
    # Two edit types of four edits, each 3 pictures of 8 pixels wide, magnified, with a 2-pixel gap.
    assert strip.shape == (2 * (8 * 3 + 2), 4 * (3 * 8 * 3 + 2), 3)
    first = np.concatenate([edits[0].source, edits[0].output, edits[0].truth], axis=1)
    np.testing.assert_array_equal(strip[0:24:3, 0:72:3], first)
    np.testing.assert_array_equal(strip[0:24:3, 0:72:3], strip[2:24:3, 2:72:3])


def test_strip_needs_pictures_of_one_size(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep_images"):
        write_strip([], tmp_path / "strip.png")
    several = [
        Shown(f"a-{n}", "t2i", "a", 0, "p", np.zeros((n, n, 3), dtype=np.uint8)) for n in (4, 5)
    ]
    with pytest.raises(ValueError, match="size"):
        write_strip(several, tmp_path / "strip.png")
