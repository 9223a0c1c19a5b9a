"""Rates measured on a card: when they apply, and what a plan makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evaluation.protocol import Protocol
from recipes.families import measured_rates
from recipes.families.measured_rates import rates_for
from recipes.families.qwen_image_cost import PEAK, SHARE, work
from recipes.recipe import Recipe
from recipes.subject.costing import FASTER, SLOWER, expected, seconds_at
from recipes.subject.protocols import protocol_named
from tests.harness.test_plan_cli import invoke
from tests.recipes.families.test_qwen_image_cost import SOURCES

WIDTH = 3072


def _recipe(**changed) -> Recipe:
    fields = {
        "family": "qwen-image",
        "model": {"path": "nowhere", "pixels": 1024},
        "data": {"sources": SOURCES, "composition": {"some": 1}, "edit_types": {"edits": 1}},
        "roles": {"kind": "adapters", "rank": 64, "activation_checkpointing": True},
        "train": {"cycles": 10, "batch_size": 4},
    }
    return Recipe.model_validate(fields | changed)


def _cost(task: str, rate: float, **changed) -> dict:
    return {
        "family": "qwen-image", "layers": 60, "width": WIDTH, "pixels": 1024, "task": task,
        "rows": 1, "roles": "adapters", "rank": 64, "adapters": "float32",
        "activation_checkpointing": True, "seconds_per_cycle": 4.0, "training_rate": rate,
        "sampling_rate": 2 * rate, "peak_bytes": 6e10,
    } | changed  # fmt: skip


def _write(folder: Path, name: str, costs: list[dict], **changed) -> Path:
    record = {
        "schema": 1, "date": "2026-12-01", "device": "cuda", "tiny": False,
        "card": {"name": "NVIDIA X", "memory_bytes": 8e10}, "costs": costs, "rows": [],
    } | changed  # fmt: skip
    file = folder / name
    file.write_text(json.dumps(record))
    return file


@pytest.fixture
def results(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setattr(measured_rates, "RESULTS", folder)
    return folder


def _large() -> Protocol:
    return protocol_named("qwen-image-v1")


def test_a_plan_takes_the_seconds_that_operations_take_at_the_measured_rates(results):
    _write(results, "gpu-x-2026-12-01.json", [_cost("t2i", 4e14), _cost("edit", 5e14)])
    recipe = _recipe()
    pictures = {"t2i": 3 * (600 + 30), "edit": 6 * 250}
    done = work(recipe, pictures)
    found = expected(recipe, _large(), {"gpus": 1, "measurements": 2})
    seconds = (
        done.trained["t2i"] / 4e14
        + done.trained["edit"] / 5e14
        + done.trained["text"] / (SHARE * PEAK)
        + 2 * (4 * pictures["t2i"] * done.t2i / 8e14 + 4 * pictures["edit"] * done.edit / 1e15)
    )
    assert found.seconds == pytest.approx(seconds)
    assert (found.lo, found.hi) == pytest.approx((FASTER * seconds, SLOWER * seconds))
    assert "measured on NVIDIA X on 2026-12-01 (benchmarks/results/gpu-x-2026-12-01.json)" in (
        found.basis
    )
    assert "at 400 and 500 TFLOP/s" in found.basis


def test_operations_are_those_of_before_when_added_up():
    done = work(_recipe(), {"t2i": 10, "edit": 3})
    assert done.training == pytest.approx(sum(done.trained.values()))
    assert done.measuring == 4 * (10 * done.t2i + 3 * done.edit)
    only = work(_recipe(tasks={"t2i": 1}), {})
    assert only.trained["edit"] == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"width": 4096},
        {"pixels": 512},
        {"rank": 32},
        {"adapters": "bfloat16"},
        {"activation_checkpointing": False},
        {"family": "qwen-image-2.1"},
        {"training_rate": 0},
    ],
)
def test_what_was_measured_otherwise_does_not_apply(results, changed):
    _write(results, "gpu-x.json", [_cost("t2i", 4e14), _cost("edit", 5e14, **changed)])
    assert rates_for(_recipe(), WIDTH) is None
    found = expected(_recipe(), _large(), {"gpus": 1})
    assert "of one H100" in found.basis


@pytest.mark.parametrize(
    "changed", [{"device": "cpu"}, {"tiny": True}, {"schema": 2}, {"costs": "none"}]
)
def test_records_of_no_card_or_another_version_are_passed_over(results, changed):
    costs = [_cost("t2i", 4e14), _cost("edit", 5e14)]
    _write(results, "gpu-x.json", changed.pop("costs", costs), **changed)
    assert rates_for(_recipe(), WIDTH) is None


def test_a_damaged_file_hides_none_of_the_others(results):
    (results / "gpu-a.json").write_text('{"schema": 1, "date": "2027-01-01"')
    _write(results, "gpu-b.json", [_cost("t2i", 4e14), _cost("edit", 5e14)])
    assert rates_for(_recipe(), WIDTH).file == "gpu-b.json"


def test_the_newest_record_that_applies_counts(results):
    both = [_cost("t2i", 4e14), _cost("edit", 5e14)]
    _write(results, "gpu-a.json", both, date="2026-12-02", card={"name": "newer"})
    _write(results, "gpu-b.json", both, date="2026-12-01", card={"name": "older"})
    _write(results, "gpu-c.json", [], date="2026-12-03", card={"name": "without costs"})
    assert rates_for(_recipe(), WIDTH).card == "newer"


def test_full_copies_have_no_measured_rate(results):
    _write(results, "gpu-x.json", [_cost("t2i", 4e14), _cost("edit", 5e14)])
    assert rates_for(_recipe(roles={"kind": "copies"}), WIDTH) is None


def test_seconds_leave_out_what_takes_none(results):
    _write(results, "gpu-x.json", [_cost("t2i", 4e14), _cost("edit", 5e14)])
    done = work(_recipe(tasks={"t2i": 1}), {})
    rates = rates_for(_recipe(), WIDTH)
    rest = done.trained["t2i"] / 4e14 + done.trained["text"] / (SHARE * PEAK)
    assert seconds_at(done, rates, 1) == pytest.approx(rest)


def test_the_toy_world_on_a_gpu_is_planned(tmp_path):
    study = tmp_path / "study.yaml"
    recipe = Path(measured_rates.ROOT) / "recipes" / "toyworld.yaml"
    study.write_text(
        f"name: toy\nquestion: q\nrecipe: {recipe}\nfactors: {{guidance.scale: [1.0, 2.0]}}\n"
        "resources: {gpus: 1}\n"
    )
    done = invoke("plan", str(study), "--gpus", "1")
    assert done.returncode == 0, done.stderr
