"""Reference rows: names, what they may be compared with, shipped records."""

from __future__ import annotations

import pytest

from recipes import subject
from recipes.recipe import Recipe
from recipes.references import (
    SHIPPED,
    compared_scale,
    kept_metrics,
    pictures_of,
    record_name,
    references,
    shipped,
    teacher_features,
    teacher_settings,
)


def _recipe(scale: float) -> dict:
    return Recipe.model_validate({"guidance": {"scale": scale}}).model_dump(mode="json")


def test_rows_of_two_scales_share_what_does_not_depend_on_it():
    two, four = references(_recipe(2.0)), references(_recipe(4.0))
    shared = set(two) & set(four)
    assert shared == {"data", "autoencoder", "undistilled-4nfe", "source-copied"}
    assert all(two[name] == four[name] for name in shared)
    assert "undistilled-8nfe-g2" in two
    assert "undistilled-8nfe-g1" not in references(_recipe(1.0))


def test_only_guided_rows_are_compared_with_a_teacher():
    rows = references(_recipe(2.0))
    with_teacher = {name for name, row in rows.items() if compared_scale(row) is not None}
    assert with_teacher == {"teacher-g2", "undistilled-8nfe-g2"}


def test_a_copied_source_keeps_edit_metrics_only():
    metrics = {"t2i/kd": 1.0, "edit/fidelity": 0.0, "oracle/words": 1.0, "more/fidelity_text": 0.1}
    assert set(kept_metrics({"row": "source-copied"}, metrics)) == {
        "edit/fidelity",
        "more/fidelity_text",
    }
    assert set(kept_metrics({"row": "data"}, metrics)) == {"t2i/kd", "oracle/words"}


def test_records_hang_on_settings_and_protocol():
    settings = teacher_settings(2.0)
    assert record_name(settings, "a") != record_name(settings, "b")
    assert record_name(settings, "a") != record_name(teacher_settings(4.0), "a")
    assert shipped(settings, "another protocol") is None


def test_an_unknown_row_is_refused():
    with pytest.raises(ValueError, match="unknown reference row 'nobody'"):
        pictures_of({"row": "nobody"})


@pytest.mark.parametrize("scale", [1.0, 2.0, 4.0])
def test_what_ships_is_found_under_the_shipped_protocol(scale: float, tmp_path):
    """Fails when protocol, weights or items changed without `python -m recipes.toyworld.ship`."""
    recipe = _recipe(scale)
    fingerprint = subject.fingerprints(recipe, subject.PROTOCOL).protocol
    for name, settings in references(recipe).items():
        record = shipped(settings, fingerprint)
        assert record is not None, name
        assert record.metrics
        assert all((record.folder / a["path"]).is_file() for a in record.artifacts)
    features = teacher_features(teacher_settings(scale), fingerprint, tmp_path)
    assert features is not None
    assert {f.shape[1] for f in features.values()} == {64}


def test_what_ships_holds_every_metric():
    """Fails when a metric was added without `python -m recipes.toyworld.ship`."""
    settings = teacher_settings(2.0)
    record = shipped(settings, subject.fingerprints(_recipe(2.0), subject.PROTOCOL).protocol)
    assert record is not None
    assert set(subject.metrics) == set(record.metrics)


def test_shipped_records_are_small():
    assert sum(p.stat().st_size for p in SHIPPED.rglob("*") if p.is_file()) < 4 * 2**20
