"""Rows of a file source: read through Hugging Face `datasets`, checked before training.

Every row that cannot be trained on is counted under a reason; none is skipped in silence.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recipes.data.files import (
    FORMATS,
    PICTURES,
    columns_found,
    files_digest,
    place,
)
from recipes.data.rules import Rules
from recipes.data.settings import FileSource
from recipes.kept import write_whole
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

    def refuse_above(self, share: float) -> None:
        """Refuse a source with too many bad rows, or none that is good.

        Raises:
            ValueError: with all counts.
        """
        if self.bad_rows == self.rows:
            raise ValueError(f"data source {self.source!r} has no usable row; {self.text()}")
        if self.bad_rows > share * self.rows:
            raise ValueError(
                f"data source {self.source!r}: {self.text()}. That is "
                f"{self.bad_rows / self.rows:.1%}, above data.max_bad_share={share:g}; mend the "
                "rows, or raise the limit"
            )


class Rows:
    """Texts and pictures of one file source, by row number."""

    def __init__(self, name: str, settings: FileSource, cache: Path) -> None:
        self.name = name
        self.settings = settings
        self.path = place(settings)
        self.data = _loaded(name, self.path, cache)
        self.columns = columns_found(settings.columns, settings.task, self.data.column_names)
        self.texts: list[Any] = list(self.data[self.columns["prompt"]])

    def picture(self, row: int, role: str) -> Image:
        """A picture, decoded.

        Raises:
            FileNotFoundError: there is none.
            OSError, SyntaxError, ValueError: what is there cannot be read (Pillow's errors).
        """
        from PIL import Image

        held = self.data[row][self.columns[role]]
        content, where = held, held
        if isinstance(held, dict):
            content, where = held.get("bytes"), held.get("path")
        if isinstance(content, bytes):
            image = Image.open(io.BytesIO(content))
        elif isinstance(where, str) and where:
            image = Image.open(self._home / where)
        else:
            raise FileNotFoundError(f"row {row} of {self.name} has no {role} image")
        image.load()
        return image

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
        content = json.dumps([files_digest(settings), settings, code_below(*RULED_BY).digest])
        name = hashlib.sha256(content.encode()).hexdigest()[:24]
        kept = cache / "rows" / f"{name}.json"
        try:
            return RowReport(self.name, len(self.texts), json.loads(kept.read_text()))
        except (OSError, ValueError):
            pass  # not looked at yet
        bad: dict[str, list[int]] = {}
        for row in range(len(self.texts)):
            reason = self._fault(row, rules)
            if reason is not None:
                bad.setdefault(reason, []).append(row)
        write_whole(kept, bad)
        return RowReport(self.name, len(self.texts), bad)

    @property
    def _home(self) -> Path:
        return self.path if self.path.is_dir() else self.path.parent

    def _fault(self, row: int, rules: Rules) -> str | None:
        text = self.texts[row]
        if not isinstance(text, str) or not text.strip():
            return "empty prompt"
        for role in PICTURES:
            if role in self.columns:
                fault = self._picture_fault(row, role, rules)
                if fault is not None:
                    return fault
        return rules.complaint(self.settings.task, text)

    def _picture_fault(self, row: int, role: str, rules: Rules) -> str | None:
        from PIL import Image

        try:
            image = self.picture(row, role)
        except FileNotFoundError:
            return f"missing image ({role})"
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return f"unreadable file ({role})"
        if role != "mask" and image.mode != "RGB":  # a mask may be drawn in any mode
            return f"wrong mode ({role} is {image.mode}, must be RGB)"
        side = rules.side
        if image.size != (side, side) and not rules.fits:
            return f"wrong size ({role} is not {side}x{side})"
        return None


def _loaded(name: str, path: Path, cache: Path) -> Any:
    """A `datasets.Dataset` of all rows, pictures not decoded, with nothing asked of any hub."""
    for switch in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(switch, "1")
    import datasets

    datasets.disable_progress_bars()
    try:
        if path.is_dir():
            where = {"path": "imagefolder", "data_dir": str(path), "drop_labels": True}
        else:
            where = {"path": FORMATS[path.suffix.lower()], "data_files": str(path)}
        data = datasets.load_dataset(**where, split="train", cache_dir=str(cache / "datasets"))
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        cause = error.__cause__ or error
        raise ValueError(f"data source {name!r}: {path} cannot be read: {cause}") from None
    for column, feature in data.features.items():
        if isinstance(feature, datasets.Image):
            data = data.cast_column(column, datasets.Image(decode=False))
    return data
