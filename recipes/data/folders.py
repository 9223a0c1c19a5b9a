"""Which tables a source's path means: a file, a pattern, a folder of shards, or of pictures.

A folder of pictures says its texts in `metadata.jsonl`, `.csv` or `.parquet` (in it or in folders
below, with `file_name` or `*_file_name` columns), or beside each picture (`cat.png`, `cat.txt` or
`cat.json`). Links are followed; names with a dot in front are not read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from recipes.data.tables import suffix_of

PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
ALLOWED = (
    "a .jsonl, .json, .csv, .tsv or .txt file (one prompt a line), each also with .gz, or a "
    ".parquet file; a pattern or a folder of such files, all of one kind; or a folder of pictures "
    "with metadata.jsonl, .csv or .parquet, or with a .txt or .json beside each"
)
_SPLIT = re.compile(
    r"(train|training|test|val|valid|validation|dev|eval)(?=[-_.]|$)", re.IGNORECASE
)
_WILD = re.compile(r"[*?[]")


class Table(NamedTuple):
    """A file with rows."""

    path: Path
    base: Path
    """Folder that names of pictures start from."""
    kind: Literal["table", "metadata", "caption"] = "table"
    picture: str = ""
    """Of a caption: the picture beside it."""


def matches(path: Path) -> list[Path]:
    """Files that a pattern means, by name; empty where it is none, or means none."""
    parts = path.parts
    wild = next((n for n, part in enumerate(parts) if _WILD.search(part)), None)
    if wild is None:
        return []
    found = Path(*parts[:wild]).glob(str(Path(*parts[wild:])))
    return sorted(file for file in found if file.is_file())


def tables_of(given: str, path: Path) -> tuple[Path, list[list[Table]]]:
    """The folder that the digest's names start from, and tables that share their columns.

    Raises:
        ValueError: what is there is of no kind that is read, or of several.
    """
    if path.is_file():
        return path.parent, [[_table(given, path)]]
    if not path.is_dir():
        files = matches(path)
        home = Path(os.path.commonpath([file.parent for file in files]))
        return home, [[_table(given, file)] for file in _one_kind(given, files)]
    there = sorted(_below(path, ()), key=lambda file: file.relative_to(path).parts)
    _refuse_splits(given, path, there)
    described = [file for file in there if file.name in METADATA]
    if described:
        return path, [[_metadata(given, file, described)] for file in described]
    pictures = [file for file in there if file.suffix.lower() in PICTURE_SUFFIXES]
    if pictures:
        return path, [_captions(given, there, pictures)]
    if any(file.suffix == ".arrow" for file in there):
        raise ValueError(
            f"data source {given!r} was written by `save_to_disk`, whose .arrow files are not "
            "read; write it with `to_parquet`"
        )
    tables = [file for file in there if suffix_of(file)]
    if not tables:
        raise ValueError(f"data source {given!r}: nothing in {path} can be read; give {ALLOWED}")
    return path, [[_table(given, file)] for file in _one_kind(given, tables)]


def _table(given: str, path: Path) -> Table:
    if not suffix_of(path):
        raise ValueError(
            f"data source {given!r}: {path.name} is of no kind that is read; give {ALLOWED}"
        )
    return Table(path, path.parent)


def _one_kind(given: str, files: Sequence[Path]) -> Sequence[Path]:
    kinds = sorted({suffix_of(file) or file.name for file in files})
    if len(kinds) > 1:
        raise ValueError(
            f"data source {given!r} holds files of several kinds ({', '.join(kinds[:6])}); name "
            f"those that are meant by a pattern, such as *{kinds[-1]}"
        )
    return files


def _metadata(given: str, file: Path, described: Iterable[Path]) -> Table:
    beside = [other.name for other in described if other.parent == file.parent]
    if len(beside) > 1:
        raise ValueError(
            f"data source {given!r}: {file.parent} holds {' and '.join(beside)}; keep one"
        )
    return Table(file, file.parent, "metadata")


def _captions(given: str, there: Sequence[Path], pictures: Sequence[Path]) -> list[Table]:
    """A table for each picture and each caption without one; a bare picture stands for itself."""
    texts: dict[Path, Path] = {}
    for file in there:
        if file.suffix.lower() in (".txt", ".json"):
            stem = file.with_suffix("")
            if stem in texts:
                raise ValueError(
                    f"data source {given!r}: {texts[stem]} and {file} say one caption; keep one"
                )
            texts[stem] = file
    if not texts:
        raise ValueError(
            f"data source {given!r} is a folder of pictures without texts: add metadata.jsonl with "
            "file_name and prompt, or a .txt beside each picture"
        )
    found = []
    for picture in pictures:
        caption = texts.pop(picture.with_suffix(""), None)
        found.append(Table(caption or picture, picture.parent, "caption", picture.name))
    return found + [Table(caption, caption.parent, "caption") for caption in texts.values()]


def _refuse_splits(given: str, path: Path, there: Iterable[Path]) -> None:
    """Refuse training and test parts side by side: which is meant, the path must say."""
    named = {
        part
        for file in there
        if suffix_of(file) or file.suffix.lower() in PICTURE_SUFFIXES
        for part in [file.relative_to(path).parts[0]]
        if _SPLIT.match(part)
        and not (part == file.name and file.suffix.lower() in PICTURE_SUFFIXES)
    }
    kinds = {_SPLIT.match(part)[1].lower() for part in named}
    if len(kinds) > 1:
        raise ValueError(
            f"data source {given!r} holds {', '.join(sorted(kinds))}: name one, by a folder or a "
            f"pattern such as {sorted(kinds)[0]}*"
        )


def _below(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Files below, links followed unless they lead round in a circle.

    Raises:
        ValueError: what may be a folder is a link that leads nowhere, or cannot be read.
    """
    stat = folder.stat()
    here = (stat.st_dev, stat.st_ino)
    if here in above:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _below(Path(entry.path), (*above, here))
        elif entry.is_symlink() and not entry.is_file() and not Path(entry.path).suffix:
            raise ValueError(f"{entry.path} is a link that leads nowhere")
        elif entry.is_file() or entry.is_symlink():  # who reads it is told where it is gone
            yield Path(entry.path)
