"""Measuring the fake world end to end: known answers, whatever the batch size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from evaluation.catalogue import catalogue
from evaluation.frechet import frechet_distance
from evaluation.kernel import kernel_distance
from evaluation.measure import Measured, measure
from evaluation.protocol import Protocol
from evaluation.sampling import Batch
from evaluation.summary import summarise
from evaluation.world import World, load_world
from tests.evaluation import fake_world
from tests.evaluation.fake_world import fake_protocol, good_student


def test_good_student_scores_what_it_should(good: Measured) -> None:
    metrics = good.metrics
    assert metrics["edit/following"] == metrics["edit/preservation"] == 1
    assert metrics["edit/fidelity"] == 1
    assert metrics["oracle/attributes"] == metrics["oracle/words"] == 1
    assert metrics["t2i/clip"] > 0.95
    assert metrics["more/diversity"] > 0
    assert metrics["more/fid_edit"] < 1e-9


def test_copied_source_preserves_and_does_not_follow(collapsed: Measured) -> None:
    metrics = collapsed.metrics
    assert metrics["more/preservation_paint"] == 1
    assert metrics["edit/following"] == metrics["edit/fidelity"] == 0
    assert metrics["more/edit_direction"] == 0
    assert not collapsed.items["moved"].any()


def test_collapse_shows_in_every_distance(good: Measured, collapsed: Measured) -> None:
    for name in ("t2i/fid", "t2i/kd", "more/cmmd"):
        assert collapsed.metrics[name] > 5 * max(good.metrics[name], 1e-6)
    for name in ("t2i/clip", "more/recall", "more/coverage", "more/diversity"):
        assert collapsed.metrics[name] < good.metrics[name]
    # Equal pictures in batches of several sizes: equal up to float32 rounding.
    assert collapsed.metrics["more/diversity"] < 1e-6
    assert collapsed.metrics["oracle/attributes"] == pytest.approx(1 / 3)


def test_distances_are_means_over_categories(good: Measured, world: World) -> None:
    rows = good.items[good.items["task"] == "t2i"].reset_index(drop=True)
    values = {"fid": [], "kd": []}
    for category in ("warm", "cold"):
        chosen = rows[(rows["category"] == category) & (rows["draw"] == 0)].index
        assert len(chosen) == 12
        x = good.features["t2i/features"][chosen]
        reference = world.reference(category, 40).features_MD
        values["fid"].append(frechet_distance(x, reference))
        values["kd"].append(kernel_distance(x, reference))
        assert good.metrics[f"more/fid_{category}"] == pytest.approx(values["fid"][-1])
        assert good.metrics[f"more/kd_{category}"] == pytest.approx(values["kd"][-1])
    assert good.metrics["t2i/fid"] == pytest.approx(np.mean(values["fid"]))
    assert good.metrics["t2i/kd"] == pytest.approx(np.mean(values["kd"]))


def test_items_table_has_a_row_per_item_and_draw(good: Measured, protocol: Protocol) -> None:
    table = good.items
    # 24 prompts, 3 of each category with 2 further draws; 12 edits.
    assert len(table) == 24 + 2 * 3 * 2 + 12
    assert not table.duplicated(["item_id", "draw"]).any()
    t2i, edit = table[table["task"] == "t2i"], table[table["task"] == "edit"]
    assert t2i[["clip", "noise", "saturation", "clipped"]].notna().all().all()
    assert t2i["oracle_words"].notna().equals(t2i["category"] == "cold")
    assert t2i["following"].isna().all()
    assert edit[["following", "preservation", "fidelity", "direction"]].notna().all().all()
    assert t2i["diversity"].notna().sum() == 6
    assert edit.set_index("category").loc["invert", "against_truth"].all()
    assert not edit.set_index("category").loc["paint", "against_truth"].any()
    for name, rows in good.features.items():
        assert len(rows) == (table["task"] == name.split("/")[0]).sum()
        assert rows.dtype == np.float32


def test_means_follow_from_the_table(good: Measured) -> None:
    t2i = good.items[good.items["task"] == "t2i"]
    per_item = t2i.groupby(["category", "item_id"])["clip"].mean()
    assert good.metrics["t2i/clip"] == pytest.approx(per_item.groupby("category").mean().mean())


def test_measuring_again_gives_the_same_bits(good: Measured, protocol: Protocol) -> None:
    again = measure(good_student, protocol, load_world(protocol))
    assert again.metrics == good.metrics
    assert again.estimates == good.estimates
    pd.testing.assert_frame_equal(again.items, good.items, check_exact=True)


def test_edits_without_captions_have_no_text_scores(
    protocol: Protocol, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tuple(
        item.model_copy(update={"source_caption": None} if item.task == "edit" else {})
        for item in world.items
    )
    monkeypatch.setattr(world, "items", bare)
    measured = measure(good_student, protocol, world)
    assert not {"more/edit_clip", "more/edit_direction"} & set(measured.metrics)
    assert measured.metrics["edit/fidelity"] == 1
    assert measured.items["moved"].dropna().all()


def test_batch_size_does_not_matter(good: Measured, protocol: Protocol, world: World) -> None:
    other = measure(good_student, protocol, world, batch_size=5)
    assert other.metrics == pytest.approx(good.metrics, rel=1e-5, abs=1e-9)
    pd.testing.assert_frame_equal(other.items, good.items, rtol=1e-5)


def test_every_metric_is_catalogued_and_in_range(
    good: Measured, collapsed: Measured, protocol: Protocol
) -> None:
    known = catalogue(protocol)
    for measured in (good, collapsed):
        for name, value in measured.metrics.items():
            assert np.isfinite(value)
            assert known[name].lo - 1e-9 <= value <= known[name].hi + 1e-9, name


def test_intervals_stand_around_their_values(good: Measured, collapsed: Measured) -> None:
    for measured in (good, collapsed):
        names = [interval["name"] for interval in measured.estimates]
        assert len(names) == len(set(names))
        assert {"t2i/fid", "t2i/kd", "edit/fidelity", "t2i/clip"} <= set(names)
        assert {"more/recall", "more/density", "more/noise", "more/fid_edit"} <= set(names)
        for interval in measured.estimates:
            if interval["lo"] is None:
                assert str(interval["method"]).startswith("none: ")
            else:
                assert interval["lo"] <= interval["value"] <= interval["hi"], interval
            assert interval["value"] == measured.metrics[str(interval["name"])]
            assert interval["claim"] == "checkpoint"


def test_intervals_are_over_prompts(good: Measured) -> None:
    """Three colours a category, however many items; six cases of edits."""
    told = {str(interval["name"]): interval for interval in good.estimates}
    assert (told["t2i/clip"]["n_items"], told["t2i/kd"]["n_items"]) == (24, 24)
    assert str(told["t2i/clip"]["method"]).startswith("t over 6 prompts")
    assert str(told["t2i/kd"]["method"]).startswith("jackknife t over 6 prompts")
    assert str(told["oracle/words"]["method"]).startswith("Wilson over 3 prompts")
    assert told["oracle/words"]["hi"] == 1
    assert float(told["oracle/words"]["lo"]) < 0.3  # type: ignore[arg-type]
    assert "6 prompts" in str(told["more/fid_edit"]["method"])


def test_bias_is_corrected_from_two_items_a_feature_on(
    good: Measured, protocol: Protocol, world: World
) -> None:
    assert "more/fid_corrected" in good.metrics
    references = {category: world.reference(category, 40) for category in protocol.items.t2i}
    t2i = good.items["task"] == "t2i"
    kept = ~(t2i & good.items["item_id"].isin(["warm-11", "cold-11"]))
    features = {
        name: rows[kept[t2i].to_numpy()] if name.startswith("t2i") else rows
        for name, rows in good.features.items()
    }
    metrics, estimates = summarise(good.items[kept], features, references, protocol)
    assert "t2i/fid" in metrics
    assert "more/fid_corrected" not in metrics
    assert "more/fid_corrected" not in {interval["name"] for interval in estimates}


def test_correction_for_few_prompts_has_no_interval(good: Measured) -> None:
    (told,) = (e for e in good.estimates if e["name"] == "more/fid_corrected")
    assert told["value"] == good.metrics["more/fid_corrected"]
    assert (told["lo"], told["hi"]) == (None, None)
    assert "fewer than 2 prompts a feature" in str(told["method"])


def test_a_teacher_loses_the_prompt_too(good: Measured, protocol: Protocol, world: World) -> None:
    """A teacher that paints the same pictures is at no distance, whichever prompt is left out."""
    rows = good.items[good.items["task"] == "t2i"].reset_index(drop=True)
    first = rows[rows["draw"] == 0]
    own = {
        str(c): np.tile(good.features["t2i/features"][g.index.to_numpy()], (2, 1))
        for c, g in first.groupby("category", sort=False)
    }
    references = {category: world.reference(category, 40) for category in protocol.items.t2i}
    _, estimates = summarise(good.items, good.features, references, protocol, own)
    told = {str(interval["name"]): interval for interval in estimates}
    fid, to_data = told["t2i/fid_teacher"], told["t2i/fid"]
    widths = [float(e["hi"]) - float(e["lo"]) for e in (fid, to_data)]  # type: ignore[arg-type]
    assert widths[0] < 0.1 * widths[1]


def test_summary_can_be_repeated_from_what_is_stored(
    good: Measured, protocol: Protocol, world: World
) -> None:
    references = {category: world.reference(category, 40) for category in protocol.items.t2i}
    metrics, estimates = summarise(good.items, good.features, references, protocol)
    assert metrics == good.metrics
    assert estimates == good.estimates


def test_pictures_of_a_few_items_are_kept(good: Measured) -> None:
    by_task = {task: [p for p in good.images if p.task == task] for task in ("t2i", "edit")}
    assert {p.item_id for p in by_task["t2i"]} == {
        f"{c}-{i}" for c in ("warm", "cold") for i in range(4)
    }
    assert all(p.source is None for p in by_task["t2i"])
    assert all(p.source is not None and p.truth is not None for p in by_task["edit"])
    assert by_task["edit"][0].output.shape == (8, 8, 3)


def test_oracle_outside_its_range_is_refused(
    protocol: Protocol, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        fake_world.FakeOracle, "follow", lambda self, images, chosen: np.full(len(chosen), 1.5)
    )
    with pytest.raises(ValueError, match="follow"):
        measure(good_student, protocol, world)


def test_t2i_only_protocol(tmp_path: Path) -> None:
    lines = [line for line in fake_world.YAML_TEXT.splitlines() if not line.startswith("  edit:")]
    protocol = fake_protocol(tmp_path, "\n".join(lines))
    measured = measure(good_student, protocol, load_world(protocol))
    assert not [name for name in measured.metrics if "edit" in name]


def test_edit_only_protocol(tmp_path: Path) -> None:
    lines = [line for line in fake_world.YAML_TEXT.splitlines() if not line.startswith("  t2i:")]
    protocol = fake_protocol(tmp_path, "\n".join(lines))
    measured = measure(good_student, protocol, load_world(protocol))
    assert measured.metrics["edit/fidelity"] == 1
    assert not [name for name in measured.metrics if name.startswith(("t2i/", "oracle/"))]


@pytest.mark.parametrize(("said", "expected"), [(0.5, 0.5), (float("nan"), None)])
def test_an_oracle_may_say_what_a_whole_frame_edit_kept(
    good: Measured, protocol: Protocol, said: float, expected: float | None
) -> None:
    """`kept` replaces pixels for whole-frame edits only, and only where it is finite."""
    world = load_world(protocol)
    world.oracle.kept = lambda images, items: torch.full((len(images),), said)  # type: ignore
    scoring = protocol.edit_scoring.model_copy(update={"whole_frame": "oracle"})
    told = measure(good_student, protocol.model_copy(update={"edit_scoring": scoring}), world)
    after, before = (
        m.items[m.items["task"] == "edit"].reset_index(drop=True) for m in (told, good)
    )
    whole = before["against_truth"].astype(bool)
    assert whole.any()
    assert not whole.all()
    assert after.loc[~whole, "preservation"].equals(before.loc[~whole, "preservation"])
    wanted = before.loc[whole, "preservation"] if expected is None else expected
    assert (after.loc[whole, "preservation"] == wanted).all()


def test_a_noisier_student_is_seen_to_be_noisier(
    good: Measured, protocol: Protocol, world: World
) -> None:
    def noisy(batch: Batch) -> Tensor:
        clean = good_student(batch).float()
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(len(clean)))
        return (clean + 8 * noise).round().clamp(0, 255).to(torch.uint8)

    measured = measure(noisy, protocol, world)
    assert good.metrics["more/noise"] < 1e-9
    assert measured.metrics["more/noise"] == pytest.approx(8 / 255, rel=0.15)
    # The dark channels stand at 20 of 255: some noise reaches the end of the range.
    assert good.metrics["more/clipped"] == 0
    assert 0 < measured.metrics["more/clipped"] < 0.05
    assert measured.metrics["more/saturation"] > good.metrics["more/saturation"]


def test_every_followed_metric_is_the_oracles(protocol: Protocol) -> None:
    known = catalogue(protocol)
    followed = {info.follows for info in known.values() if info.follows}
    assert followed == {"oracle/attributes", "edit/following"}
    assert not [name for name in known if known[name].follows and name.startswith("oracle/")]
    # A category's own number is not what the mean over all items says.
    assert known["t2i/kd"].follows
    assert known["more/kd_warm"].follows is None
