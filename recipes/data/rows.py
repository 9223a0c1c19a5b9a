"""Rows of a file source: texts and pictures as they are listed, checked before training.

Every row that cannot be trained on is counted under a reason; none is skipped in silence.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recipes.data.files import PICTURES, files_digest, listed
from recipes.data.rules import Rules
from recipes.data.settings import FileSource
from recipes.data.tables import HeldBytes
from recipes.kept import Stamps, write_whole
from recipes.source_files import code_below

if TYPE_CHECKING:
    from PIL.Image import Image

RULED_BY = ("recipes.data.rows", "recipes.data.toyworld")
"""Whose code decides which rows are good."""
SHOWN = 5
"""Row numbers told per reason."""


@dataclass(frozen=True)
class RowReport:
    """What was found in a source: how many rows, and which are bad for which reason."""

    source: str
    rows: int
    bad: dict[str, list[int]]
    """Reason to row numbers, from 0."""
    where: str = ""
    """File and line of the first of them."""

    @property
    def bad_rows(self) -> int:
        """Rows that are not trained on."""
        return sum(map(len, self.bad.values()))

    @property
    def good(self) -> list[int]:
        """Rows that are trained on, in the file's order."""
        left_out = {row for rows in self.bad.values() for row in rows}
        return [row for row in range(self.rows) if row not in left_out]

    def text(self) -> str:
        """One line: counts by reason, with the first row numbers."""
        told = []
        for reason, rows in self.bad.items():
            more = ", ..." if len(rows) > SHOWN else ""
            numbers = ", ".join(map(str, rows[:SHOWN]))
            told.append(f"{len(rows)} {reason} (row {numbers}{more})")
        parts = f": {'; '.join(told)}" if told else ""
        return f"{self.bad_rows} of {self.rows} rows left out{parts}"

    @property
    def _first(self) -> str:
        return f"; the first is {self.where}" if self.where else ""

    def refuse_above(self, share: float) -> None:
        """Refuse a source with too many bad rows, or none that is good.

        Raises:
            ValueError: with all counts.
        """
        if self.bad_rows == self.rows:
            raise ValueError(
                f"data source {self.source!r} has no usable row; {self.text()}{self._first}"
            )
        if self.bad_rows > share * self.rows:
            raise ValueError(
                f"data source {self.source!r}: {self.text()}{self._first}. That is "
                f"{self.bad_rows / self.rows:.1%}, above data.max_bad_share={share:g}; mend the "
                "rows, or raise the limit"
            )


class Rows:
    """Texts and pictures of one file source, by row number."""

    def __init__(self, name: str, settings: FileSource, cache: Path) -> None:
        self.name = name
        self.settings = settings
        self.listing = listed(settings)
        self.columns = self.listing.columns
        self.texts: list[Any] = [row.text for row in self.listing.rows]
        self._cache = cache
        self._bytes: dict[int, HeldBytes] = {}

    def picture(self, row: int, role: str) -> Image:
        """A picture, decoded and upright.

        Raises:
            ValueError: there is none, or it cannot be read; a few words, without its place.
        """
        from recipes.data.pictures import opened

        found = self.listing.rows[row].pictures[role]
        if found.fault:
            raise ValueError(found.fault)
        if found.held is not None:
            return opened(self._held(self.listing.rows[row].table).content(found.held))
        assert found.file is not None
        return opened(found.file)

    def pixels(self, row: int, role: str, side: int | None = None) -> np.ndarray:
        """A checked RGB picture, uint8 (3, side, side); the middle square where sizes differ."""
        image = self.picture(row, role)
        if side is not None and image.size != (side, side):
            from PIL import ImageOps

            image = ImageOps.fit(image, (side, side))
        return np.array(image).transpose(2, 0, 1)

    def checked(self, rules: Rules, cache: Path) -> RowReport:
        """Look at every row once; the result is kept by content of the files and of the code."""
        settings = self.settings.model_dump()
        files = files_digest(settings, look=True)
        content = json.dumps([files, settings, code_below(*RULED_BY).digest])
        name = hashlib.sha256(content.encode()).hexdigest()[:24]
        kept = cache / "rows" / f"{name}.json"
        try:
            return self._report(json.loads(kept.read_text()))
        except (OSError, ValueError):
            pass  # not looked at yet
        bad: dict[str, list[int]] = {}
        for row in range(len(self.texts)):
            reason = self._fault(row, rules)
            if reason is not None:
                bad.setdefault(reason, []).append(row)
        write_whole(kept, bad)
        return self._report(bad)

    def _report(self, bad: dict[str, list[int]]) -> RowReport:
        first = min((rows[0] for rows in bad.values()), default=None)
        where = "" if first is None else self.listing.place(first)
        return RowReport(self.name, len(self.texts), bad, where)

    def _held(self, table: int) -> HeldBytes:
        """Bytes of a table, copied once for all trials to where single rows can be read."""
        if table not in self._bytes:
            path = self.listing.tables[table].path
            columns = {
                picture.held.column
                for row in self.listing.rows
                if row.table == table
                for picture in row.pictures.values()
                if picture.held is not None
            }
            named = json.dumps([str(path.resolve()), sorted(columns), Stamps([path]).text])
            copy = (
                self._cache / "bytes" / f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.arrow"
            )
            self._bytes[table] = HeldBytes(path, columns, copy)
        return self._bytes[table]

    def _fault(self, row: int, rules: Rules) -> str | None:
        listed_as = self.listing.rows[row].fault
        return (
            listed_as
            or text_fault(self.texts[row])
            or self._picture_faults(row, rules)
            or (rules.complaint(self.settings.task, self.texts[row]))
        )

    def _picture_faults(self, row: int, rules: Rules) -> str | None:
        found = (self._picture_fault(row, r, rules) for r in PICTURES if r in self.columns)
        return next(filter(None, found), None)

    def _picture_fault(self, row: int, role: str, rules: Rules) -> str | None:
        from recipes.data.pictures import mode_of

        try:
            image = self.picture(row, role)
        except ValueError as error:
            return f"{error} ({role})"
        mode = mode_of(image)
        if role != "mask" and mode != "RGB":  # a mask may be drawn in any mode
            return f"wrong mode ({role} is {mode}, must be RGB)"
        side = rules.side
        if image.size != (side, side) and not rules.fits:
            return f"wrong size ({role} is not {side}x{side})"
        return None


def text_fault(text: Any) -> str | None:
    """Why a text is no prompt, whatever the family; None where it is one."""
    if text is None or (isinstance(text, str) and not text.strip()):
        return "empty prompt"
    if not isinstance(text, str):
        return "prompt is no text"
    if "\0" in text:
        return "prompt with a NUL letter"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "prompt with half of a surrogate pair"
    return None
