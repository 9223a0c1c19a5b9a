"""The workspace's storage: writable, roomy, with locks that exclude and a clock like ours."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from harness.doctor.finding import Finding, ProbeError, fail, ok, probe, warn
from harness.errors import WorkspaceError
from harness.journal.workspace import Workspace
from harness.tracking.address import NETWORK_FILESYSTEMS, file_system

ROOMY_BYTES = 5 * 2**30
SKEW_SECONDS = 2.0
LOCK_SECONDS = 30.0
# By flock, as `FileLock` takes it on Unix; not waiting for it.
ASK_LOCK = """
import fcntl, os, sys
try:
    fcntl.flock(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("taken")
except BlockingIOError:
    print("refused")
"""
AskLock = Callable[[Path], str]
"""Another process tries the lock: `taken`, or `refused`."""


def writable(workspace: Workspace) -> Finding:
    """Whether the workspace can be made and written, with the least room that a run asks for."""
    try:
        workspace.ensure_usable()
    except WorkspaceError as error:
        first, _, rest = str(error).partition(". ")
        return fail("workspace", first, rest)
    return ok("workspace", str(workspace.root))


def disk(folder: Path) -> Finding:
    """Room in a folder that exists."""
    free = shutil.disk_usage(folder).free
    text = f"{free / 2**30:.1f} GiB free"
    if free < ROOMY_BYTES:
        return warn("disk", text, "students and checkpoints are kept there: free some space")
    return ok("disk", text)


def filesystem(folder: Path, sqlite: bool) -> Finding:
    """Kind of file system; SQLite on one that several machines share may be damaged.

    Args:
        folder: in the workspace.
        sqlite: whether MLflow's database would lie there.
    """
    kind = file_system(folder)
    if kind.startswith(NETWORK_FILESYSTEMS) and sqlite:
        return warn(
            "filesystem",
            f"{kind}: MLflow's SQLite file would lie on a network file system",
            "give an MLflow server with --mlflow, or run with --no-mlflow and use `sync` later",
        )
    return ok("filesystem", kind or "unknown")


def _ask(file: Path) -> str:
    return probe(ASK_LOCK, str(file), seconds=LOCK_SECONDS)


def locking(folder: Path, ask: AskLock = _ask) -> Finding:
    """Whether a lock on a file in the folder keeps another process out, and lets it in after."""
    file = folder / f".lock-{os.getpid()}-{secrets.token_hex(4)}"
    fix = (
        "trials are claimed by file locks: mount with locks that hold on every node (Lustre: flock;"
        " NFS: version 4, or lockd), or put the workspace elsewhere"
    )
    lock = FileLock(file)
    try:
        with lock.acquire(timeout=LOCK_SECONDS):
            held = ask(file)
        free = ask(file) if file.exists() else "taken"
    except (OSError, ProbeError) as error:
        return fail("locking", f"a file cannot be locked: {error}", fix)
    finally:
        file.unlink(missing_ok=True)
    if held != "refused":
        return fail("locking", "two processes got the same lock at once", fix)
    if free != "taken":
        return fail("locking", "a lock that was let go still holds", fix)
    return ok("locking", "a second process is kept out")


def clock(folder: Path) -> Finding:
    """This machine's clock against that of the file system, which other nodes share."""
    file = folder / f".clock-{os.getpid()}"
    try:
        before = time.time()
        file.write_text("")
        skew = file.stat().st_mtime - before
    except OSError as error:
        return fail("clock", f"cannot write {file}: {error.strerror or error}", "see workspace")
    finally:
        file.unlink(missing_ok=True)
    return skewed("clock", skew, "the workspace's file system")


def skewed(check: str, skew: float, whose: str) -> Finding:
    """A finding about seconds between this clock and another."""
    if abs(skew) > SKEW_SECONDS:
        ahead = "behind" if skew > 0 else "ahead of"
        return warn(
            check,
            f"this machine is {abs(skew):.0f} s {ahead} {whose}",
            "set the clock (chronyd, timedatectl): the journal's times tell which plan is latest",
        )
    return ok(check, f"within {SKEW_SECONDS:g} s of {whose}")
