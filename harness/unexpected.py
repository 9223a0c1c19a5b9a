"""An error that nobody foresaw: one line for the terminal, and a file with what a mender needs."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import tempfile
import time
import traceback
from pathlib import Path

from harness.journal.environment import versions
from harness.text.secrets import without_credentials
from harness.text.spelling import last_words, said_by

MOST_SHOWN = 300


def report_unexpected(error: Exception) -> str:
    """One line that names the error and the file its details were written to."""
    said = f"unexpected: {type(error).__name__}: {said_by(error)}"
    said = without_credentials(last_words(said, MOST_SHOWN))
    file = _written(error)
    if not file:
        return f"{said} (no folder for temporary files can be written, so its details are lost)"
    return f"{said} (details in {file}; nothing that was recorded is lost)"


def _written(error: Exception) -> str:
    """Path of the file; empty if there is no place for one."""
    began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    lines = [
        f"{began}  {' '.join(map(repr, sys.argv))}",
        f"in {_here()}  Python {platform.python_version()}  {platform.platform()}",
        ", ".join(f"{name} {version}" for name, version in versions().items()),
        "",
        *_trace(error),
    ]
    text = without_credentials("\n".join(lines))
    with contextlib.suppress(OSError):
        number, name = tempfile.mkstemp(prefix="stillhouse-error-", suffix=".txt")
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
        return name
    return ""


def _here() -> str:
    try:
        return str(Path.cwd())
    except OSError:
        return "a folder that is gone"


def _trace(error: Exception) -> list[str]:
    try:
        return traceback.format_exception(error)
    except Exception:  # it prints the exception's own text
        return traceback.format_tb(error.__traceback__)
