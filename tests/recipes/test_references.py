"""Reference rows: names, what they may be compared with, shipped records."""

from __future__ import annotations

import pytest
import torch

from recipes import subject
from recipes.recipe import Recipe
from recipes.reference_pictures import pictures_of
from recipes.references import (
    SHIPPED,
    compared_teacher,
    kept_metrics,
    own_teacher,
    record_name,
    references,
    shipped,
    teacher_features,
    teacher_settings,
)
from recipes.toyworld.weights import SPECIALISTS


def _recipe(scale: float) -> dict:
    return Recipe.model_validate({"guidance": {"scale": scale}}).model_dump(mode="json")


def test_rows_of_two_scales_share_what_does_not_depend_on_it():
    two, four = references(_recipe(2.0)), references(_recipe(4.0))
    shared = set(two) & set(four)
    assert shared == {"data", "autoencoder", "undistilled-4nfe", "source-copied"}
    assert all(two[name] == four[name] for name in shared)
    assert "undistilled-8nfe-g2" in two
    assert "undistilled-8nfe-g1" not in references(_recipe(1.0))


def test_the_gap_is_that_of_a_single_plain_teacher():
    assert subject.gap(_recipe(2.0), "toyworld-v1") == ("teacher-g2", "data")
    assert subject.gap(_recipe(4.0), "toyworld-v1") == ("teacher-g4", "data")
    by_rung = {"guidance": {"by_rung": [1.0, 2.0, 2.0, 4.0]}}
    recipe = Recipe.model_validate(by_rung).model_dump(mode="json")
    assert own_teacher(recipe)[1], "what judges it hangs on the rung"
    assert subject.gap(recipe, "toyworld-v1") is None


def test_only_guided_rows_are_compared_with_a_teacher():
    rows = references(_recipe(2.0))
    compared = {name: compared_teacher(row) for name, row in rows.items()}
    with_teacher = {name for name, teacher in compared.items() if teacher is not None}
    assert with_teacher == {"teacher-g2", "undistilled-8nfe-g2"}
    assert all(compared[name] == teacher_settings(2.0) for name in with_teacher)


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


@pytest.mark.parametrize("weights", SPECIALISTS)
def test_the_rows_of_shipped_specialists_ship_too(weights: str, tmp_path):
    fingerprint = subject.fingerprints(_recipe(2.0), subject.PROTOCOL).protocol
    record = shipped(teacher_settings(2.0, weights), fingerprint)
    base = shipped(teacher_settings(2.0), fingerprint)
    assert record.metrics["oracle/words"] > base.metrics["oracle/words"]
    assert teacher_features(teacher_settings(2.0, weights), fingerprint, tmp_path) is not None


def test_shipped_records_are_small():
    assert sum(p.stat().st_size for p in SHIPPED.rglob("*") if p.is_file()) < 4 * 2**20


def _of(**fields) -> dict:
    return Recipe.model_validate(fields).model_dump(mode="json")


SIGNS = {"weights": "sign_specialist"}


def test_a_plain_trial_is_compared_with_the_plain_teacher():
    assert own_teacher(_recipe(4.0)) == (teacher_settings(4.0), "")
    sole = _of(teachers={"base": {**SIGNS, "guidance": 3.0}})
    assert own_teacher(sole) == (teacher_settings(3.0, "sign_specialist"), "")
    unused = _of(teachers={"base": {}, "signs": {**SIGNS, "share": 0}})
    assert own_teacher(unused) == (teacher_settings(2.0), "")


@pytest.mark.parametrize(
    "fields",
    [
        {"teachers": {"base": {}, "signs": SIGNS}},
        {"guidance": {"interval": {"low": 0.2, "high": 0.8}}},
        {"guidance": {"rescale": 0.7}},
        {"guidance": {"negative": "make it night"}},
        {"guidance": {"by_level": {"all": {"below": 1, "scale": 2}}}},
        {"teachers": {"base": {"by_condition": {"other": 1}}}},
    ],
)
def test_a_panel_or_guidance_by_level_is_a_row_of_its_own(fields: dict):
    recipe = _of(**fields)
    settings, note = own_teacher(recipe)
    only_base = fields.get("teachers", {}).keys() == {"base"}
    assert (settings == teacher_settings(2.0)) is only_base
    if not only_base:
        assert note == "the trial's own panel, guided as in training"
        assert settings in references(recipe).values()
        assert compared_teacher(settings) == settings
        assert record_name(settings, "a") != record_name(teacher_settings(2.0), "a")


def test_a_panel_by_stage_is_compared_with_its_end():
    stages = {"a": {"until": 0.5, "share": 0}, "b": {"until": 1, "share": 1}}
    settings, note = own_teacher(_of(teachers={"base": {}, "s": {**SIGNS, "by_progress": stages}}))
    assert set(settings["teachers"]) == {"base", "s"}
    assert note.endswith("as it stands at the end")


@pytest.mark.parametrize(
    "fields",
    [
        {"teachers": {"base": {}, "signs": {**SIGNS, "by_rung": [0, 0, 1, 1]}}},
        {"guidance": {"by_rung": [1, 2, 3, 4]}},
    ],
)
def test_weights_or_scales_by_rung_fall_back_to_the_start_and_say_so(fields: dict):
    settings, note = own_teacher(_of(**fields))
    assert settings == teacher_settings(2.0)
    assert note.startswith("teacher at guidance 2: ")
    assert "no single teacher" in note


def test_rows_of_a_study_of_teachers_include_every_teacher_alone():
    base = references(_recipe(2.0))
    both = references(_of(teachers={"base": {}, "signs": {**SIGNS, "guidance": 3.0}}))
    assert both["sign_specialist-g3"] == teacher_settings(3.0, "sign_specialist")
    added = set(both) - set(base)
    assert len([name for name in added if name.startswith("panel-")]) == 1
    assert len(added) == 2
    assert {name: both[name] for name in base} == base


def test_rows_of_one_name_are_one_row_whatever_the_student_starts_from():
    base, sole = references(_recipe(2.0)), references(_of(teachers={"base": SIGNS}))
    assert all(base[name] == sole[name] for name in set(base) & set(sole))
    assert set(sole) - set(base) == {
        "sign_specialist-g2",
        "undistilled-4nfe-sign_specialist",
        "undistilled-8nfe-g2-sign_specialist",
    }


def test_a_panel_routed_by_condition_draws_each_picture_with_its_teacher():
    captions = ['a red sign that says "TEA"', "a portrait: tan skin, red hair, sad, hat"]
    teachers = {
        "base": {"by_condition": {"t2i.text": 0, "other": 1}},
        "signs": {**SIGNS, "by_condition": {"t2i.text": 1}},
    }
    settings, _ = own_teacher(_of(teachers=teachers))
    noise = torch.randn(2, 48, 3, 3, generator=torch.Generator().manual_seed(0))
    alone = [teacher_settings(2.0, name) for name in ("sign_specialist", "teacher")]
    routed, signs, base = (
        pictures_of({**row, "steps": 2})(captions, noise, None, lambda _: noise).int()
        for row in (settings, *alone)
    )
    assert (routed[0] - signs[0]).abs().max() <= 1  # batches of another size round otherwise
    assert (routed[1] - base[1]).abs().max() <= 1
    assert (signs - base).abs().amax((1, 2, 3)).min() > 1


def test_a_single_teacher_is_measured_without_what_only_weighs_it_against_others():
    """Guided by more than a scale it is a row of its own, which knows no exit rung or label."""
    weighed = {
        "by_rung": [1, 2, 1, 1],
        "by_condition": {"other": 1},
        "by_progress": {"all": {"until": 1, "share": 3}},
        "share": 2.0,
    }
    guidance = {"guidance": {"interval": {"low": 0.2, "high": 0.8}}}
    settings, note = own_teacher(_of(teachers={"base": weighed}, **guidance))
    assert (settings, note) == own_teacher(_of(**guidance))
    noise = torch.randn(1, 48, 3, 3, generator=torch.Generator().manual_seed(0))
    pictures_of({**settings, "steps": 2})(
        ['a red sign that says "TEA"'], noise, None, lambda _: noise
    )
