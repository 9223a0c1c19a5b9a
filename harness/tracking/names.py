"""Names of metrics and facts as MLflow takes them: reversible, and two names never become one.

MLflow refuses most punctuation, and what a path would read otherwise (`a//b`, `/a`, `a/..`). Such a
character is written as its code between colons, `train/loss//ema` as `train/loss/:2f:ema`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

LONGEST = 230
"""MLflow takes 250 characters, what is put before the name included."""
MOST_NAMES = 2000
"""Metric names of one run: each costs MLflow a row, a chart and, when continued, a question."""
_TAKEN = re.compile(r"[\w.\- :/]")
_HASHED = re.compile(r":-[0-9a-f]{16}:\Z")
_WRITTEN = re.compile(r":(?:[0-9a-f]+|-[0-9a-f]{16}|empty|more):")
"""What stands for something else. A name that has it of its own gets its colons written so, too."""


def for_mlflow(name: str) -> str:
    """The name as MLflow takes it: itself, mostly. A name that is too long ends with its hash."""
    if not name:
        return ":empty:"
    colons = _WRITTEN.search(name) is not None
    odd = [i for i in range(len(name)) if _is_odd(name, i)]
    if not (odd or colons) and len(name) <= LONGEST:
        return name
    refused = set(odd) | {i for i, letter in enumerate(name) if letter == ":"}
    text = "".join(f":{ord(c):x}:" if i in refused else c for i, c in enumerate(name))
    if len(text) > LONGEST:
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:16]
        return f"{text[: LONGEST - 20].rstrip('/')}:-{digest}:"
    return text


def original(name: str) -> str | None:
    """The name that was given; None for one that was too long to be kept whole."""
    if name == ":empty:":
        return ""
    if _HASHED.search(name):
        return None
    return _WRITTEN.sub(lambda found: chr(int(found[0][1:-1], 16)), name)


class Remark(str):
    """What is told of a tracker at the end though nothing is missing because of it."""


def renamed(names: Mapping[str, str], shown: int = 3) -> str:
    """One line on names that MLflow shows differently; empty if there are none."""
    if not names:
        return ""
    pairs = "; ".join(f"{own!a} is {there!a}" for own, there in list(names.items())[:shown])
    more = f"; and {len(names) - shown} more" if len(names) > shown else ""
    return f"MLflow takes other names for some metrics: {pairs}{more}"


def _is_odd(name: str, at: int) -> bool:
    """Whether MLflow refuses a character where it stands."""
    letter = name[at]
    if letter == "/":
        return at in (0, len(name) - 1) or name[at - 1] == "/"
    if letter == "." and (at == 0 or name[at - 1] == "/"):
        segment = name[at:].partition("/")[0]
        return segment in (".", "..") or (at == 0 and name.startswith(".."))
    return _TAKEN.fullmatch(letter) is None
