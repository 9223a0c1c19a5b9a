"""Which installation runs, and what in the user's folders would be imported in place of others."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from harness.doctor.finding import Finding, ok, warn
from harness.import_path import PACKAGES, holds, same
from harness.installation import DISTRIBUTION, ROOT, installed, other_checkout
from harness.journal.command_line import NAME

HARMLESS = {"test"}
"""Modules of Python that no program imports."""
SHOWN = 8


def installation(project: Path | None) -> Finding:
    """Which one runs, and whether another would be started by the name people type.

    Args:
        project: of the study, if one was named.
    """
    own, found = installed(), shutil.which(NAME)
    if own is not None and not same(str(own), str(ROOT)):
        return warn(
            "installation",
            f"{ROOT} runs, but `{NAME}` of this Python starts {own}",
            f"another `harness` comes first in PYTHONPATH or in the folder that `python -m` was "
            f"started in; start `{Path(sys.executable).with_name(NAME)}` from another folder",
        )
    if found and not same(str(Path(found).parent), str(Path(sys.executable).parent)):
        return warn(
            "installation",
            f"{ROOT} runs, but `{NAME}` on the PATH is {found}, of another environment",
            f"numbers of two versions do not mix: start {Path(sys.executable).with_name(NAME)}, "
            "or put its folder first on the PATH",
        )
    if project is not None and other_checkout(project):
        return warn(
            "installation",
            f"{ROOT} runs, not the checkout that the study stands in, {project}",
            "if that one is meant, start its own: make env there, then its .venv/bin/stillhouse",
        )
    return ok("installation", str(ROOT))


def shadows(project: Path | None) -> list[Finding]:
    """A finding for each folder that holds what would be imported in the place of others.

    Args:
        project: of the study, if one was named; else the current folder counts alone.
    """
    given = [Path(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    everywhere = [(p, "take that folder out of PYTHONPATH, or rename them") for p in given]
    rename = (
        "rename them: a subject of yours, and a program started there, imports them in place of "
        "what is installed; Stillhouse's own subjects do not"
    )
    beside = [(p, rename) for p in (project, Path(os.path.curdir).absolute()) if p is not None]
    found, seen = [], [str(ROOT)]
    for folder, fix in (*everywhere, *beside):
        if any(same(str(folder), other) for other in seen):
            continue
        seen.append(str(folder))
        names = _held(folder, {*PACKAGES, *_required(), *sys.stdlib_module_names} - HARMLESS)
        if names:
            found.append(warn("shadows", f"{folder} holds {_listed(names)}", fix))
    for entry in sys.path:
        if entry and not any(same(entry, other) for other in seen):
            names = _held(Path(entry), PACKAGES)
            if names:
                what = f"{entry} holds {_listed(names)}, names of Stillhouse's own packages"
                fix = "ours come first; who needs the other needs an environment without it"
                found.append(warn("shadows", what, fix))
    return found or [ok("shadows", "nothing comes in the place of what is installed")]


def _held(folder: Path, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if holds(str(folder), name))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(f'`{name}`' for name in names[:SHOWN])}{more}"


def _required() -> set[str]:
    """What the packages that Stillhouse asks for are imported as."""
    try:
        declared = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return set()
    wanted = {_plain(m.group()) for text in declared if (m := re.match(r"[A-Za-z0-9._-]+", text))}
    by_name = metadata.packages_distributions()
    return {name for name, of in by_name.items() if wanted & {_plain(o) for o in of}}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
