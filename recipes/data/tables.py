"""Rows of one table on disk: JSON lines, JSON, CSV, TSV, a prompt a line, parquet; gzip of text.

A row that cannot be read comes with the reason; a file that cannot be read at all is refused. Lines
end at line feeds alone: other separators (U+2028, U+0085, form feeds) are letters of a prompt.
"""

from __future__ import annotations

import bisect
import csv
import gzip
import io
import json
import os
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple, cast

TEXTS = (".jsonl", ".json", ".csv", ".tsv", ".txt")
SUFFIXES = (*TEXTS, *(f"{suffix}.gz" for suffix in TEXTS), ".parquet")
"""Endings of the tables that are read, in any case."""
LONGEST_CELL = 2**31 - 1
_BROKEN = (OSError, ValueError, EOFError, NotImplementedError, zlib.error)
"""What readers of broken files raise, pyarrow's among them."""
_OTHER_UNICODE = (b"\xff\xfe", b"\xfe\xff")


class Record(NamedTuple):
    """A row as its table holds it."""

    cells: dict[str, Any]
    """By column. Bytes in parquet are a `Held`, their content is read when it is asked for."""
    line: int
    """Line of the file, or row of a parquet file, from 1."""
    fault: str = ""
    """Why it cannot be read, in a few words that other rows may share."""


class Held(NamedTuple):
    """Bytes inside a parquet file."""

    column: str
    row: int


def suffix_of(path: Path) -> str:
    """Ending of a table's name, in small letters; empty for what is no table."""
    name = path.name.lower()
    return next((s for s in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(s)), "")


def columns_of(path: Path) -> list[str] | None:
    """Columns that the file names by itself; None where they are those of its rows.

    Raises:
        ValueError: the file cannot be read.
    """
    if suffix_of(path) != ".parquet":
        return None
    with _readable(path):
        return [str(name) for name in _parquet(path).schema_arrow.names]


def records(path: Path, columns: Collection[str] | None = None) -> Iterator[Record]:
    """Every row of a table, in order; lines of nothing but blanks are no rows.

    Args:
        path: the table.
        columns: of a parquet file, those to read; None reads all.

    Raises:
        ValueError: the file cannot be read.
    """
    suffix = suffix_of(path)
    with _readable(path):
        if suffix == ".parquet":
            yield from _parquet_rows(path, columns)
            return
        opened = gzip.open if suffix.endswith(".gz") else open
        with opened(path, "rb") as stream:
            yield from _text_rows(cast(BufferedReader, stream), suffix.removesuffix(".gz"))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever readers raise, as one error that names the file."""
    try:
        yield
    except _BROKEN as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ValueError(f"{path} cannot be read: {said}") from error


# Text


def _text_rows(stream: BufferedReader, suffix: str) -> Iterator[Record]:
    head = stream.peek(3)[:3]
    if head[:2] in _OTHER_UNICODE:
        raise ValueError("it is UTF-16; write it as UTF-8")
    if head == b"\xef\xbb\xbf":
        stream.read(3)
    if suffix in (".csv", ".tsv"):
        yield from _cells(stream, "," if suffix == ".csv" else "\t")
    elif suffix == ".txt":
        yield from _lines(stream)
    else:
        yield from _objects(stream)


def _decoded(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _lines(stream: Iterable[bytes]) -> Iterator[Record]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        text = _decoded(line)
        if text is None:
            yield Record({}, number, "not UTF-8")
        else:
            yield Record({"prompt": text.strip(" \t\r\n")}, number)


def _objects(stream: BufferedReader) -> Iterator[Record]:
    """Of a list of objects, or an object a line."""
    number, line = 1, stream.readline()
    while line and not line.strip():
        number, line = number + 1, stream.readline()
    if line.lstrip().startswith(b"["):
        text = _decoded(line + stream.read())
        if text is None:
            raise ValueError("it is not UTF-8")
        try:
            listed = json.loads(text)
        except RecursionError:
            raise ValueError("it is nested too deep") from None
        for place, found in enumerate(listed, start=1):
            yield _object(found, place)
        return
    while line:
        if line.strip():
            yield _parsed(line, number)
        number, line = number + 1, stream.readline()


def _parsed(line: bytes, number: int) -> Record:
    text = _decoded(line)
    if text is None:
        return Record({}, number, "not UTF-8")
    try:
        return _object(json.loads(text), number)
    except (ValueError, RecursionError):
        return Record({}, number, "not JSON")


def _object(found: Any, number: int) -> Record:
    if not isinstance(found, dict):
        return Record({}, number, "no JSON object")
    return Record(found, number)


def _cells(stream: BufferedReader, delimiter: str) -> Iterator[Record]:
    """Of a table with a line of names; what is not UTF-8 is known by its lone surrogates."""
    csv.field_size_limit(LONGEST_CELL)
    text = io.TextIOWrapper(stream, "utf-8", errors="surrogateescape", newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        names = next(reader, [])
    except csv.Error as error:
        raise ValueError(f"line 1: {error}") from error
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"line 1: columns are named twice: {', '.join(repeated)}")
    while True:
        before = reader.line_num
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:  # an open quote takes the lines behind it along: they are lost, too
            for line in range(before + 1, reader.line_num + 1):
                yield Record({}, line, "broken quotes")
            continue
        if not any(row):
            continue
        fault = ""
        if len(row) != len(names):
            fault = "more cells than columns" if len(row) > len(names) else "cells are missing"
        elif any("\udc80" <= letter <= "\udcff" for cell in row for letter in cell):
            fault = "not UTF-8"
        yield Record({} if fault else dict(zip(names, row, strict=True)), before + 1, fault)


# Parquet


def _parquet(path: Path) -> Any:
    from pyarrow import parquet

    return parquet.ParquetFile(path)


def _parquet_rows(path: Path, columns: Collection[str] | None) -> Iterator[Record]:
    file = _parquet(path)
    wanted = [n for n in file.schema_arrow.names if columns is None or n in columns]
    number = 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        try:
            found = {name: _column(file, group, name, number) for name in wanted}
        except _BROKEN:
            for row in range(rows):
                yield Record({}, number + row + 1, "unreadable part of the file")
        else:
            for row in range(rows):
                cells = {name: values[row] for name, values in found.items()}
                yield Record(cells, number + row + 1)
        number += rows


def _column(file: Any, group: int, name: str, first: int) -> list[Any]:
    """Values of a column in a row group; bytes and structs of them are not read."""
    import pyarrow as pa

    kind = file.schema_arrow.field(name).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    count = file.metadata.row_group(group).num_rows
    if _is_bytes(kind):
        held = _there(file, group, name)
        return [Held(name, first + row) if there else None for row, there in enumerate(held)]
    if pa.types.is_struct(kind) and "bytes" in {field.name for field in kind}:
        names = [field.name for field in kind]
        inside = _there(file, group, f"{name}.bytes")
        paths = [None] * count
        if "path" in names and not all(inside):
            read = file.read_row_group(group, columns=[f"{name}.path"]).column(0)
            paths = [(cell or {}).get("path") for cell in _texts(read)]
        return [
            Held(name, first + row) if inside[row] else {"path": paths[row]} for row in range(count)
        ]
    return _texts(file.read_row_group(group, columns=[name]).column(0))


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary,
             pa.types.is_binary_view)  # fmt: skip
    return any(test(kind) for test in tests)


def _there(file: Any, group: int, leaf: str) -> list[bool]:
    """Whether each row has bytes; they are read only where a row group's statistics do not say."""
    part = file.metadata.row_group(group)
    for number in range(part.num_columns):
        column = part.column(number)
        if column.path_in_schema == leaf and column.statistics is not None:
            nulls = column.statistics.null_count
            if nulls == 0 or nulls == part.num_rows:
                return [nulls == 0] * part.num_rows
    found: list[bool] = []
    for batch in file.iter_batches(batch_size=64, row_groups=[group], columns=[leaf]):
        column = batch.column(0)
        if "." in leaf:
            # `flatten` takes the struct's own nulls into account, `field` copies nothing.
            column = column.field(0) if not column.null_count else column.flatten()[0]
        found += column.is_valid().to_pylist()
    return found


def _texts(column: Any) -> list[Any]:
    """Plain values; a text that is no UTF-8 is a lone surrogate, which no prompt may hold."""
    import pyarrow as pa

    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        cells = column.cast(pa.large_binary()).to_pylist()
        return [None if c is None else c.decode(errors="surrogateescape") for c in cells]


class HeldBytes:
    """Bytes of some columns of a parquet file, by row, from a copy that is not held in memory.

    Args:
        path: the parquet file.
        columns: those that hold bytes, or structs with a part `bytes`.
        copy: file of the copy, made where it is missing; its name tells the content.
    """

    def __init__(self, path: Path, columns: Collection[str], copy: Path) -> None:
        import pyarrow as pa

        # Parquet gives no single row without decoding a row group; the copy is memory-mapped.
        if not copy.exists():
            _copied(path, sorted(columns), copy)
        self._batches = pa.ipc.open_file(pa.memory_map(str(copy)))
        self._ends: list[int] = []
        for number in range(self._batches.num_record_batches):
            before = self._ends[-1] if self._ends else 0
            self._ends.append(before + self._batches.get_batch(number).num_rows)

    def content(self, held: Held) -> bytes:
        """The bytes.

        Raises:
            ValueError: that part of the file cannot be read.
        """
        number = bisect.bisect_right(self._ends, held.row)
        first = self._ends[number - 1] if number else 0
        found = self._batches.get_batch(number).column(held.column)[held.row - first].as_py()
        if not isinstance(found, bytes):
            raise ValueError("unreadable file")
        return found


def _copied(path: Path, columns: list[str], copy: Path) -> None:
    import pyarrow as pa

    file = _parquet(path)
    schema = pa.schema([(name, pa.large_binary()) for name in columns])
    copy.parent.mkdir(parents=True, exist_ok=True)
    temporary = copy.with_name(f".{copy.name}.{os.getpid()}")
    with pa.ipc.new_file(temporary, schema) as writer:
        for group in range(file.num_row_groups):
            rows, done = file.metadata.row_group(group).num_rows, 0
            try:
                for batch in file.iter_batches(64, row_groups=[group], columns=columns):
                    writer.write_batch(_plain_bytes(batch, schema))
                    done += batch.num_rows
            except _BROKEN:  # told as unreadable when a row is asked for
                none = [pa.nulls(rows - done, pa.large_binary()) for _ in columns]
                writer.write_batch(pa.RecordBatch.from_arrays(none, schema=schema))
    temporary.replace(copy)


def _plain_bytes(batch: Any, schema: Any) -> Any:
    import pyarrow as pa

    found = []
    for name in schema.names:
        column = batch.column(name)
        if pa.types.is_struct(column.type):
            place = [field.name for field in column.type].index("bytes")
            column = column.flatten()[place]
        found.append(column.cast(pa.large_binary()))
    return pa.RecordBatch.from_arrays(found, schema=schema)
