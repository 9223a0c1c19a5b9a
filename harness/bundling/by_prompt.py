"""Values by prompt in a bundle, read without trusting them: standard library only."""

from __future__ import annotations

import csv
import io
import json
import math
import zlib
from typing import Any

from harness.bundling.archive import MOST_TEXT_BYTES, Archive, Bad, parsed
from harness.printable import csv_cell

BY_PROMPT = "results/prompts.csv.gz"
BY_PROMPT_HEAD = [
    "key", "nonce", "step", "metric", "stratum", "weight", "n_prompts", "pseudo", "mean", "values",
]  # fmt: skip
Place = tuple[str, str, int, str]
"""Key, nonce, step and metric of a measurement."""
Stratum = tuple[float, bool, float, dict[str, float]]
"""Weight, whether these are pseudo-values, mean, and value by prompt."""


def by_prompt(bundle: Archive) -> dict[Place, dict[str, Stratum]]:
    """Values of each measurement, by stratum and prompt; nothing where the bundle has none.

    Raises:
        Bad: they are no table, a mean is not that of its values, or weights do not add up to 1.
    """
    found: dict[Place, dict[str, Stratum]] = {}
    if BY_PROMPT not in bundle.members:
        return found
    before = csv.field_size_limit(2**25)
    number = 0
    try:
        rows = csv.reader(io.StringIO(_text_by_prompt(bundle), newline=""), strict=True)
        if next(rows, []) != BY_PROMPT_HEAD:
            raise Bad("its columns are others", BY_PROMPT, 1)
        for number, row in enumerate(rows, 2):
            of = dict(zip(BY_PROMPT_HEAD, row))  # noqa: B905 - Python 3.9
            place = (of["key"], of["nonce"], int(of["step"]), of["metric"])
            stratum = json.loads(of["stratum"])
            strata = found.setdefault(place, {})
            if stratum in strata:
                raise Bad("a stratum is there twice", BY_PROMPT, number)
            strata[stratum] = _stratum(of, number)
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error, ArithmeticError) as error:
        raise Bad(f"it is no table of values ({error})"[:200], BY_PROMPT, number) from error
    finally:
        csv.field_size_limit(before)
    for place, strata in found.items():
        if not math.isclose(math.fsum(s[0] for s in strata.values()), 1.0, rel_tol=1e-9):
            raise Bad(f"weights of {place[3]} do not add up to 1", BY_PROMPT)
    return found


def check_by_prompt(bundle: Archive, trials: dict[str, Any]) -> int:
    """How many measured numbers have values by prompt; each belongs to one of the journal.

    Raises:
        Bad: values are of no recorded measurement, or a mean of items is not the recorded number.
    """
    found = by_prompt(bundle)
    recorded: dict[Place, Any] = {}
    for key, trial in trials.items():
        for (_, nonce), closed in trial.closed.items():
            for measured in closed.get("measurements", ()):
                for metric, value in measured["metrics"].items():
                    recorded[key, nonce, measured["step"], str(csv_cell(metric))] = value
    for place, strata in found.items():
        value = recorded.get(place)
        if value is None:
            raise Bad(f"{place[3]} of trial {place[0]}: it was not measured", BY_PROMPT)
        mean = math.fsum(weight * middle for weight, _, middle, _ in strata.values())
        largest = max(abs(v) for s in strata.values() for v in s[3].values())
        pseudo = any(s[1] for s in strata.values())
        if not pseudo and abs(mean - value) > 1e-9 * abs(mean) + 1e-11 * largest:
            raise Bad(f"{place[3]} of trial {place[0]}: its mean is not the number", BY_PROMPT)
    return len(found)


def _text_by_prompt(bundle: Archive) -> str:
    unpacking = zlib.decompressobj(31)
    try:
        text = unpacking.decompress(bundle.read(BY_PROMPT), MOST_TEXT_BYTES)
    except zlib.error as error:
        raise Bad("it cannot be unpacked", BY_PROMPT) from error
    if not unpacking.eof or unpacking.unused_data:
        raise Bad("it is cut off, too large, or something follows it", BY_PROMPT)
    return text.decode()


def _stratum(of: dict[str, str], number: int) -> Stratum:
    content = parsed(of["values"].encode(), BY_PROMPT, number)
    values = {name: _finite(v[0] if isinstance(v, list) else v) for name, v in content.items()}
    weight, mean = _finite(float(of["weight"])), _finite(float(of["mean"]))
    middle = math.fsum(values.values()) / len(values)
    if weight <= 0 or abs(mean - middle) > 1e-8 * max(map(abs, values.values())):
        raise Bad(
            "its mean is not that of its values, or its weight not above 0", BY_PROMPT, number
        )
    return weight, {"yes": True, "no": False}[of["pseudo"]], mean, values


def _finite(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{str(value)[:20]} is no finite number")
    return float(value)
