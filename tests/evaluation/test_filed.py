"""Item sets and pictures in files, and protocols whose files are not here yet."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import filed
from evaluation.items import Item
from evaluation.protocol import Protocol, load_protocol
from evaluation.world import load_world

TEXT = """
name: mine
version: 1
resolution: 8
items:
  factory: evaluation.filed:items
  file: {home}/items.jsonl
  t2i: {{sea: 2}}
sampler: {{nfe: 1, noise_shape: [1, 2, 2]}}
references:
  factory: evaluation.filed:reference_images
  args: {{folder: {home}/references, resolution: 8}}
  per_category: 2
extractor: {{factory: "evaluation.extractors:RandomProjection", args: {{num_features: 3}}}}
clip:
  factory: evaluation.pretrained:OpenClip
  args: {{model: tiny, path: {home}/clip.safetensors}}
  fetch: hf download some/clip
"""


def _protocol(home: Path, text: str = TEXT) -> Protocol:
    file = home / "mine-v1.yaml"
    file.write_text(text.format(home=home))
    return load_protocol(file)


def _write(home: Path, *prompts: str) -> Path:
    lines = [
        json.dumps({"item_id": f"i{n}", "task": "t2i", "category": "sea", "prompt": prompt})
        for n, prompt in enumerate(prompts)
    ]
    (home / "items.jsonl").write_text("\n".join(lines) + "\n\n")
    return home / "items.jsonl"


def _picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def test_the_first_items_of_each_category_are_taken(tmp_path):
    _write(tmp_path, "one", "two", "three")
    assert [item.prompt for item in _protocol(tmp_path).load_items()] == ["one", "two"]


def test_too_few_items_and_broken_lines_are_told(tmp_path):
    protocol = _protocol(tmp_path)
    _write(tmp_path, "one")
    with pytest.raises(ValueError, match=r"made t2i items \{'sea': 1\}"):
        protocol.load_items()
    (tmp_path / "items.jsonl").write_text('{"task": "t2i"\n')
    with pytest.raises(ValueError, match="line 1"):
        protocol.load_items()


def test_a_fingerprint_needs_no_file_and_changes_with_its_content(tmp_path):
    protocol = _protocol(tmp_path)
    absent = protocol.fingerprint()
    _write(tmp_path, "one", "two")
    first = protocol.fingerprint()
    _write(tmp_path, "one", "other")
    assert len({absent, first, protocol.fingerprint()}) == 3


def test_a_declared_digest_is_the_same_here_and_elsewhere(tmp_path):
    content = _write(tmp_path, "one", "two").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    declared = TEXT.replace("  t2i:", f"  digest: {digest}\n  t2i:")
    protocol = _protocol(tmp_path, declared)
    here = protocol.fingerprint()
    (tmp_path / "items.jsonl").unlink()
    assert protocol.fingerprint() == here
    with pytest.raises(ValueError, match="no file"):
        protocol.load_items()
    _write(tmp_path, "one", "changed")
    with pytest.raises(ValueError, match=digest):
        protocol.fingerprint()


def test_missing_parts_are_listed_with_their_commands(tmp_path):
    protocol = _protocol(tmp_path)
    told = protocol.missing()
    assert [line.split(":")[0] for line in told] == ["item set", "reference pictures", "clip"]
    assert told[-1].endswith("(hf download some/clip)")
    _write(tmp_path, "one", "two")
    (tmp_path / "references").mkdir()
    assert len(protocol.missing()) == 1
    with pytest.raises(ValueError, match=r"nothing is downloaded here.*hf download some/clip"):
        load_world(protocol)


def test_the_shipped_large_protocol_asks_for_the_papers_benches():
    protocol = load_protocol("qwen-image-v1")
    assert set(protocol.items.t2i.values()) == {600}
    assert set(protocol.items.edit.values()) == {250}
    assert len(protocol.items.t2i) == 3
    assert len(protocol.items.edit) == 6
    assert protocol.sampler.nfe == 4


def test_references_are_the_first_pictures_by_name_cut_to_a_square(tmp_path):
    _picture(tmp_path / "sea" / "b.png", (0, 0, 255), (20, 8))
    _picture(tmp_path / "sea" / "a.png", (255, 0, 0))
    _picture(tmp_path / "sea" / "c.png", (0, 255, 0))
    pictures = filed.reference_images(folder=str(tmp_path), resolution=8)
    found = pictures("sea", 2)
    assert found.shape == (2, 3, 8, 8)
    assert found[:, :, 4, 4].tolist() == [[255, 0, 0], [0, 0, 255]]
    with pytest.raises(ValueError, match="holds 3 pictures; the protocol needs 4"):
        pictures("sea", 4)
    with pytest.raises(ValueError, match="no folder"):
        pictures("land", 1)


def test_edits_name_their_pictures(tmp_path):
    _picture(tmp_path / "before.png", (9, 9, 9))
    _picture(tmp_path / "after.png", (99, 99, 99))
    mask = np.zeros((8, 8, 3), np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    fields = {"task": "edit", "category": "style", "prompt": "brighter"}
    whole = {"source": "before.png", "target": "after.png", "mask": "mask.png"}
    edits = [
        Item(item_id="a", detail=whole, **fields),
        Item(item_id="b", detail={"source": "before.png"}, **fields),
    ]
    file = str(tmp_path / "items.jsonl")
    source, truth, masked = filed.edit_pictures(edits, file=file, resolution=8)
    assert source[:, 0, 0, 0].tolist() == [9, 9]
    assert truth[:, 0, 0, 0].tolist() == [99, 9]
    assert masked.shape == (2, 1, 8, 8)
    assert masked.mean((1, 2, 3)).tolist() == [0.5, 1.0]
    with pytest.raises(ValueError, match=r"names no source"):
        filed.edit_pictures([Item(item_id="c", **fields)], file=file, resolution=8)
