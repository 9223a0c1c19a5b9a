"""Where a trial ran and who ran it: versions, device, host, commit. Imports no package it names."""

from __future__ import annotations

import getpass
import platform
import re
import socket
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "stillhouse"

# Records of one study are compared name by name, so the names stay what they were: a package that
# one version records and another does not would read as installed or gone since.
_NAMED_BEFORE = ("matplotlib", "statsmodels")
_IMPLIED = ("markupsafe", "pydantic-core", "sqlalchemy")
"""Come with jinja2, pydantic and mlflow, whose versions are recorded."""


@cache
def versions() -> dict[str, str]:
    """Python and the installed packages that Stillhouse names as dependencies, extras included."""
    by_name = {
        "python": platform.python_version(),
        "platform": " ".join((platform.system(), platform.machine())),
    }
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return by_name
    names = {DISTRIBUTION, *_NAMED_BEFORE}
    for requirement in requirements:
        if "extra == 'dev'" in requirement.replace('"', "'"):
            continue
        match = re.match(r"[A-Za-z0-9._-]+", requirement)
        if match and match.group() not in _IMPLIED:
            names.add(match.group())
    for name in sorted(names):
        try:
            by_name[name.lower()] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return by_name


@cache
def device_model(gpu: bool = False) -> str:
    """Model of the first GPU if one is asked for (or `unknown GPU`), else of the processor."""
    if gpu:
        # Not asked of torch, which would take seconds to import in a driver that needs nothing else
        # of it.
        for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
            match = re.search(r"^Model:\s*(.+)$", file.read_text(), re.MULTILINE)
            if match:
                return match.group(1).strip()
        return "unknown GPU"
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match.group(1).strip() if match else platform.processor() or platform.machine()


def host() -> str:
    """Short host name."""
    return socket.gethostname().split(".")[0]


def git_commit(folder: Path) -> str:
    """Commit that the project is at; empty without git."""
    try:
        command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
        process = subprocess.run(command, capture_output=True, text=True, timeout=2, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""


def user_name() -> str:
    """Login name, `unknown` where there is none (some containers)."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
