"""Who runs a study, and of which commit: what MLflow shows as a run's source."""

from __future__ import annotations

import getpass
import subprocess
from pathlib import Path


def git_commit(folder: Path) -> str:
    """Commit that the project is at; empty without git."""
    try:
        command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def user_name() -> str:
    """Login name, `unknown` where there is none (some containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
