"""Claims: one live driver per study run and per trial; a file lock that dies with the driver."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import ClaimedError
from harness.journal import environment
from harness.journal.command_line import typed
from harness.journal.workspace import Workspace

TRIAL_LOCK = "claim.lock"
STUDY_LOCK = "run.lock"


class Holder(BaseModel):
    """Who holds a claim."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str = Field(description="Host name.")
    pid: int = Field(description="Process id of the driver.")
    since: float = Field(description="Unix time, seconds.")
    what: str = Field("", description="Study that the driver runs.")

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"host {self.host}, pid {self.pid}, since {since}"


class Claim:
    """A held claim. Released by `release`, at the end of `with`, or when the process dies."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        self.path = path
        self._lock = lock

    def release(self) -> None:
        """Let go; harmless when already released."""
        if self._lock.is_locked:
            # First this file, then the lock: afterwards it may be the next holder's.
            _holder_file(self.path).unlink(missing_ok=True)
            self._lock.release()

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def try_claim(path: Path, what: str = "") -> Claim | None:
    """Claim the lock file at `path`, or None where a live process holds it. Makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    try:
        # a reader that probes (`is_claimed`) holds the lock for microseconds: try for a moment
        lock.acquire(timeout=0.2, poll_interval=0.02)
    except Timeout:
        return None
    holder = Holder(host=environment.host(), pid=os.getpid(), since=time.time(), what=what)
    try:
        _holder_file(path).write_text(holder.model_dump_json())
    except OSError:  # a full disk
        lock.release()
        raise
    return Claim(path, lock)


def claimed_error(path: Path, study: str, workspace: Workspace | None = None) -> ClaimedError:
    """The error for a study that another driver runs."""
    follow = typed("status", study, workspace=workspace)
    who = holder(path)
    return ClaimedError(
        f"study {study!r} is being run by another process ({who or 'holder unknown'}). "
        f"Nothing was changed. Wait for it, follow it with `{follow}`, or stop it first."
    )


def study_lock(workspace: Workspace, study: str) -> Path:
    """Lock file of a study's run."""
    return workspace.study(study) / STUDY_LOCK


def trial_lock(workspace: Workspace, key: str) -> Path:
    """Lock file of a trial."""
    return workspace.trial(key) / TRIAL_LOCK


def is_claimed(path: Path) -> bool:
    """True if a live process holds the claim at `path` (a lock file, or a trial's folder).

    Never writes; a file that does not exist is not claimed.
    """
    file = path / TRIAL_LOCK if path.is_dir() else path
    try:
        import fcntl
    except ImportError:  # no flock on this platform: the holder file is all there is
        return _holder_file(file).exists()
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)  # also releases the probe's shared lock
    return False


def holder(path: Path) -> Holder | None:
    """Who holds the claim at `path`, or None if nobody does or it cannot be read."""
    file = path / TRIAL_LOCK if path.is_dir() else path
    if not is_claimed(file):
        return None
    with contextlib.suppress(OSError, json.JSONDecodeError, ValidationError):
        return Holder.model_validate(json.loads(_holder_file(file).read_text()))
    return None


# Not in the lock file itself, which earlier versions of filelock truncate at every try (issue 591).
def _holder_file(lock: Path) -> Path:
    return lock.with_suffix(".json")
