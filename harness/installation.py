"""The installation that was started: what runs a study, wherever the study stands.

`harness` is always its own. `recipes` and `evaluation` are its own where the study's subject, or
what measures, is ours; else a project's package of that name is the project's.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import harness
from harness import import_path
from harness.errors import HarnessError, SubjectError, WorkspaceError
from harness.import_path import PACKAGES
from harness.journal.workspace import here, project_of

DISTRIBUTION = "stillhouse"
ROOT = Path(harness.__file__).parents[1]
"""Folder that holds our packages: a checkout, or a folder of installed packages."""
LINKED = "installation"
"""Folder in the workspace's cache with links to `harness`, for children; see `guard_children`."""


def is_ours(module: str, project: Path) -> bool:
    """Whether a subject is of the installation, by its import string.

    A name of our packages that is not here and is in the project is the project's own.

    Raises:
        SubjectError: if it is in another checkout of Stillhouse, which was not started.
    """
    module = module.partition(":")[0]
    first = module.partition(".")[0]
    if first not in PACKAGES:
        return False
    if first == "harness" or there(ROOT, module) or not there(project, module):
        return True
    if other_checkout(project):
        raise SubjectError(
            f"subject {module!r} is in the checkout {project} alone; what was started is {ROOT}, "
            f"whose `{first}` runs. Start the `stillhouse` of that checkout"
        )
    return False


def arrange(module: str, project: Path | None) -> bool:
    """Put `sys.path` in order for a subject; True if it is ours."""
    ours = is_ours(module, project or ROOT)
    path, root = list(sys.path), str(ROOT)
    if ours:
        sys.path[:] = import_path.for_ours(path, root, str(project or ROOT), _here())
    else:
        sys.path[:] = import_path.for_theirs(path, root, str(project or ""))
    return ours


def check(packages: tuple[str, ...] = PACKAGES) -> None:
    """Whether this process has imported packages of the installation, and its children would.

    Raises:
        SubjectError: naming both places.
    """
    real = os.path.realpath(ROOT)
    for name in packages:
        places = {import_path.imported(name), import_path.found(name)} - {"", real}
        if places:
            raise SubjectError(
                f"`{name}` of this process is that of {' and '.join(sorted(places))}, but the "
                f"installation that was started is {real}: a process holds one of them. Start "
                "another one, from a folder and with a PYTHONPATH without such a package"
            )


def rule(module: str, project: Path | None) -> dict[str, Any]:
    """What a worker is told by value: the path of this process, and what it must import.

    `import_path.settle` and `look` take it.

    Args:
        module: that the study's subject imports; empty for none.
        project: of the study.
    """
    ours = arrange(module, project) if module else False
    before, after = import_path.outside(sys.path)
    return {
        "root": str(ROOT),
        "real": os.path.realpath(ROOT),
        "before": before,
        "after": after,
        # what Ray puts in front: the folder one is in and that of the program
        "inserted": [_here(), str(Path(sys.argv[0]).resolve().parent)],
        "packages": list(PACKAGES if ours else PACKAGES[:1]),
        "host": socket.gethostname(),
        "digest": import_path.digest_of(str(ROOT)),
    }


def differing(told: Mapping[str, Mapping[str, Any] | str], given: Mapping[str, Any]) -> None:
    """Refuse nodes that would run something else than what was started.

    Args:
        told: name of a node -> what `import_path.look` found there, or why it found nothing.
        given: the rule they were given.

    Raises:
        HarnessError: naming each, and both installations.
    """
    wrong = {
        node: f"no answer ({said})" if isinstance(said, str) else import_path.problem(said, given)
        for node, said in told.items()
    }
    wrong = {node: problem for node, problem in wrong.items() if problem}
    if wrong:
        shown = "; ".join(f"{node}: {problem[:300]}" for node, problem in wrong.items())
        raise HarnessError(
            f"{len(wrong)} of {len(told)} nodes would not run the installation that was started, "
            f"{given['real']} (sources {given['digest'][:8]}): {shown}. Install the same version "
            "of Stillhouse there, at any place. Nothing was started."
        )


def guard_children(cache: Path) -> None:
    """Make children import our `harness` also where the project, which comes first, has one.

    A folder that holds a link to it and nothing else is put in front of the project.
    """
    real = os.path.realpath(ROOT)
    if import_path.found("harness") in ("", real):
        return
    folder = cache / LINKED / import_path.digest_of(real)
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / "harness"
    if not link.exists():
        made = folder / f".{os.getpid()}"
        made.unlink(missing_ok=True)
        made.symlink_to(ROOT / "harness", target_is_directory=True)
        # Several processes may make it at once; a link that is renamed is there whole or not at
        # all.
        made.replace(link)
    sys.path[:] = [str(folder), *(p for p in sys.path if p != str(folder))]


def other_checkout(project: Path) -> bool:
    """Whether a folder is a checkout of Stillhouse other than the installation that runs."""
    if not (project / "harness" / "__init__.py").is_file() or project.resolve() == ROOT.resolve():
        return False
    try:
        declared = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
        return bool(declared["project"]["name"] == DISTRIBUTION)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def notice(study_file: Path) -> str:
    """A line for who runs a study that stands in another checkout; empty where none does."""
    project = project_of(study_file)
    if not other_checkout(project):
        return ""
    return f"run by the Stillhouse in {ROOT}, not by the checkout the study stands in, {project}"


@cache
def installed() -> Path | None:
    """Folder of the installation that this interpreter's `stillhouse` starts; None for none."""
    from importlib import metadata

    try:
        found = metadata.distribution(DISTRIBUTION)
        told = json.loads(found.read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return None
    if told.get("dir_info", {}).get("editable"):
        return Path(unquote(urlsplit(told["url"]).path))
    return Path(str(found.locate_file("")))


def there(folder: Path, module: str) -> bool:
    """Whether a folder holds a module."""
    place = folder.joinpath(*module.split("."))
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def _here() -> str:
    try:
        return str(here())
    except WorkspaceError:  # it was deleted
        return str(ROOT)
