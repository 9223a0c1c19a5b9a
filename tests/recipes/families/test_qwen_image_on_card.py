"""A trial of the large family on a card, pretended: what belongs on it is there, all along."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.contract import Context, Measurement
from harness.journal.seeds import stream_for
from recipes import checkpoint, subject
from tests.benchmarks.pretend_card import pretended
from tests.recipes.families.test_qwen_image_trial import _recipe, home

__all__ = ["home"]  # a fixture


def _context(folder: Path, home: Path, resume: Path | None = None) -> Context:
    folder.mkdir(parents=True)
    return Context(
        key="k", replicate=0, seed=stream_for(0), folder=folder, cache=folder / "cache",
        device="card", gpus=1.0, resume_from=resume,
        measurement=Measurement(protocol=str(home / "tiny-files-v1.yaml")),
    )  # fmt: skip


def test_it_trains_measures_exports_and_resumes_there(weights, home, tmp_path):
    model = {"path": str(weights), "pixels": 32, "dtype": "bfloat16"}
    recipe = _recipe(weights, home, model=model)
    with pretended():
        whole = list(subject.run(recipe, _context(tmp_path / "whole", home)))
        file = tmp_path / "whole" / checkpoint.name_of(1)
        resumed = list(subject.run(recipe, _context(tmp_path / "again", home, file)))
        kept = tmp_path / "whole" / "student"
        protocol = str(home / "tiny-files-v1.yaml")
        again = list(subject.measure(kept, protocol, _context(tmp_path / "kept", home)))
    assert whole[-1].outcome.state == "done"
    assert {"t2i/kd", "edit/fidelity"} <= set(whole[-1].metrics)
    assert resumed[-1].metrics == whole[-1].metrics
    assert again[-1].metrics == pytest.approx(whole[-1].metrics, rel=1e-5, abs=1e-6)


def test_its_reference_rows_are_made_there(weights, home, tmp_path):
    recipe = _recipe(weights, home)
    rows = subject.references(recipe, "ignored")
    with pretended():
        made = list(subject.reference(rows["teacher-g2"], _context(tmp_path / "r", home)))
    assert made[-1].measured
