"""One thing that `doctor` looked at, and the separate process in which heavy packages are tried."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

from pydantic import Field

from harness.frozen_model import FrozenModel
from harness.import_path import real

NOISE = ("(Background on this error", "[SQL:")
"""What SQLAlchemy adds below the line that says what is wrong."""
State = Literal["ok", "warn", "fail"]


class Finding(FrozenModel):
    """What was looked at, how it stands, and what to do."""

    check: str = Field(description="What was looked at.")
    state: State = Field(description="ok; warn: works, with a catch; fail: a run will not work.")
    found: str = Field(description="What is there.")
    fix: str = Field("", description="What to do about it; empty where all is well.")


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check=check, state="ok", found=found)


def warn(check: str, found: str, fix: str) -> Finding:
    """Works, with a catch."""
    return Finding(check=check, state="warn", found=found, fix=fix)


def fail(check: str, found: str, fix: str) -> Finding:
    """A run will not work."""
    return Finding(check=check, state="fail", found=found, fix=fix)


class ProbeError(Exception):
    """A probe failed, or took too long; its text says which."""


def probe(code: str, *arguments: str, seconds: float) -> str:
    """Run Python code in a process of its own that imports what this one would; its last line.

    Raises:
        ProbeError: with the last line of its errors, or that it took more than `seconds`.
    """
    path = [entry or real(entry) for entry in sys.path]
    head = f"import sys; sys.path += [p for p in {path!r} if p not in sys.path]"
    # A process of its own, with a time limit: a torch or a driver that hangs, or crashes the
    # interpreter, must not take the diagnosis along.
    # `-P`: the folder it is started in would come first on its path, ahead of what is to be tried.
    command = [sys.executable, "-P", "-c", f"{head}\n{code}", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=False, errors="replace"
        )
    except subprocess.TimeoutExpired as error:
        raise ProbeError(f"no answer in {seconds:g} s") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith(NOISE)]
        raise ProbeError((lines or [f"ended with code {done.returncode}"])[-1][-500:])
    return (done.stdout.strip().splitlines() or [""])[-1]
