"""Files on disk: where they lie, which columns hold what, and a digest of all they contain.

Imports no torch and no `datasets`: a plan digests every source of every arm.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recipes.data.settings import Columns, FileSource, TaskName, refuse_unknown
from recipes.kept import user_cache, write_whole

ROOT = Path(__file__).parent.parent.parent
FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet"}
"""Suffix of a file to the name of its `datasets` loader; a folder is an image folder."""
USUAL = {
    "t2i": {"prompt": ("prompt", "caption", "text")},
    "edit": {
        "prompt": ("prompt", "instruction", "caption", "text"),
        "source": ("source", "source_img", "image"),
        "target": ("target", "target_img"),
        "mask": ("mask", "mask_img"),
    },
}
"""Names looked for where `columns` says null, MagicBrush's among them."""
OPTIONAL = ("target", "mask")
PICTURES = ("source", "target", "mask")


def place(settings: FileSource) -> Path:
    """Where a source lies.

    Raises:
        ValueError: nothing is there, or its kind is not known.
    """
    path = ROOT / Path(os.path.expandvars(settings.path)).expanduser()
    if not path.exists():
        raise ValueError(
            f"data source {settings.path!r}: there is no {path}; ~ and $VARIABLES are expanded, "
            f"relative paths start at {ROOT}"
        )
    if path.is_file() and path.suffix.lower() not in FORMATS:
        raise ValueError(
            f"data source {settings.path!r} is neither a folder of images nor one of "
            f"{', '.join(FORMATS)}"
        )
    return path


def columns_found(given: Columns, task: TaskName, there: Iterable[str]) -> dict[str, str]:
    """Role (prompt, source, target, mask) to the column that holds it.

    Raises:
        ValueError: a named column is missing, or none has a usual name for what the task needs.
    """
    have = list(there)
    found = {}
    for role, names in USUAL[task].items():
        named = getattr(given, role)
        if named is not None:
            refuse_unknown([named], have, f"column ({role})")
        column = named or next((name for name in names if name in have), None)
        if column is not None:
            found[role] = column
        elif role not in OPTIONAL:
            raise ValueError(
                f"no column for the {role}: looked for {', '.join(names)}, found "
                f"{', '.join(have)}; name it in columns.{role}"
            )
    return found


def files_digest(settings: Mapping[str, Any]) -> str:
    """Digest of a source's files, referenced pictures included; they are read once per change.

    The result is kept beside a list of paths, sizes and times of change in the user's cache, so
    that a plan only lists the files. Within a process a listing is taken once for each state of
    the source's own file or folder.

    Raises:
        ValueError: as `place`.
    """
    made = FileSource.model_validate(dict(settings))
    path = place(made)
    return _digest(made.model_dump_json(), path, path.stat().st_mtime_ns)


@cache
def _digest(settings: str, path: Path, _mtime: int) -> str:
    files = sorted(_files(FileSource.model_validate_json(settings), path))
    home = path if path.is_dir() else path.parent
    listing = hashlib.sha256()
    for file in files:
        stat = file.stat()
        listing.update(f"{file}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    kept = user_cache() / f"{hashlib.sha256(settings.encode()).hexdigest()[:24]}.json"
    try:
        held = json.loads(kept.read_text())
        if held["listing"] == listing.hexdigest():
            return str(held["content"])
    except (OSError, ValueError, KeyError):
        pass  # not there yet, or not ours: read the files
    content = hashlib.sha256()
    for file in files:
        with file.open("rb") as handle:
            inside = hashlib.file_digest(handle, "sha256").hexdigest()
        content.update(f"{os.path.relpath(file, home)}\0{inside}\n".encode())
    write_whole(kept, {"listing": listing.hexdigest(), "content": content.hexdigest()})
    return content.hexdigest()


def _files(settings: FileSource, path: Path) -> Iterator[Path]:
    """Every file that a source's rows are read from."""
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file())
        return
    yield path
    if settings.task == "edit":
        columns = [getattr(settings.columns, role) for role in PICTURES]
        usual = [name for role in PICTURES for name in USUAL["edit"][role]]
        named = {c for c in (*columns, *usual) if c}
        for text in _texts(path, named):
            picture = path.parent / text
            if os.path.isfile(picture):  # noqa: PTH113 - a text too long for a path is no error
                yield picture


def _texts(path: Path, columns: set[str]) -> set[str]:
    """Distinct texts in some columns of a file."""
    try:
        rows = _rows(path, columns)
    except ValueError:
        return set()  # a fault that the loader tells when the trial starts
    plain = [row for row in rows if isinstance(row, dict)]
    return {row[name] for row in plain for name in columns if isinstance(row.get(name), str)}


def _rows(path: Path, columns: set[str]) -> list[Any]:
    if path.suffix.lower() == ".parquet":
        from pyarrow import parquet, types

        schema = parquet.read_schema(path)  # pictures held as bytes are not read here
        texts = [f.name for f in schema if f.name in columns and types.is_string(f.type)]
        return parquet.read_table(path, columns=texts).to_pylist()
    text = path.read_text(encoding="utf-8")
    if text.lstrip().startswith("["):
        return json.loads(text)
    return [json.loads(line) for line in text.splitlines() if line.strip()]
