"""Values by item or by prompt that a subject wrote: CSV of a stranger, read within bounds.

A table of kind `items` has a row an item, one of kind `prompts` a row a prompt; their columns are
described in `harness/contract.py`. What is not as it must be raises `TableError`, which says where.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import sys
from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.text.printable import printable

Kind = Literal["items", "prompts"]
KINDS: tuple[Kind, ...] = ("items", "prompts")
NOT_USED: Mapping[Kind, str] = {"items": "items not used", "prompts": "prompts not used"}
"""Facts of an attempt's record: why a table of that kind counts for nothing."""
MOST_BYTES = 2**26
MOST_ROWS = 200_000
MOST_COLUMNS = 1_000
LONGEST_NAME = 160
"""Characters of a prompt or a stratum; of longer ones the beginning and a digest are kept."""
ITEM = ("item", "item_id")
ALL = "all"
"""Stratum of a table without strata."""


class TableError(ValueError):
    """A table that cannot be used; the message says which line and what is allowed."""


@dataclass(frozen=True)
class ItemTable:
    """Columns of a table, all of one length.

    Attributes:
        kind: `items`, or `prompts` for pseudo-values.
        prompts: prompt of each row.
        strata: stratum of each row.
        weights: weight of each row inside its prompt and stratum, above 0.
        sizes: prompts that each row stands for; above 1 for a group of prompts.
        stratum_weights: weight of each stratum, above 0, any scale.
        values: metric -> value of each row, NaN where it does not apply.
    """

    kind: Kind
    prompts: list[str]
    strata: list[str]
    weights: array[float]
    sizes: array[int]
    stratum_weights: dict[str, float]
    values: dict[str, array[float]]


def read_table(file: Path, kind: Kind, metrics: Collection[str]) -> ItemTable | None:
    """Read a table's columns of some metrics.

    Args:
        file: CSV, or a parquet file with a CSV of the same name beside it.
        kind: of the artifact.
        metrics: names; columns of other names are passed over.

    Returns:
        the table; None where no column is one of these metrics: then it is for other readers.

    Raises:
        TableError: it is not there, too large, not UTF-8, or something in it is not as it must be.
    """
    rows = _rows(_text(file))
    head = [name.strip() for name in next(rows, (1, []))[1]]
    chosen = {name: head.index(name) for name in dict.fromkeys(metrics) if name in head}
    if not chosen:
        return None
    return _RowReader(kind, head, chosen).read(rows)


def _text(file: Path) -> str:
    if file.suffix != ".csv":
        file = file.with_suffix(".csv")
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:  # a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise TableError(f"{_name(file.name)} cannot be read: {reason}") from None
    if len(content) > MOST_BYTES:
        raise TableError(f"it is larger than {MOST_BYTES // 2**20} MiB")
    try:
        # Spreadsheets write a byte order mark, which would become a part of the first column's
        # name.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"it is not UTF-8 (byte {error.start}): write it as UTF-8") from None


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    count = 0
    try:
        for row in reader:
            if not row:
                continue
            if (count := count + 1) > MOST_ROWS + 1:
                raise TableError(f"it has more than {MOST_ROWS:,} rows")
            yield reader.line_num, row
    except csv.Error as error:
        raise TableError(f"line {reader.line_num}: it is no CSV ({error})") from None


class _RowReader:
    def __init__(self, kind: Kind, head: list[str], chosen: Mapping[str, int]) -> None:
        self.kind, self.head, self.chosen = kind, head, chosen
        if len(head) > MOST_COLUMNS:
            raise TableError(f"it has more than {MOST_COLUMNS:,} columns")
        twice = [name for name in dict.fromkeys(head) if name and head.count(name) > 1]
        if twice:
            raise TableError(f"the column {_name(twice[0])!r} is there twice")
        self.item = next((head.index(name) for name in ITEM if name in head), None)
        self.prompt, self.stratum = self._place("prompt"), self._place("stratum")
        self.weight, self.whole = self._place("weight"), self._place("stratum_weight")
        self.size = self._place("n_prompts")
        if kind == "items" and self.item is None:
            raise TableError("it lacks the column `item` (or `item_id`)")
        if kind == "prompts" and self.prompt is None:
            raise TableError("it lacks the column `prompt`")

    def _place(self, name: str) -> int | None:
        return self.head.index(name) if name in self.head else None

    def read(self, rows: Iterator[tuple[int, list[str]]]) -> ItemTable:
        values = {name: array("d") for name in self.chosen}
        table = ItemTable(self.kind, [], [], array("d"), array("q"), {}, values)
        seen: set[tuple[str, str]] = set()
        for line, row in rows:
            if len(row) != len(self.head):
                raise TableError(
                    f"line {line} has {len(row)} cells, the first has {len(self.head)}"
                )
            weight = self._weight(row, self.weight, "weight", line)
            if weight == 0:
                continue
            stratum = _named(row, self.stratum) or ALL
            prompt = _named(row, self.prompt)
            if self.kind == "items":
                item = row[self.item or 0].strip()
                if not item:
                    raise TableError(f"line {line}: its item has no name")
                prompt = prompt or _short(item)
                twice = (item, "")
            else:
                twice = (prompt, stratum)
            if not prompt:
                raise TableError(f"line {line}: its prompt has no name")
            if twice in seen:
                raise TableError(
                    f"line {line}: {self.kind[:-1]} {_name(twice[0])!r} is there twice"
                )
            seen.add(twice)
            share = self._weight(row, self.whole, "stratum_weight", line)
            if share == 0:
                continue
            if table.stratum_weights.setdefault(stratum, share) != share:
                raise TableError(
                    f"line {line}: stratum {_name(stratum)!r} has two weights, "
                    f"{table.stratum_weights[stratum]:g} and {share:g}"
                )
            table.prompts.append(prompt)
            table.strata.append(stratum)
            table.weights.append(weight)
            table.sizes.append(self._count(row, line))
            for name, place in self.chosen.items():
                table.values[name].append(_number(row[place], name, line))
        return table

    def _weight(self, row: list[str], place: int | None, name: str, line: int) -> float:
        value = math.nan if place is None else _number(row[place], name, line)
        if math.isnan(value):
            return 1.0
        if value < 0:
            raise TableError(f"line {line}, {name}: {value:g} is below 0")
        return value

    def _count(self, row: list[str], line: int) -> int:
        value = math.nan if self.size is None else _number(row[self.size], "n_prompts", line)
        if math.isnan(value):
            return 1
        if not 1 <= value <= 1e9 or value != int(value):
            raise TableError(f"line {line}, n_prompts: {value:g} is no whole number from 1 on")
        return int(value)


def _number(text: str, name: str, line: int) -> float:
    """A number; NaN for an empty cell."""
    if not text or text.isspace():
        return math.nan
    try:
        # Python reads 1_000 as a number; nobody else does.
        if "_" in text:
            raise ValueError(text)
        value = float(text)
    except ValueError:
        raise TableError(
            f"line {line}, {_name(name)}: {_name(text)!r} is no number; what does not apply is "
            "left empty, or NaN"
        ) from None
    if math.isinf(value):
        raise TableError(f"line {line}, {_name(name)}: {text.strip()[:20]} is not finite")
    return value


def _named(row: list[str], place: int | None) -> str:
    return "" if place is None else _short(row[place].strip())


def _short(text: str) -> str:
    """A name that can be printed; the same text gives the same object."""
    name = text if text.isascii() and text.isprintable() else printable(text)
    if len(name) > LONGEST_NAME:
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
        name = f"{name[: LONGEST_NAME - 13]}~{digest}"
    return sys.intern(name)


def _name(text: str) -> str:
    return printable(text)[:60]
