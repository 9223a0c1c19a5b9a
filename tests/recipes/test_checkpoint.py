"""Checkpoints: damage is known, the previous one is used, strangers are refused."""

from __future__ import annotations

import pytest
import torch

from recipes import checkpoint
from recipes.checkpoint import CorruptCheckpoint


def _save(folder, cycle: int):
    return checkpoint.save(folder, cycle, {"w": torch.full((3,), float(cycle))}, "mine")


def test_a_damaged_last_one_falls_back_to_the_one_before(tmp_path):
    _save(tmp_path, 1)
    last = _save(tmp_path, 2)
    data = bytearray(last.read_bytes())
    weights = torch.full((3,), 2.0).numpy().tobytes()
    data[data.index(weights) + 5] ^= 1  # one bit of one weight
    last.write_bytes(bytes(data))
    cycle, state, complaints = checkpoint.load_latest(last, "mine")
    assert cycle == 1
    assert state["w"].tolist() == [1, 1, 1]
    assert "0000002" in complaints[0]


@pytest.mark.parametrize("harm", ["truncate", "empty", "missing", "every tenth byte"])
def test_every_damage_is_noticed(tmp_path, harm: str):
    path = _save(tmp_path, 1)
    if harm == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "missing":
        path.unlink()
    else:
        path.write_bytes(bytes(b ^ (i % 10 == 0) for i, b in enumerate(path.read_bytes())))
    with pytest.raises(CorruptCheckpoint):
        checkpoint.load_latest(path, "mine")


def test_another_recipe_is_refused(tmp_path):
    with pytest.raises(CorruptCheckpoint, match="written for recipe mine"):
        checkpoint.load(_save(tmp_path, 1), "other")


def test_the_last_two_are_kept(tmp_path):
    for cycle in range(5):
        _save(tmp_path, cycle)
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == [f"checkpoint-000000{c}.pt" for c in (3, 4)]
