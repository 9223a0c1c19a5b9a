"""What to type to start this program: printed commands must work where they are printed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

NAME = "stillhouse"


def program() -> str:
    """`stillhouse` if the shell finds it, else the path it was started by."""
    started = Path(sys.argv[0])
    if shutil.which(NAME) or started.name != NAME:
        return NAME
    try:
        return min(os.path.relpath(started), str(started.absolute()), key=len)
    except FileNotFoundError:  # the current folder was deleted
        return str(executable()) if started.name == NAME else NAME


def executable() -> Path:
    """Absolute path of this program, for scripts that start it where no shell was set up."""
    found = shutil.which(NAME) or Path(sys.executable).with_name(NAME)
    return Path(found).absolute()
