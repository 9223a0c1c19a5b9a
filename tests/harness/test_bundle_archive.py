"""A bundle is a stranger's: nothing leaves the folder, and nothing is larger than it says."""

import struct
import zipfile
from pathlib import Path

import pytest

from harness.bundle.read import extract_bundle
from harness.errors import BundleError
from harness.text import archive
from harness.text.archive import Archive, Bad, parsed

from .bundles import zipped

HOSTILE = [
    "../x",
    "a/../../x",
    "/etc/x",
    "//host/x",
    "C:/x",
    "C:x",
    "a\\..\\x",
    "a/./x",
    "a//x",
    "",
    "./x",
    "x\0.txt",
    "x\n",
    "x\x1b[2J",
    "con",
    "a/NUL.txt",
    "x.",
    "x ",
    " x",
    "a/ /x",
    "..",
    "e\u0301",
    "x\u202etxt",
    "a" * 300,
    "a/" * 500 + "x",
    "x:stream",
    "folder/",
]


def refused(content: bytes, folder: Path) -> str:
    file = folder / "x.zip"
    file.write_bytes(content)
    with pytest.raises(BundleError) as found:
        extract_bundle(file, folder / "into" / "x")
    assert sorted(p.name for p in folder.rglob("*")) in (["into", "x.zip"], ["x.zip"])
    return str(found.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_that_leave_a_folder_or_hide_are_refused(name: str, tmp_path: Path):
    refused(zipped([("fine", b"x"), (name, b"x")]), tmp_path)


@pytest.mark.parametrize("mode", [0o120777, 0o040755, 0o020666, 0o010644])
def test_links_folders_devices_and_pipes_are_refused(mode: int, tmp_path: Path):
    told = refused(zipped([("x", b"/etc/passwd")], mode << 16), tmp_path)
    assert "link" in told


@pytest.mark.parametrize(
    "names",
    [
        ("x", "x"),
        ("x", "X"),
        ("a/x", "A/y"),
        ("a", "a/x"),
        ("a/x", "a"),
        ("ß", "SS"),
        ("a/x/y", "A"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_collide_on_some_file_system_are_refused(names, tmp_path: Path):
    refused(zipped([(name, b"x") for name in names]), tmp_path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch):
    read: list[str] = []
    monkeypatch.setattr(Archive, "chunks", lambda self, name: read.append(name) or iter(()))
    assert "250 times" in refused(zipped([("x", bytes(50 * 2**20))]), tmp_path)
    assert not read


def test_a_member_that_says_it_is_larger_than_all_limits_is_refused(tmp_path: Path):
    content = bytearray(zipped([("x", b"abc" * 100)]))
    at = content.index(b"PK\x01\x02")
    content[at + 20 : at + 28] = struct.pack("<II", 2**32 - 2, 2**32 - 2)
    refused(bytes(content), tmp_path)


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_MEMBERS", 5)
    refused(zipped([(f"x{i}", b"") for i in range(6)]), tmp_path)


def test_members_that_share_bytes_are_refused(tmp_path: Path):
    """The bomb of overlapping files: many members, one body."""
    content = bytearray(zipped([("a", b"x" * 100), ("b", b"x" * 100)]))
    second = content.rindex(b"PK\x01\x02")
    content[second + 42 : second + 46] = struct.pack("<I", 0)  # where its body begins
    refused(bytes(content), tmp_path)


def test_encryption_and_other_compression_are_refused(tmp_path: Path):
    for offset, value in ((8, 1), (10, zipfile.ZIP_LZMA)):
        content = bytearray(zipped([("x", b"x" * 50)]))
        at = content.index(b"PK\x01\x02")
        content[at + offset : at + offset + 2] = struct.pack("<H", value)
        assert "encrypted" in refused(bytes(content), tmp_path)


def test_a_script_in_front_and_a_comment_are_refused(tmp_path: Path):
    assert "before" in refused(b"#!/bin/sh\n" + zipped([("x", b"x")]), tmp_path)
    content = bytearray(zipped([("x", b"x")]))
    content[-2:] = struct.pack("<H", 4)
    assert "comment" in refused(bytes(content) + b"text", tmp_path)


def test_what_is_no_zip_is_refused(tmp_path: Path):
    for content in (b"", b"PK\x03\x04", b"x" * 1000, zipped([])):
        refused(content, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        "[" * 100_000,
        "[" * 61 + "]" * 61,
        '{"a": NaN}',
        '{"a": 1e999}',
        "1" * 5000,
        '"\\ud800"',
        "\udcff",
        '{"a": 1',
        "",
    ],
)
def test_json_that_would_hurt_a_reader_is_refused(text: str):
    with pytest.raises(Bad) as found:
        parsed(text.encode("utf-8", "surrogateescape"), "results/answer.json", 7)
    assert (found.value.member, found.value.line) == ("results/answer.json", 7)


def test_brackets_in_strings_are_no_depth():
    assert parsed(b'["' + b"[" * 200 + b'\\"["]', "x") == ["[" * 200 + '"[']


def test_a_strangers_words_cannot_steer_a_terminal():
    assert str(Bad("\x1b[2Jgone\r\n\u202e", "x")) == "x: ?[2Jgone???"


def test_what_is_there_is_never_written_over(tmp_path: Path):
    (tmp_path / "x").mkdir()
    with pytest.raises(BundleError, match="there already"):
        extract_bundle(tmp_path / "none.zip", tmp_path / "x")
