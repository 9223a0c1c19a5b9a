"""A JSON object out of a file of others: cards, configs, indices. Bounded; imports no torch."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

MOST_BYTES = 4_000_000


def json_object(file: Path) -> dict[str, Any]:
    """The object that a file holds; never waits for a pipe, never reads without end.

    Raises:
        ValueError: it cannot be read, is too long or too deep, no JSON, or no object.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ValueError("not a regular file")
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"over {MOST_BYTES} bytes")
        found = json.loads(content.decode("utf-8-sig"), parse_constant=_no_number)
        json.dumps(found, ensure_ascii=False).encode()  # half a letter cannot be recorded
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise ValueError(f"{file} cannot be read: nested too deep") from error
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds no object")
    return found


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")
