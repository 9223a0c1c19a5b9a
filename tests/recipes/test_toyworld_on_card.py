"""A trial of the toy world on a card, pretended: it computes what the CPU computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluation.protocol import load_protocol
from evaluation.world import load_world
from harness.contract import Context, Measurement
from harness.journal.seeds import stream_for
from recipes import checkpoint, subject
from recipes.recipe import Recipe
from tests.benchmarks.pretend_card import pretended

PROTOCOL = str(Path(__file__).parent / "toyworld-tiny-v1.yaml")


def _recipe(**fields) -> dict:
    train = {"batch_size": 4, "cycles": 2, "checkpoint_every": 1}
    objective = {"name": "dmd", "fake_updates": 1, "warmup_fake_updates": 1}
    tasks = {"t2i": 1, "edit": 1}
    mixing = {"by": "sample"}
    made = {"train": train, "objective": objective, "tasks": tasks, "mixing": mixing, **fields}
    return Recipe.model_validate(made).model_dump(mode="json")


def _context(folder: Path, device: str, resume: Path | None = None) -> Context:
    folder.mkdir(parents=True)
    return Context(
        key="k", replicate=0, seed=stream_for(0), folder=folder, cache=folder / "cache",
        device=device, gpus=float(device != "cpu"), resume_from=resume,
        measurement=Measurement(protocol=PROTOCOL),
    )  # fmt: skip


def _metrics(reports) -> dict[str, float]:
    assert reports[-1].outcome.state == "done"
    return dict(reports[-1].metrics)


ADAPTERS = {"kind": "adapters", "rank": 4, "alpha": 6}


def test_what_reads_pictures_moves_there():
    protocol = load_protocol(PROTOCOL)
    items = protocol.load_items()
    texts = [item for item in items if item.category == "text" and item.task == "t2i"][:3]
    edits = [item for item in items if item.task == "edit"]

    def read(device: str) -> list[np.ndarray]:
        world = load_world(protocol, device=device)
        pictures = world.reference_images("text", 3)
        source, _, _ = world.edit_pictures(edits)
        found = world.oracle.read(pictures.to(device), texts)
        return [
            world.features(pictures),
            world.embeddings(pictures),
            world.text_embeddings([item.prompt for item in texts]),
            *(column.numpy() for column in found.values()),
            world.oracle.follow(source.to(device), edits).numpy(),
            world.oracle.kept(source.to(device), edits).numpy(),
        ]

    with pretended():
        there = read("card")
    for ours, plain in zip(there, read("cpu"), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("roles", [{}, ADAPTERS])
def test_it_trains_measures_exports_and_resumes_there(roles: dict, tmp_path: Path):
    recipe = _recipe(roles=roles)
    plain = _metrics(list(subject.run(recipe, _context(tmp_path / "cpu", "cpu"))))
    with pretended():
        whole = list(subject.run(recipe, _context(tmp_path / "whole", "card")))
        file = tmp_path / "whole" / checkpoint.name_of(1)
        resumed = list(subject.run(recipe, _context(tmp_path / "again", "card", file)))
        kept = tmp_path / "whole" / "student"
        again = list(subject.measure(kept, PROTOCOL, _context(tmp_path / "kept", "card")))
    for reports in (whole, resumed):  # attention has a path of its own on the CPU: a last digit
        assert _metrics(reports) == pytest.approx(plain, rel=1e-6, abs=1e-9)
    assert _metrics(resumed) == _metrics(whole)
    assert {"t2i/kd", "edit/fidelity", "oracle/attributes"} <= set(plain)
    measured = _metrics(again)
    assert measured == pytest.approx({name: plain[name] for name in measured}, rel=1e-5, abs=1e-6)


@pytest.mark.slow
def test_its_reference_rows_are_made_there(tmp_path: Path):
    rows = subject.references(_recipe(), PROTOCOL)
    plain = list(subject.reference(rows["autoencoder"], _context(tmp_path / "cpu", "cpu")))
    with pretended():
        made = list(subject.reference(rows["autoencoder"], _context(tmp_path / "card", "card")))
    assert made[-1].metrics == pytest.approx(plain[-1].metrics, rel=1e-6, abs=1e-9)


def test_a_card_is_no_reason_to_refuse_it_when_it_is_planned():
    assert subject.expected_cost(_recipe(), PROTOCOL, {"gpus": 1}) is None
