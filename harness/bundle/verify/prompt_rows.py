"""Values by prompt of a bundle, `results/prompts.csv.gz`: standard library only, Python 3.9+.

A row holds one measurement's metric in one stratum: the prompts' values with nine digits, and their
exact mean, by which they are moved. What `harness/journal/prompt_values.py` writes is read here
once more.
"""

from __future__ import annotations

import csv
import io
import math
import zlib
from collections.abc import Iterator
from typing import Any

from harness.bundle.verify.estimates import TrialPrompts
from harness.text.archive import MOST_RATIO, MOST_TEXT_BYTES, Archive, Bad, parsed

PROMPTS = "results/prompts.csv.gz"
LONGEST_CELL = 2**25
EQUAL = 1e-9
"""Relative difference up to which the mean of values is the recorded metric."""
LOST = 1e-12
"""The same relative to the largest value: what is lost where values cancel."""
DIGITS_LOST = 1e-8
"""What nine digits may move a mean by, relative to the largest value."""
HEAD = (
    *("key", "nonce", "step", "metric", "stratum"),
    *("weight", "n_prompts", "pseudo", "mean", "values"),
)
Place = tuple[str, str, str, str]
"""Key, nonce, step, and metric as a CSV cell."""


class PromptRows:
    """Rows by measurement and metric, none of them taken apart before it is asked for."""

    def __init__(self, bundle: Archive) -> None:
        self._rows: dict[Place, list[tuple[int, list[str]]]] = {}
        if PROMPTS not in bundle.members:
            return
        before = csv.field_size_limit(LONGEST_CELL)
        try:
            lines = csv.reader(io.StringIO(_unpacked_text(bundle), newline=""), strict=True)
            if tuple(next(lines, [])) != HEAD:
                raise Bad("its columns are others", PROMPTS, 1)
            for number, row in enumerate(lines, 2):
                if len(row) != len(HEAD):
                    raise Bad("a row has more or fewer cells than columns", PROMPTS, number)
                place = (row[0], row[1], row[2], row[3])
                self._rows.setdefault(place, []).append((number, row))
        except csv.Error as error:
            raise Bad(f"it is no table ({error})", PROMPTS) from error
        finally:
            csv.field_size_limit(before)

    def __iter__(self) -> Iterator[Place]:
        return iter(self._rows)

    def of(self, key: str, nonce: str, step: str, metric: str, value: Any) -> Any:
        """Values of one measurement's metric, as a CSV cell has it; None where there are none.

        Raises:
            Bad: if a row is malformed, or their mean is not the recorded value.
        """
        listed = self._rows.get((key, nonce, step, metric))
        if listed is None:
            return None
        strata: dict[str, float] = {}
        values: dict[str, dict[str, float]] = {}
        sizes: dict[str, dict[str, int]] = {}
        kinds = set()
        for number, row in listed:
            try:
                stratum, weight, pseudo, of, grouped = _row(row, number)
            except (ValueError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
                why = f"a row has another form than it must ({type(error).__name__})"
                raise Bad(why, PROMPTS, number) from error
            if stratum in strata:
                raise Bad("a stratum is there twice", PROMPTS, number)
            strata[stratum], values[stratum] = weight, of
            if grouped:
                sizes[stratum] = grouped
            kinds.add(pseudo)
        first = listed[0][0]
        if len(kinds) != 1 or abs(math.fsum(strata.values()) - 1) > EQUAL:
            raise Bad("weights of strata do not add up to 1, or kinds differ", PROMPTS, first)
        found = TrialPrompts(strata, values, kinds.pop(), sizes)
        if not found.pseudo:
            _is_mean(found, value, first)
        return found


def _unpacked_text(bundle: Archive) -> str:
    packed = bundle.read(PROMPTS)
    most = min(MOST_TEXT_BYTES, 2**20 + MOST_RATIO * len(packed))
    try:
        # 31: with gzip's header. Unpacked up to a limit, as a small file may hold any number of
        # zeros.
        reader = zlib.decompressobj(31)
        text = reader.decompress(packed, most)
        if not reader.eof or reader.unused_data:
            raise Bad("it is cut off, too large, or has bytes behind its end", PROMPTS)
        return text.decode("utf-8")
    except (zlib.error, UnicodeDecodeError) as error:
        raise Bad(f"it cannot be unpacked ({type(error).__name__})", PROMPTS) from error


def _row(row: list[str], number: int) -> tuple[str, float, bool, dict[str, float], dict[str, int]]:
    cells = dict(zip(HEAD, row))  # noqa: B905 - Python 3.9
    stratum = parsed(cells["stratum"].encode("utf-8"), PROMPTS, number)
    content = parsed(cells["values"].encode("utf-8"), PROMPTS, number)
    if not isinstance(stratum, str) or len(content) < 2:
        raise ValueError("a stratum has a name and two prompts at least")
    of = {name: _plain(v[0] if isinstance(v, list) else v) for name, v in content.items()}
    grouped = {name: _count(v) for name, v in content.items() if isinstance(v, list)}
    mean, weight = _plain(float(cells["mean"])), _plain(float(cells["weight"]))
    moved = mean - math.fsum(of.values()) / len(of)
    if weight <= 0 or abs(moved) > DIGITS_LOST * max(map(abs, of.values())):
        raise ValueError("a weight is not above 0, or a mean is not that of its values")
    if cells["n_prompts"] != str(sum(grouped.get(name, 1) for name in of)):
        raise ValueError("its number of prompts is another")
    pseudo = {"yes": True, "no": False}.get(cells["pseudo"])
    if pseudo is None:
        raise ValueError("pseudo is yes or no")
    return stratum, weight, pseudo, {name: v + moved for name, v in of.items()}, grouped


def _is_mean(found: TrialPrompts, value: Any, line: int) -> None:
    """Refuse values by prompt whose mean is not the number in the journal."""
    mean = math.fsum(
        w * math.fsum(found.values[k].values()) / len(found.values[k])
        for k, w in found.strata.items()
    )
    largest = max(abs(v) for of in found.values.values() for v in of.values())
    if value is None or not abs(mean - value) <= EQUAL * abs(value) + LOST * largest:
        raise Bad(f"the mean of values is {mean!r}, and {value!r} was measured", PROMPTS, line)


def _plain(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _count(value: list[Any]) -> int:
    number = value[1]
    if isinstance(number, bool) or not isinstance(number, int) or number < 1 or len(value) != 2:
        raise ValueError(number)
    return number
