"""Files of a source: one listing gives the rows, and every file that they are read from.

The loader trains on what is listed here, and the digest covers what is listed here. What cannot be
listed is refused. Imports no torch, and pyarrow for parquet only: a plan digests every source.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from recipes.data.folders import Table, matches, tables_of
from recipes.data.settings import Columns, FileSource, TaskName, refuse_unknown
from recipes.data.tables import Held, Record, columns_of, records
from recipes.kept import Stamps, user_cache, write_whole

ROOT = Path(__file__).parent.parent.parent
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
FORMAT = 3
"""Of what is kept in the user's cache."""
SHORT = 16
"""Hex digits of a file's digest in a listing."""
MOST_LISTED = 200
"""Files of a source that a listing holds."""
Digests = tuple[str, Mapping[str, str]]
"""Of all content of a source, and of each of its files."""


class MissingSourceError(ValueError):
    """Nothing lies where a source should."""


class Picture(NamedTuple):
    """A picture of a row: a file, bytes in a table, or why it is neither."""

    file: Path | None = None
    called: str = ""
    """The file as the table names it."""
    held: Held | None = None
    fault: str = ""


class Row(NamedTuple):
    """A row as it is trained on."""

    text: Any
    pictures: Mapping[str, Picture]
    table: int
    line: int
    fault: str = ""


@dataclass(frozen=True)
class Listing:
    """Rows of a source and what they are read from."""

    home: Path
    tables: tuple[Table, ...]
    columns: Mapping[str, str]
    """Role (prompt, source, target, mask) to the column that holds it."""
    rows: tuple[Row, ...] = field(repr=False)

    def place(self, number: int) -> str:
        """File and line of a row."""
        row = self.rows[number]
        return f"{self.tables[row.table].path}, line {row.line}"

    def pictures(self) -> tuple[dict[str, Path], set[Path]]:
        """Files of pictures by what the digest calls them, and those that are not there."""
        there: dict[str, Path] = {}
        absent = set()
        for row in self.rows:
            base = self.tables[row.table].base
            for picture in row.pictures.values():
                if picture.file is not None and picture.fault:
                    absent.add(picture.file)
                elif picture.file is not None:
                    there[_called(self.home, base, picture.called)] = picture.file
        return there, absent


def place(settings: FileSource) -> Path:
    """Where a source lies; a pattern stays one.

    Raises:
        MissingSourceError: nothing is there.
    """
    path = ROOT / Path(os.path.expandvars(settings.path)).expanduser()
    if not path.exists() and not matches(path):
        raise MissingSourceError(
            f"data source {settings.path!r}: there is no {path}; ~ and $VARIABLES are expanded, "
            f"relative paths start at {ROOT}"
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


def listed(settings: FileSource) -> Listing:
    """The rows of a source and the files they name: what is trained on, and what is digested.

    Raises:
        ValueError: nothing is there, it is of no kind that is read, cannot be read, has no row,
            or lacks a column.
    """
    # Our own reader, once, for loader, row report and digest alike. Hugging Face's `datasets` stops
    # at the first broken line, and reads more files than a digest could list. What is ambiguous is
    # refused.
    home, parts = tables_of(settings.path, place(settings))
    tables: list[Table] = []
    rows: list[Row] = []
    columns: dict[str, str] = {}
    for part in parts:
        try:
            found, read = _read(settings, part)
        except ValueError as error:
            raise ValueError(f"data source {settings.path!r}: {error}") from error
        if tables and found != columns:
            raise ValueError(
                f"data source {settings.path!r}: {part[0].path} holds {found}, and "
                f"{tables[0].path} {columns}; name the columns, or only files that are alike"
            )
        columns = found
        for table, held in zip(part, read, strict=True):
            rows += (_row(record, columns, table, len(tables)) for record in held)
            tables.append(table)
    if not rows:
        raise ValueError(f"data source {settings.path!r}: {tables[0].path} holds no row")
    made = Listing(home, tuple(tables), columns, tuple(rows))
    if all(row.fault for row in rows):
        raise ValueError(
            f"data source {settings.path!r} has no usable row; {made.place(0)}: {rows[0].fault}"
        )
    return made


def files_digest(settings: Mapping[str, Any], *, look: bool = False) -> str:
    """Digest of a source's files, pictures that its rows name included; read once per change.

    The result is kept beside paths, sizes and times of change in the user's cache, so that a plan
    only looks at the files. Within a process that is done once for each state of the source's own
    file or folder, unless `look` says to look at all files again.

    Raises:
        ValueError: as `listed`.
    """
    return _looked(settings, look)[0]


def files_listing(settings: Mapping[str, Any]) -> dict[str, str]:
    """File -> digest of a source, to say which one changed; empty where there are too many.

    Raises:
        ValueError: as `listed`.
    """
    return dict(_looked(settings, look=False)[1])


def _looked(settings: Mapping[str, Any], look: bool) -> Digests:
    made = FileSource.model_validate(dict(settings))
    path = place(made)
    digest = _digest.__wrapped__ if look else _digest
    return digest(made.model_dump_json(), path, path.stat().st_mtime_ns if path.exists() else 0)


@cache
def _digest(text: str, path: Path, _mtime: int) -> Digests:
    settings = FileSource.model_validate_json(text)
    # In the user's cache, because `fingerprints` is given no workspace.
    kept = user_cache() / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
    home, parts = tables_of(settings.path, path)
    tables = [table for part in parts for table in part]
    try:
        before = Stamps(table.path for table in tables)
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from error
    known = _known(kept, before)
    if known is not None:
        return known
    there, absent = listed(settings).pictures()
    pictures = Stamps(there.values())
    files = {_called(home, table.base, table.path.name): table.path for table in tables} | there
    content = hashlib.sha256()
    each = {}
    for called in sorted(files, key=Path):
        try:
            with files[called].open("rb") as handle:
                inside = hashlib.file_digest(handle, "sha256").hexdigest()
        except OSError as error:
            raise ValueError(f"{files[called]} cannot be read: {error.strerror}") from error
        content.update(f"{called}\0{inside}\n".encode(errors="surrogatepass"))
        each[called] = inside[:SHORT]
    each = each if len(each) <= MOST_LISTED else {}
    # A file this young may change again under the same times: its digest is not kept.
    if before.settled and pictures.settled:
        found = {
            "format": FORMAT,
            "tables": before.text,
            "pictures": pictures.text,
            "there": [str(file) for file in there.values()],
            "absent": sorted(map(str, absent)),
            "content": content.hexdigest(),
            "each": each,
        }
        write_whole(kept, found)
    return content.hexdigest(), each


def _known(kept: Path, tables: Stamps) -> Digests | None:
    """The digest that is kept, if neither tables nor pictures have changed, come or gone."""
    try:
        held = json.loads(kept.read_text())
        same = (held["format"], held["tables"]) == (FORMAT, tables.text)
        came = same and any(map(_is_file, held["absent"]))
        if same and not came and Stamps(map(Path, held["there"])).text == held["pictures"]:
            return str(held["content"]), {str(k): str(v) for k, v in held["each"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # not there yet, not ours, or a picture went: read the files
    return None


def _read(settings: FileSource, part: list[Table]) -> tuple[dict[str, str], list[list[Record]]]:
    """Columns by role, and the records of each table of a part, which shares its columns."""
    first = part[0]
    named = columns_of(first.path)
    if named is not None:  # of parquet only what is needed is read
        called = {_renamed(first, name): name for name in named}
        columns = columns_found(settings.columns, settings.task, called)
        return columns, [list(_records(first, [called[c] for c in columns.values()]))]
    read = [list(_records(table)) for table in part]
    names = dict.fromkeys(name for held in read for record in held for name in record.cells)
    if not names:
        for table, held in zip(part, read, strict=True):
            if held:
                raise ValueError(
                    f"no usable row; {table.path}, line {held[0].line}: {held[0].fault}"
                )
        raise ValueError(f"{first.path} holds no row")
    return columns_found(settings.columns, settings.task, names), read


def _records(table: Table, columns: Collection[str] | None = None) -> Iterator[Record]:
    if table.kind == "caption":
        yield _caption(table)
        return
    for record in records(table.path, columns):
        if table.kind == "metadata":
            cells = {_renamed(table, name): cell for name, cell in record.cells.items()}
            yield record._replace(cells=cells)
        else:
            yield record


def _renamed(table: Table, column: str) -> str:
    """`file_name` of metadata is the picture `image`, `target_file_name` is `target`."""
    if table.kind != "metadata":
        return column
    return "image" if column == "file_name" else column.removesuffix("_file_name")


def _caption(table: Table) -> Record:
    """What stands beside a picture: a line of text, or an object."""
    beside = {"image": table.picture or None}
    if table.path.name == table.picture:
        return Record(beside, 1, "no caption")
    try:
        text = table.path.read_bytes().decode("utf-8-sig")
        if table.path.suffix.lower() == ".json":
            found = json.loads(text)
            return Record(beside | found, 1) if isinstance(found, dict) else _bad("no JSON object")
    except UnicodeDecodeError:
        return _bad("not UTF-8")
    except (ValueError, RecursionError):
        return _bad("not JSON")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) > 1:
        return _bad("several lines in one caption")
    return Record(beside | {"prompt": "".join(lines)}, 1)


def _bad(fault: str) -> Record:
    return Record({"image": None, "prompt": None}, 1, fault)


def _row(record: Record, columns: Mapping[str, str], table: Table, number: int) -> Row:
    if record.fault:
        return Row(None, {}, number, record.line, record.fault)
    pictures = {
        role: _picture(record.cells.get(column), table.base)
        for role, column in columns.items()
        if role in PICTURES
    }
    return Row(record.cells.get(columns["prompt"]), pictures, number, record.line)


def _picture(cell: Any, base: Path) -> Picture:
    """What a cell names: a path, bytes, or both in one as Hugging Face keeps pictures."""
    if isinstance(cell, Held):
        return Picture(held=cell)
    if isinstance(cell, dict):
        if cell.get("bytes") is not None:
            return Picture(fault="bytes that are no bytes")
        cell = cell.get("path")
    if isinstance(cell, list) and cell:
        return Picture(fault="several images in one cell")
    if cell is None or cell in ("", []):
        return Picture(fault="missing image")
    if not isinstance(cell, str):
        return Picture(fault="no name of an image")
    if "://" in cell:
        return Picture(fault="image at an address, which is not fetched")
    file = base / cell
    return Picture(file, cell, fault="" if _is_file(file) else "missing image")


def _is_file(path: Path | str) -> bool:
    """Whether a file is there; no name, however odd, is an error."""
    try:
        return os.path.isfile(path)  # noqa: PTH113 - a text too long for a path is no error
    except ValueError:  # half a letter
        return False


def _called(home: Path, base: Path, name: str) -> str:
    """A file as the digest calls it, wherever the source lies: from its folder, or as written."""
    return name if os.path.isabs(name) else os.path.relpath(base / name, home)  # noqa: PTH117
