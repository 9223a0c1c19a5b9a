"""Rows on disk: every kind of bad row caused and counted, refusals, digests of content."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipes.data.files import columns_found, files_digest
from recipes.data.rows import RowReport, Rows
from recipes.data.settings import Columns, FileSource
from recipes.data.toyworld import RULES
from recipes.fingerprints import data_digest
from recipes.recipe import Recipe
from recipes.toyworld.prompts import prompts
from tests.recipes.data.files import image_folder, magicbrush_parquet, rendered, write_jsonl


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tmp_path / "cache"


def _checked(path: Path, cache: Path, task: str = "edit", **columns: str) -> RowReport:
    settings = FileSource(path=str(path), task=task, columns=Columns(**columns))
    return Rows("mine", settings, cache).checked(RULES, cache)


def test_every_bad_row_is_counted_under_its_reason(tmp_path: Path, cache: Path):
    cases, pictures = rendered("style", 9)
    rows = []
    for i, (case, (source, target, mask)) in enumerate(zip(cases, pictures, strict=True)):
        for name, image in (("s", source), ("t", target), ("m", mask)):
            image.save(tmp_path / f"{name}{i}.png")
        rows.append({"instruction": case.instruction, **_named(i)})
    rows[1]["instruction"] = "  "
    rows[2]["source"] = None
    rows[3]["target"] = "nowhere.png"
    (tmp_path / "s4.png").write_bytes((tmp_path / "s4.png").read_bytes()[:-40])  # cut short
    pictures[5][0].convert("L").save(tmp_path / "s5.png")
    pictures[6][1].resize((25, 24)).save(tmp_path / "t6.png")
    rows[7]["instruction"] = "make it more cinematic"
    (tmp_path / "m8.png").write_text("not a picture")
    report = _checked(write_jsonl(tmp_path / "edits.jsonl", rows), cache)
    assert report.bad == {
        "empty prompt": [1],
        "missing image (source)": [2],
        "missing image (target)": [3],
        "unreadable file (source)": [4],
        "wrong mode (source is L, must be RGB)": [5],
        "wrong size (target is not 24x24)": [6],
        "prompt outside the vocabulary": [7],
        "unreadable file (mask)": [8],
    }
    assert report.good == [0]
    assert report.text().startswith("8 of 9 rows left out: 1 empty prompt (row 1); 1 missing")


def _named(i: int) -> dict[str, str]:
    return {"source": f"s{i}.png", "target": f"t{i}.png", "mask": f"m{i}.png"}


def test_prompts_held_out_for_measuring_are_not_trained_on(tmp_path: Path, cache: Path):
    texts = [p.caption for p in prompts("text", "train")[:3] + prompts("text", "heldout")[:2]]
    path = write_jsonl(tmp_path / "p.jsonl", [{"prompt": t} for t in [*texts, "turn it grey", ""]])
    assert _checked(path, cache, "t2i").bad == {
        "prompt held out for measuring": [3, 4],
        "prompt is an instruction": [5],
        "empty prompt": [6],
    }


@pytest.mark.parametrize(("bad", "refused"), [(1, False), (2, True)])
def test_a_share_of_bad_rows_is_refused_with_all_counts(bad: int, refused: bool):
    report = RowReport("mine", 100, {"empty prompt": list(range(bad))})
    if not refused:
        report.refuse_above(0.01)
        return
    with pytest.raises(ValueError, match=r"2 empty prompt \(row 0, 1\).*2.0%.*max_bad_share=0.01"):
        report.refuse_above(0.01)


def test_no_usable_row_is_refused_whatever_the_limit():
    with pytest.raises(ValueError, match="no usable row"):
        RowReport("mine", 2, {"empty prompt": [0, 1]}).refuse_above(1.0)


def test_magicbrush_s_columns_are_accepted_as_they_are(tmp_path: Path, cache: Path):
    path = tmp_path / "dev.parquet"
    sources = magicbrush_parquet(path, "object", 5)
    rows = Rows("mine", FileSource(path=str(path), task="edit"), cache)
    assert rows.columns == {
        "prompt": "instruction",
        "source": "source_img",
        "target": "target_img",
        "mask": "mask_img",
    }
    assert rows.checked(RULES, cache).bad == {}
    assert np.array_equal(rows.pixels(3, "source"), sources[3].transpose(2, 0, 1))


def test_an_image_folder_keeps_rows_whose_picture_is_gone(tmp_path: Path, cache: Path):
    sources = image_folder(tmp_path / "folder", "identity", 4)
    (tmp_path / "folder" / "2-before.png").unlink()
    rows = Rows("mine", FileSource(path=str(tmp_path / "folder"), task="edit"), cache)
    assert rows.checked(RULES, cache).bad == {"missing image (source)": [2]}
    assert np.array_equal(rows.pixels(1, "source"), sources[1].transpose(2, 0, 1))


def test_what_was_found_is_kept_until_a_file_changes(tmp_path: Path, cache: Path, monkeypatch):
    image_folder(tmp_path / "folder", "identity", 2)
    assert _checked(tmp_path / "folder", cache).bad == {}
    looked = []
    look = Rows._fault
    monkeypatch.setattr(Rows, "_fault", lambda *args: looked.append(args[1]) or look(*args))
    assert _checked(tmp_path / "folder", cache).bad == {}
    assert looked == []
    (tmp_path / "folder" / "0-after.png").unlink()
    assert _checked(tmp_path / "folder", cache).bad == {"missing image (target)": [0]}
    assert looked == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "x"\n', "p.jsonl, line 1: not JSON"),
        ('{"words": "x"}\n', "no column for the prompt"),
    ],
)
def test_a_file_that_is_no_data_is_refused(tmp_path: Path, cache: Path, content: str, message: str):
    path = tmp_path / "p.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        _checked(path, cache, "t2i")


def test_a_misspelt_column_names_the_nearest():
    with pytest.raises(ValueError, match=r"column \(prompt\) 'captoin'; did you mean 'caption'"):
        columns_found(Columns(prompt="captoin"), "t2i", ["caption", "other"])


# Digests


def _digest(path: Path, **fields: str) -> str:
    return files_digest(FileSource(path=str(path), **fields).model_dump())


def _touch(path: Path) -> None:
    """A new time of change, so that what this process saw before counts no more."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))


def test_the_digest_is_of_content_referenced_pictures_included(tmp_path: Path, cache: Path):
    path = write_jsonl(tmp_path / "a" / "e.jsonl", [{"instruction": "x", "source_img": "s.png"}])
    Image.new("RGB", (24, 24), "red").save(tmp_path / "a" / "s.png")
    first = _digest(path, task="edit")
    _touch(path)
    assert _digest(path, task="edit") == first, "times of change are no content"
    copy = write_jsonl(tmp_path / "b" / "e.jsonl", [{"instruction": "x", "source_img": "s.png"}])
    Image.new("RGB", (24, 24), "red").save(tmp_path / "b" / "s.png")
    assert _digest(copy, task="edit") == first, "nor is the place"
    Image.new("RGB", (24, 24), "blue").save(tmp_path / "a" / "s.png")
    _touch(path)
    assert _digest(path, task="edit") != first


def test_files_are_hashed_once_per_change(tmp_path: Path, cache: Path, monkeypatch):
    from recipes.data import files

    path = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "x"}])
    os.utime(path, (1_000_000_000, 1_000_000_000))  # not as young as its reading
    first = _digest(path)
    files._digest.cache_clear()  # another process
    monkeypatch.setattr(files.hashlib, "file_digest", lambda *_: pytest.fail("was read again"))
    assert _digest(path) == first


def test_only_sources_that_take_part_are_in_the_data_digest(tmp_path: Path, cache: Path):
    path = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "x"}])
    sources = {"mine": {"kind": "files", "path": str(path)}}

    def digest(**data) -> str:
        return data_digest(Recipe.model_validate({"data": data}).model_dump(mode="json"))

    plain = digest()
    assert digest(sources=sources) == plain
    used = digest(sources=sources, composition={"mine": 1})
    assert used != plain
    path.write_text('{"prompt": "y"}\n')
    _touch(path)
    assert digest(sources=sources, composition={"mine": 1}) != used


def test_a_missing_file_says_where_it_was_looked_for(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PROMPTS", str(tmp_path))
    with pytest.raises(ValueError, match=r"\$PROMPTS/none.jsonl.*no .*none.jsonl"):
        _digest(Path("$PROMPTS/none.jsonl"))
    (tmp_path / "p.doc").write_text("x")
    with pytest.raises(ValueError, match="of no kind that is read; give"):
        _digest(tmp_path / "p.doc")
