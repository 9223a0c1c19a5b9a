"""One listing: what the loader reads is what the digest covers, in every format and place."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from recipes.data import files, tables
from recipes.data.files import files_digest, listed
from recipes.data.rows import Rows
from recipes.data.rules import Rules
from recipes.data.settings import Columns, FileSource
from recipes.families import qwen_image_files
from tests.recipes.data.files import png, write_jsonl

ANY = Rules(8, lambda _task, _text: None)
RED, BLUE = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
TEXTS = ["make it red", "make it blue"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "cache"


def _source(path: Path | str, task: str = "edit", **columns: str) -> FileSource:
    return FileSource(path=str(path), task=task, columns=Columns(**columns))


def _digest(source: FileSource) -> str:
    return files_digest(source.model_dump(), look=True)


def _prompts(path: Path) -> list[str]:
    return [row.text for row in listed(_source(path, "t2i")).rows if not row.fault]


# Every way in which a table names its pictures: (make the table, picture that it names)


def _bom(home: Path) -> Path:
    rows = [{"instruction": t, "source": f"s{i}.png"} for i, t in enumerate(TEXTS)]
    (home / "e.jsonl").write_bytes(
        b"\xef\xbb\xbf" + b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    )
    return home / "e.jsonl"


def _separators(home: Path) -> Path:
    odd = "make it\u2028red\u0085now\x0b\x0c\x1c\x1d\x1e\u2029"
    rows = [{"instruction": odd, "source": "s0.png"}, {"instruction": "b", "source": "s1.png"}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    for letter in "\x0b\x0c\x1c\x1d\x1e":  # JSON writes these as escapes: they stand in no raw text
        text = text.replace(letter, json.dumps(letter)[1:-1])
    (home / "e.jsonl").write_text(text, encoding="utf-8")
    return home / "e.jsonl"


def _with(kind: Callable[[list[str]], pa.Array]) -> Callable[[Path], Path]:
    def made(home: Path) -> Path:
        table = pa.table({"instruction": TEXTS, "source": kind(["s0.png", "s1.png"])})
        pq.write_table(table, home / "e.parquet")
        return home / "e.parquet"

    return made


def _struct(names: list[str]) -> pa.Array:
    rows = [{"bytes": None, "path": name} for name in names]
    return pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.large_string())]))


def _json_struct(home: Path) -> Path:
    rows = [
        {"instruction": t, "source": {"path": f"s{i}.png", "bytes": None}}
        for i, t in enumerate(TEXTS)
    ]
    return write_jsonl(home / "e.jsonl", rows)


def _csv(home: Path) -> Path:
    (home / "e.csv").write_text("instruction,source\nmake it red,s0.png\nblue,s1.png\n")
    return home / "e.csv"


def _above(home: Path) -> Path:
    (home / "below").mkdir()
    rows = [{"instruction": t, "source": f"../s{i}.png"} for i, t in enumerate(TEXTS)]
    return write_jsonl(home / "below" / "e.jsonl", rows)


def _absolute(home: Path) -> Path:
    rows = [{"instruction": t, "source": f"{home}/s{i}.png"} for i, t in enumerate(TEXTS)]
    return write_jsonl(home / "e.jsonl", rows)


def _linked_pictures(home: Path) -> Path:
    (home / "real").mkdir()
    for i in range(2):
        (home / f"s{i}.png").rename(home / "real" / f"s{i}.png")
        (home / f"s{i}.png").symlink_to(home / "real" / f"s{i}.png")
    return _bom(home)


def _metadata(home: Path) -> Path:
    (home / "deep").mkdir()
    for i in range(2):
        (home / f"s{i}.png").rename(home / "deep" / f"s{i}.png")
        (home / f"s{i}.png").symlink_to(home / "deep" / f"s{i}.png")
    rows = [{"instruction": t, "source_file_name": f"s{i}.png"} for i, t in enumerate(TEXTS)]
    write_jsonl(home / "deep" / "metadata.jsonl", rows)
    return home


def _linked_folder(home: Path) -> Path:
    _metadata(home)
    (home / "all").mkdir()
    (home / "all" / "part").symlink_to(home / "deep")
    return home / "all"


def _sidecars(home: Path) -> Path:
    (home / "s0.txt").write_text("make it red\n")
    (home / "s1.json").write_text('{"prompt":\n "make it blue"}\n')
    return home


WAYS = {
    "bom": _bom, "separators": _separators,
    "large_string": _with(lambda n: pa.array(n, pa.large_string())),
    "string_view": _with(lambda n: pa.array(n, pa.string_view())),
    "dictionary": _with(lambda n: pa.array(n).dictionary_encode()), "struct": _with(_struct),
    "json_struct": _json_struct, "csv": _csv, "above": _above, "absolute": _absolute,
    "linked_pictures": _linked_pictures, "metadata": _metadata, "linked_folder": _linked_folder,
    "sidecars": _sidecars,
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_repainted_picture_changes_the_digest_however_it_is_named(
    way: str, tmp_path: Path, cache: Path
):
    home = tmp_path / "home"
    home.mkdir()
    RED.save(home / "s0.png")
    BLUE.save(home / "s1.png")
    source = _source(WAYS[way](home))
    rows = Rows("mine", source, cache)
    assert rows.checked(ANY, cache).bad == {}, "it is trained on"
    assert rows.pixels(0, "source")[:, 0, 0].tolist() == [255, 0, 0]
    before = _digest(source)
    assert _digest(source) == before
    BLUE.save(home / "s0.png")
    repainted = _digest(source)
    assert repainted != before
    (home / "s1.png").resolve().unlink()
    assert _digest(source) not in (before, repainted)


def test_bytes_inside_parquet_are_read_row_by_row(tmp_path: Path, cache: Path):
    content = [png(RED), png(BLUE), None, b"no picture"]
    kinds = {
        "binary": pa.array(content),
        "large": pa.array(content, pa.large_binary()),
        "dictionary": pa.array(content).dictionary_encode(),
        "struct": pa.array([{"bytes": c, "path": "gone.png"} for c in content]),
    }
    for name, column in kinds.items():
        path = tmp_path / f"{name}.parquet"
        table = pa.table({"instruction": ["a", "b", "c", "d"], "source": column})
        pq.write_table(table, path, row_group_size=3)
        rows = Rows("mine", _source(path), cache)
        assert rows.pixels(1, "source")[:, 0, 0].tolist() == [0, 0, 255]
        assert rows.checked(ANY, cache).bad == {
            "missing image (source)": [2],
            "unreadable file (source)": [3],
        }


def test_pictures_held_partly_inside_and_partly_beside(tmp_path: Path, cache: Path):
    RED.save(tmp_path / "s.png")
    cells = [{"bytes": png(BLUE), "path": None}, {"bytes": None, "path": "s.png"}, None]
    table = pa.table({"instruction": ["a", "b", "c"], "source": pa.array(cells)})
    pq.write_table(table, tmp_path / "e.parquet")
    source = _source(tmp_path / "e.parquet")
    rows = Rows("mine", source, cache)
    assert [rows.pixels(i, "source")[0, 0, 0] for i in range(2)] == [0, 255]
    assert rows.checked(ANY, cache).bad == {"missing image (source)": [2]}
    before = _digest(source)
    BLUE.save(tmp_path / "s.png")
    assert _digest(source) != before


def test_what_names_no_file_is_a_bad_row_with_its_reason(tmp_path: Path, cache: Path):
    cells = ["http://there/a.png", ["a.png", "b.png"], 7, {"bytes": "text", "path": "s.png"},
             "x" * 5000, "zip://a.png::b.zip", {"path": "s.png"}]  # fmt: skip
    RED.save(tmp_path / "s.png")
    rows = [{"instruction": "a", "source": cell} for cell in cells]
    path = write_jsonl(tmp_path / "e.jsonl", rows)
    assert Rows("mine", _source(path), cache).checked(ANY, cache).bad == {
        "image at an address, which is not fetched (source)": [0, 5],
        "several images in one cell (source)": [1],
        "no name of an image (source)": [2],
        "bytes that are no bytes (source)": [3],
        "missing image (source)": [4],
    }


def test_two_columns_may_name_one_picture(tmp_path: Path, cache: Path):
    RED.save(tmp_path / "s.png")
    row = {"instruction": "a", "source": "s.png", "target": "./s.png", "mask": "s.png"}
    source = _source(write_jsonl(tmp_path / "e.jsonl", [row]))
    before = _digest(source)
    assert Rows("mine", source, cache).checked(ANY, cache).bad == {}
    BLUE.save(tmp_path / "s.png")
    assert _digest(source) != before


# Prompt lists as people have them


LINES = ["one, two", 'say "hi"', "with\u2028a separator\u0085and\x0b more\x1c"]


def _written(path: Path, suffix: str) -> Path:
    if suffix == ".jsonl":
        text = "".join(json.dumps({"prompt": t}) + "\n\n" for t in LINES)
    elif suffix == ".json":
        text = json.dumps([{"prompt": t} for t in LINES], indent=1)
    elif suffix == ".txt":
        text = "\n\n".join(LINES) + "\r\n"
    else:
        comma = "," if suffix == ".csv" else "\t"
        quoted = ['"' + t.replace('"', '""') + '"' for t in LINES]
        text = f"n{comma}prompt\r\n" + "".join(f"1{comma}{t}\r\n" for t in quoted)
    content = b"\xef\xbb\xbf" + text.encode()
    path = path / f"P{suffix}"
    path.write_bytes(content)
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(content))
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".txt"])
def test_a_prompt_list_is_read_as_it_is_and_packed(suffix: str, tmp_path: Path):
    path = _written(tmp_path, suffix)
    assert _prompts(path) == LINES
    assert _prompts(tmp_path / f"{path.name}.gz") == LINES
    upper = path.rename(tmp_path / f"Q{suffix.upper()}")
    assert _prompts(upper) == LINES


def test_shards_are_read_in_the_order_of_their_names(tmp_path: Path):
    for n in (1, 0):
        pq.write_table(pa.table({"prompt": [f"p{n}"]}), tmp_path / f"train-0000{n}.parquet")
    (tmp_path / "README.md").write_text("words")
    (tmp_path / ".hidden.parquet").write_text("no table")
    assert _prompts(tmp_path) == ["p0", "p1"]
    assert _prompts(tmp_path / "train-*.parquet") == ["p0", "p1"]
    before = _digest(_source(tmp_path, "t2i"))
    pq.write_table(pa.table({"prompt": ["p2"]}), tmp_path / "train-00002.parquet")
    assert _digest(_source(tmp_path, "t2i")) != before
    pq.write_table(pa.table({"prompt": ["t"]}), tmp_path / "test-00000.parquet")
    with pytest.raises(ValueError, match=r"holds test, train: name one"):
        _prompts(tmp_path)
    assert _prompts(tmp_path / "train-*.parquet") == ["p0", "p1", "p2"]


def test_captions_beside_pictures_and_metadata_in_csv(tmp_path: Path):
    RED.save(tmp_path / "b.png")
    RED.save(tmp_path / "a.PNG")
    (tmp_path / "b.txt").write_text("second\n")
    (tmp_path / "a.txt").write_text("first")
    assert _prompts(tmp_path) == ["first", "second"]
    RED.save(tmp_path / "c.png")
    rows = listed(_source(tmp_path, "t2i")).rows
    assert [row.text for row in rows] == ["first", "second", None]
    (tmp_path / "b.txt").write_text("one\ntwo\n")
    assert listed(_source(tmp_path, "t2i")).rows[1].fault == "several lines in one caption"
    (tmp_path / "metadata.csv").write_text("file_name,text\nb.png,described\n")
    assert _prompts(tmp_path) == ["described"]
    (tmp_path / "metadata.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"metadata.csv and metadata.jsonl; keep one"):
        _prompts(tmp_path)


def _bare(home: Path) -> None:
    RED.save(home / "a.png")


def _saved(home: Path) -> None:
    (home / "data-00000-of-00001.arrow").write_bytes(b"x")
    (home / "state.json").write_text("{}")


def _mixed(home: Path) -> None:
    (home / "a.csv").write_text("prompt\nx\n")
    (home / "b.txt").write_text("x\n")


def _folder_gone(home: Path) -> None:
    (home / "p.txt").write_text("x\n")
    (home / "gone").symlink_to(home / "nowhere")


def _shard_gone(home: Path) -> None:
    (home / "p0.txt").write_text("x\n")
    (home / "p1.txt").symlink_to(home / "nowhere.txt")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_bare, "a folder of pictures without texts"),
        (_saved, "to_parquet"),
        (_mixed, r"several kinds \(\.csv, \.txt\)"),
        (_folder_gone, "a link that leads nowhere"),
        (_shard_gone, r"p1.txt cannot be read: No such file"),
        (lambda home: (home / "a.tar").write_text("x"), "nothing in .* can be read; give a .jsonl"),
    ],
)
def test_a_folder_that_cannot_be_listed_is_refused(make, message: str, tmp_path: Path):
    make(tmp_path)
    with pytest.raises(ValueError, match=message):
        _prompts(tmp_path)


def test_a_link_in_a_circle_is_gone_round_once(tmp_path: Path):
    (tmp_path / "p.txt").write_text("x\n")
    (tmp_path / "again").symlink_to(tmp_path)
    assert _prompts(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", b"", "p.jsonl holds no row"),
        ("p.jsonl", b"\n \n", "holds no row"),
        ("p.txt", b"", "holds no row"),
        ("p.csv", b"prompt\n", "holds no row"),
        ("p.json", b"[]", "holds no row"),
        ("p.jsonl", '{"prompt": "x"}\n'.encode("utf-16"), "it is UTF-16; write it as UTF-8"),
        ("p.jsonl", b'{"prompt": "caf\xe9"}\n', r"p.jsonl, line 1: not UTF-8"),
        ("p.jsonl", b'\n["x"]\n', r"line 1: no JSON object"),
        ("p.json", b"[1", "cannot be read"),
        ("p.json", b"[" * 100_000, "cannot be read"),
        ("p.parquet", b"PAR1 no", "p.parquet cannot be read"),
        ("p.jsonl.gz", b"no gzip", "p.jsonl.gz cannot be read"),
        ("p.jsonl.gz", gzip.compress(b'{"prompt": "x"}\n' * 9999)[:-40], "cannot be read"),
        ("p.csv", b"a,a\n1,2\n", "columns are named twice: a"),
        ("p.csv", b"prompt;n\nx;1\n", "no column for the prompt: .*prompt;n"),
        ("p.zip", b"x", r"p.zip is of no kind that is read; give a .jsonl"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_when_it_is_digested(
    name: str, content: bytes, message: str, tmp_path: Path
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as told:
        files_digest(_source(tmp_path / name, "t2i").model_dump())
    assert name in str(told.value)


def test_rows_that_cannot_be_read_are_bad_rows(tmp_path: Path, cache: Path):
    deep = b'{"prompt": ' + b"[" * 100_000 + b"\n"
    long = b'{"prompt": ' + b"9" * 5000 + b"}"
    lines = [b'{"prompt": "a"}\n', b'{"prompt": "b"\n', b'{"prompt": "\xff"}\n', b"[1]\n", deep,
             b'{"prompt": "\\ud83d"}\n', b'{"prompt": "\\ud83d\\ude00"}\n', b'{"prompt": 3}\n',
             b'{"prompt": "a\\u0000b"}\n', b'{"other": 1}\n', long]  # fmt: skip
    (tmp_path / "p.jsonl").write_bytes(b"".join(lines))
    rows = Rows("mine", _source(tmp_path / "p.jsonl", "t2i"), cache)
    report = rows.checked(ANY, cache)
    assert report.bad == {
        "not JSON": [1, 4, 10],
        "not UTF-8": [2],
        "no JSON object": [3],
        "prompt with half of a surrogate pair": [5],
        "prompt is no text": [7],
        "prompt with a NUL letter": [8],
        "empty prompt": [9],
    }
    assert rows.texts[6] == "\U0001f600"
    with pytest.raises(ValueError, match=r"p.jsonl, line 2\. That is 81.8%"):
        report.refuse_above(0.5)


def test_rows_of_a_table_that_cannot_be_read_are_bad_rows(tmp_path: Path, cache: Path):
    content = b'n,prompt\n1,a\n2\n3,b,c\n4,caf\xe9\n5,"two\nlines"\n,\n6,"open\n7,lost\n8,lost\n'
    (tmp_path / "p.csv").write_bytes(content)
    rows = Rows("mine", _source(tmp_path / "p.csv", "t2i"), cache)
    assert rows.checked(ANY, cache).bad == {
        "cells are missing": [1],
        "more cells than columns": [2],
        "not UTF-8": [3],
        "broken quotes": [5, 6, 7],
    }
    assert rows.texts[4] == "two\nlines"


def test_a_part_of_a_parquet_file_that_cannot_be_read_is_bad_rows(tmp_path: Path, cache: Path):
    path = tmp_path / "p.parquet"
    texts = [f"prompt {n} " * 40 for n in range(40)]
    pq.write_table(pa.table({"prompt": texts}), path, row_group_size=10, use_dictionary=False)
    chunk = pq.ParquetFile(path).metadata.row_group(2).column(0)
    content = bytearray(path.read_bytes())
    start = chunk.data_page_offset
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)
    rows = Rows("mine", _source(path, "t2i"), cache)
    assert rows.checked(ANY, cache).bad == {"unreadable part of the file": list(range(20, 30))}
    assert rows.texts[39] == texts[39]


def test_text_of_parquet_that_is_not_utf_8_is_a_bad_row(tmp_path: Path, cache: Path):
    raw = pa.array([b"a", b"caf\xe9"])
    array = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    pq.write_table(pa.table({"prompt": array}), tmp_path / "p.parquet")
    rows = Rows("mine", _source(tmp_path / "p.parquet", "t2i"), cache)
    assert rows.checked(ANY, cache).bad == {"prompt with half of a surrogate pair": [1]}


# Pictures


def test_pictures_are_upright_of_one_frame_and_plain(tmp_path: Path, cache: Path):
    wide = Image.fromarray(np.full((8, 8, 3), 0, np.uint8))
    wide.paste((255, 0, 0), (0, 0, 8, 4))  # the upper half
    exif = Image.Exif()
    exif[274] = 3  # lies upside down
    wide.save(tmp_path / "0.png", exif=exif)
    RED.save(tmp_path / "1.gif", save_all=True, append_images=[BLUE])
    RED.save(tmp_path / "2.webp", save_all=True, append_images=[BLUE], lossless=True)
    RED.save(tmp_path / "3.png", save_all=True, append_images=[BLUE])
    Image.new("RGBA", (8, 8), (9, 9, 9, 5)).save(tmp_path / "4.png")
    Image.fromarray(np.full((8, 8), 30000, np.uint16)).save(tmp_path / "5.png")
    Image.new("CMYK", (8, 8)).save(tmp_path / "6.jpg")
    RED.convert("P").save(tmp_path / "7.png")
    RED.save(tmp_path / "8.png", transparency=(255, 0, 0))
    RED.save(tmp_path / "9.mpo", save_all=True, append_images=[BLUE])
    (tmp_path / "10.png").write_bytes(png(RED)[:40] + b"\0" * 40)
    names = ["0.png", "1.gif", "2.webp", "3.png", "4.png", "5.png", "6.jpg", "7.png", "8.png",
             "9.mpo", "10.png"]  # fmt: skip
    rows = [{"instruction": "a", "source": name} for name in names]
    found = Rows("mine", _source(write_jsonl(tmp_path / "e.jsonl", rows)), cache)
    bad = found.checked(ANY, cache).bad
    assert bad == {
        "several frames in one file (source)": [1, 2, 3],
        "wrong mode (source is RGBA, must be RGB)": [4],
        "wrong mode (source is I;16, must be RGB)": [5],
        "wrong mode (source is CMYK, must be RGB)": [6],
        "wrong mode (source is P, must be RGB)": [7],
        "wrong mode (source is RGB with transparency, must be RGB)": [8],
        "unreadable file (source)": [10],
    }
    assert found.pixels(0, "source")[0, :, 0].tolist() == [0] * 4 + [255] * 4


# What is kept


def _aged(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (1_000_000_000, 1_000_000_000))


def test_nothing_is_read_again_until_a_file_changes_comes_or_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    RED.save(tmp_path / "s0.png")
    source = _source(_bom(tmp_path))
    _aged(tmp_path / "s0.png", tmp_path / "e.jsonl")
    first = _digest(source)
    read = []
    original = files.listed
    monkeypatch.setattr(files, "listed", lambda s: read.append(1) or original(s))
    assert _digest(source) == first
    assert not read
    BLUE.save(tmp_path / "s1.png")  # came
    _aged(tmp_path / "s1.png")
    second = _digest(source)
    assert second != first
    assert len(read) == 1
    RED.save(tmp_path / "s1.png")
    _aged(tmp_path / "s1.png")  # another content, the same size and time
    assert _digest(source) not in (first, second)
    (tmp_path / "s1.png").unlink()
    assert _digest(source) == first


def test_a_file_as_young_as_its_reading_is_read_again(tmp_path: Path, monkeypatch):
    """A change within the grain of the file system's time leaves size and time as they were."""
    path = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "x"}])
    source = _source(path, "t2i")
    stat = path.stat()
    monkeypatch.setattr(
        tables.Path, "stat", lambda *_a, **_k: stat
    )  # the second write is not seen in the times
    first = _digest(source)
    path.write_text('{"prompt": "y"}\n')
    assert _digest(source) != first


def test_a_large_family_knows_a_broken_source_from_a_missing_one(tmp_path: Path):
    path = tmp_path / "p.jsonl"
    recipe = {
        "family": "qwen-image",
        "model": {"path": str(tmp_path), "digest": "0" * 12},
        "tasks": {"t2i": 1.0},
        "data": {
            "sources": {"mine": _source(path, "t2i").model_dump(exclude_none=True)},
            "composition": {"mine": 1.0},
        },
    }
    absent = qwen_image_files.digest(recipe)
    assert any("p.jsonl" in line for line in qwen_image_files.missing(recipe, edits=False))
    write_jsonl(path, [{"prompt": "x"}])
    assert qwen_image_files.digest(recipe) != absent
    path.write_text("")
    with pytest.raises(ValueError, match=r"p.jsonl holds no row"):
        qwen_image_files.digest(recipe)


def test_weights_behind_a_link_are_in_the_digest(tmp_path: Path):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    for part in qwen_image_files.PARTS:
        (home / part).mkdir(parents=True)
        (home / part / "config.json").write_text("{}")
    elsewhere.mkdir()
    (elsewhere / "w.safetensors").write_text("one")
    (home / "transformer" / "shards").symlink_to(elsewhere)
    recipe = {"family": "qwen-image", "model": {"path": str(home)}}
    before = qwen_image_files.digest(recipe)
    (elsewhere / "w.safetensors").write_text("other")
    assert qwen_image_files.digest(recipe) != before
    (home / "vae" / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="leads nowhere"):
        qwen_image_files.digest(recipe)
    (home / "vae" / "gone").unlink()
    (home / "vae" / "round").symlink_to(home)
    with pytest.raises(ValueError, match="in a circle"):
        qwen_image_files.digest(recipe)


def test_which_files_changed_is_named(tmp_path: Path):
    """What a record keeps beside the digest, so that `plan` names the picture."""
    from harness.journal.code import changed

    RED.save(tmp_path / "s0.png")
    RED.save(tmp_path / "s1.png")
    source = _source(_bom(tmp_path)).model_dump()
    before = files.files_listing(source)
    assert set(before) == {"e.jsonl", "s0.png", "s1.png"}
    BLUE.save(tmp_path / "s1.png")
    files._digest.cache_clear()  # another process
    assert changed(before, files.files_listing(source)) == ["s1.png"]
