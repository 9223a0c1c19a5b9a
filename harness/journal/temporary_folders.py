"""Temporary folders name their process, so that those of dead ones can go."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

import psutil

from harness.journal import environment
from harness.journal.workspace import Workspace

_NAMED = re.compile(r"(?:stillhouse-[a-z]+-)?(?P<host>.+)-(?P<pid>\d+)-[^-]+")


def folder_prefix(what: str = "") -> str:
    """How the name of a temporary folder of this process begins."""
    return (f"stillhouse-{what}-" if what else "") + f"{environment.host()}-{os.getpid()}-"


def remove_leftovers(workspace: Workspace) -> list[Path]:
    """Remove what processes of this host that live no longer left; which folders went."""
    folders = [*_inside(workspace.cache / "ray", "*")]
    folders += _inside(Path(tempfile.gettempdir()), "stillhouse-*")
    dead = [folder for folder in folders if _is_dead(folder)]
    for folder in dead:
        shutil.rmtree(folder, ignore_errors=True)
    return dead


def _inside(folder: Path, pattern: str) -> list[Path]:
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _is_dead(folder: Path) -> bool:
    """True for a folder of ours (no link, no other user's) whose process is gone."""
    match = _NAMED.fullmatch(folder.name)
    if match is None or match["host"] != environment.host():
        return False
    try:
        own = folder.lstat().st_uid == os.getuid() and not folder.is_symlink() and folder.is_dir()
    except OSError:
        return False
    return own and not psutil.pid_exists(int(match["pid"]))
