"""Asking for pictures: what a batch carries, what is refused, teachers, cached references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from evaluation.measure import measure, measuring
from evaluation.protocol import Protocol
from evaluation.sampling import Batch, Progress, checked_images, sampling_features
from evaluation.world import World, load_world
from tests.evaluation import fake_world
from tests.evaluation.fake_world import collapsed_student, good_student


def test_progress_is_reported_between_batches(protocol: Protocol, world: World) -> None:
    stages = [
        (p.stage, p.done, p.total) for p in measuring(good_student, protocol, world, batch_size=16)
    ]
    assert stages == [
        ("references", 1, 2),
        ("references", 2, 2),
        ("t2i", 16, 36),
        ("t2i", 32, 36),
        ("t2i", 36, 36),
        ("edit", 12, 12),
        ("summary", 0, 1),
    ]


def test_batches_carry_what_a_student_needs(protocol: Protocol, world: World) -> None:
    seen: list[Batch] = []

    def watching(batch: Batch) -> Tensor:
        seen.append(batch)
        assert not torch.is_grad_enabled()
        return good_student(batch)

    measure(watching, protocol, world, batch_size=20)
    for batch in seen:
        assert {item.task for item in batch.items} == {batch.task}
        assert batch.noise_BCHW.shape == (len(batch.items), 3, 2)
        assert (batch.source_u8_BCHW is None) == (batch.task == "t2i")
        further = [batch.further_noise(step) for step in (1, 2)]
        assert not torch.equal(*further)
        assert not torch.equal(further[0], batch.noise_BCHW)


@pytest.mark.parametrize(
    ("student", "message"),
    [
        (lambda batch: good_student(batch).float(), "uint8"),
        (lambda batch: good_student(batch)[:-1], "expected"),
        (lambda batch: good_student(batch)[:, :, :4, :4], "refuses to resize"),
    ],
)
def test_malformed_pictures_are_refused(
    student: object, message: str, protocol: Protocol, world: World
) -> None:
    with pytest.raises(ValueError, match=message):
        measure(student, protocol, world)  # type: ignore[arg-type]


def test_resizing_is_the_protocols_choice(protocol: Protocol) -> None:
    resizing = protocol.model_copy(update={"resize": "bicubic-antialias"})
    flat = torch.full((2, 3, 32, 16), 77, dtype=torch.uint8)
    assert torch.equal(
        checked_images(flat, 2, resizing), torch.full((2, 3, 8, 8), 77, dtype=torch.uint8)
    )
    # Antialiased: one-pixel stripes average out instead of leaving one of the two colours.
    stripes = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    stripes[..., ::2] = 200
    shrunk = checked_images(stripes, 1, resizing).float()
    assert (shrunk - 100).abs().max() < 12


def test_references_are_computed_once_and_cached(
    protocol: Protocol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    original = fake_world.reference_images

    def counted(category: str, count: int) -> Tensor:
        calls.append(category)
        return original(category, count)

    monkeypatch.setattr(fake_world, "reference_images", counted)
    first = load_world(protocol, cache=tmp_path)
    sets = [first.reference("warm", 40), first.reference("warm", 40)]
    assert sets[0] is sets[1]
    second = load_world(protocol, cache=tmp_path).reference("warm", 40)
    assert calls == ["warm"]
    np.testing.assert_array_equal(second.features_MD, sets[0].features_MD)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".npz"]
    # Other weights: another key.
    monkeypatch.setattr(fake_world, "digests", lambda: {"extractor": "other"})
    load_world(protocol, cache=tmp_path).reference("warm", 40)
    assert calls == ["warm", "warm"]


def test_distance_to_the_teacher(protocol: Protocol, world: World) -> None:
    steps = sampling_features(good_student, protocol, world)
    while True:
        try:
            progress = next(steps)
        except StopIteration as finished:
            teacher = finished.value
            break
    assert progress == Progress("teacher", 48, 48)
    assert {category: rows.shape for category, rows in teacher.items()} == {
        "warm": (24, 6),
        "cold": (24, 6),
    }
    own = measure(good_student, protocol, world, teacher=teacher).metrics
    other = measure(collapsed_student, protocol, world, teacher=teacher).metrics
    # Other draws: a teacher has a distance from itself, far below a collapsed student's.
    assert 0 < own["t2i/fid_teacher"] < 0.2 * other["t2i/fid_teacher"]
    assert "t2i/fid_teacher" not in measure(good_student, protocol, world).metrics
    with pytest.raises(ValueError, match="cold"):
        measure(good_student, protocol, world, teacher={"warm": teacher["warm"]})
