"""Item sets and pictures in files, and protocols whose files are not here yet."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evaluation import filed, kept_digests
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
    assert told[-1].endswith(f"(cd {shlex.quote(str(filed.ROOT))} && hf download some/clip)")
    _write(tmp_path, "one", "two")
    (tmp_path / "references").mkdir()
    assert len(protocol.missing()) == 1
    with pytest.raises(ValueError, match=r"nothing is downloaded here.*hf download some/clip"):
        load_world(protocol)


EDITS = """
oracle: {{factory: "not_there:oracle"}}
edit_pictures: evaluation.filed:edit_pictures
"""


def _with_pictures(home: Path) -> Protocol:
    text = TEXT.replace("  t2i: {{sea: 2}}", "  t2i: {{sea: 2}}\n  edit: {{style: 1}}") + EDITS
    fields = {"item_id": "e", "task": "edit", "category": "style", "prompt": "brighter"}
    detail = {"source": "s.png", "target": "t.png", "mask": "m.png"}
    _write(home, "one", "two").open("a").write(json.dumps({**fields, "detail": detail}) + "\n")
    for name in detail.values():
        _picture(home / name, (9, 9, 9))
    for name in "ab":
        _picture(home / "references" / "sea" / f"{name}.png", (9, 9, 9))
    return _protocol(home, text)


@pytest.mark.parametrize("name", ["s.png", "t.png", "m.png", "references/sea/b.png"])
def test_a_repainted_picture_changes_the_fingerprint(name, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    protocol = _with_pictures(tmp_path)
    before = protocol.fingerprint()
    assert protocol.fingerprint() == before
    _picture(tmp_path / name, (99, 9, 9))
    assert protocol.fingerprint() != before
    (tmp_path / name).unlink()
    if name.startswith("references"):
        with pytest.raises(ValueError, match="holds 1 pictures"):
            protocol.fingerprint()
    else:
        assert f"pictures of edits: 1, the first is {tmp_path / name}" in protocol.missing()


def test_pictures_are_read_once_per_change(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    protocol = _with_pictures(tmp_path)
    protocol.fingerprint()  # as young as their reading: nothing is kept
    for path in tmp_path.rglob("*.png"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    before = protocol.fingerprint()
    with monkeypatch.context() as patch:
        patch.setattr(kept_digests.hashlib, "file_digest", None)
        assert protocol.fingerprint() == before
    _picture(tmp_path / "s.png", (99, 9, 9))
    os.utime(tmp_path / "s.png", (1_000_000_000, 1_000_000_000))
    assert protocol.fingerprint() != before


def test_declared_digests_of_pictures_stand_for_them(tmp_path):
    protocol = _with_pictures(tmp_path)
    text = (tmp_path / "mine-v1.yaml").read_text()
    for what, place in (("references", "  per_category"), ("edits", "  t2i")):
        key = "digest" if what == "references" else "pictures"
        wrong = text.replace(place, f"  {key}: '{'0' * 64}'\n{place}")
        (tmp_path / "mine-v1.yaml").write_text(wrong)
        with pytest.raises(ValueError, match=f"pictures of {what} have digest") as told:
            load_protocol(tmp_path / "mine-v1.yaml").fingerprint()
        text = wrong.replace("0" * 64, str(told.value).split(" digest ")[1][:64])
    (tmp_path / "mine-v1.yaml").write_text(text)
    protocol = load_protocol(tmp_path / "mine-v1.yaml")
    here = protocol.fingerprint()
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    (tmp_path / "references" / "sea").rmdir()
    assert protocol.fingerprint() == here


def test_lines_end_at_line_feeds_and_a_byte_order_mark_is_no_letter(tmp_path):
    odd = "a\u2028b\u0085c"
    lines = [
        json.dumps(
            {"item_id": f"i{n}", "task": "t2i", "category": "sea", "prompt": prompt},
            ensure_ascii=False,
        )
        for n, prompt in enumerate((odd, "two"))
    ]
    (tmp_path / "items.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert [item.prompt for item in _protocol(tmp_path).load_items()] == [odd, "two"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"task": "t2i", "category": "sea", "prompt": "caf\xe9"}', "line 3: not UTF-8"),
        (b"[" * 100_000, "line 3: not JSON"),
        (b"3", "line 3: a JSON object with task"),
        (b'{"task": "t2i", "category": "sea", "item_id": "x"}', "line 3: prompt: Field required"),
        (
            b'{"task": "t2i", "category": "sea", "item_id": "x", "prompt": "\\ud83d"}',
            "line 3: half of a surrogate pair",
        ),
    ],
)
def test_a_broken_line_is_told_with_its_place(line, message, tmp_path):
    protocol = _protocol(tmp_path, TEXT.replace("sea: 2", "sea: 3"))
    path = _write(tmp_path, "one", "two")
    path.write_bytes(path.read_bytes().strip() + b"\n" + line + b"\n")
    with pytest.raises(ValueError, match=message) as told:
        protocol.fingerprint()
    assert str(path) in str(told.value)


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


def test_pictures_are_opened_upright_or_refused(tmp_path):
    home = tmp_path / "sea"
    home.mkdir()

    def shown(name):
        for other in home.iterdir():
            if other.name != name:
                other.unlink()
        return filed.reference_images(folder=str(tmp_path), resolution=8)("sea", 1)[0]

    half = Image.new("RGB", (8, 8))
    half.paste((255, 0, 0), (0, 0, 8, 4))
    exif = Image.Exif()
    exif[274] = 3  # upside down
    half.save(home / "turned.png", exif=exif)
    assert shown("turned.png")[0, :, 0].tolist() == [0] * 4 + [255] * 4
    half.convert("P").save(home / "palette.png")
    assert shown("palette.png")[0, :, 0].tolist() == [255] * 4 + [0] * 4
    half.convert("RGBA").save(home / "opaque.png")
    assert shown("opaque.png")[0, :, 0].tolist() == [255] * 4 + [0] * 4
    for name in ("moves.gif", "moves.png", "moves.webp"):
        half.save(home / name, save_all=True, append_images=[Image.new("RGB", (8, 8), "blue")])
        with pytest.raises(ValueError, match="has 2 frames"):
            shown(name)
    Image.new("RGBA", (8, 8), (9, 9, 9, 5)).save(home / "clear.png")
    with pytest.raises(ValueError, match=r"clear.png is transparent"):
        shown("clear.png")
    Image.fromarray(np.full((8, 8), 30000, np.uint16)).save(home / "deep.png")
    with pytest.raises(ValueError, match=r"deep.png has mode I;16"):
        shown("deep.png")
    half.convert("CMYK").save(home / "ink.jpg")
    with pytest.raises(ValueError, match=r"ink.jpg has mode CMYK"):
        shown("ink.jpg")
    (home / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 30)
    with pytest.raises(ValueError, match=r"cut.png cannot be read"):
        shown("cut.png")
