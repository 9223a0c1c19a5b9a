"""The order of `sys.path` that makes our packages the installation's, wherever a process starts.

Ray would put the driver's folder in front of every worker's path, and a worker imports our packages
as soon as it unpickles what names them: so this module crosses processes by value. It imports the
standard library alone, and is given what it needs to know.

The path is all that a child inherits, one that `multiprocessing` spawns or a `DataLoader` starts:
what comes first there is what it imports. A finder on `sys.meta_path` would be lost.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import socket
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("harness", "recipes", "evaluation")
"""Our packages. One installation holds all three."""
SOURCES = (".py", ".yaml")
"""What the digest of an installation covers."""


def holds(folder: str, name: str) -> bool:
    """Whether Python finds a package or module of that name in a folder of the path."""
    place = Path(folder, name)
    return (place / "__init__.py").is_file() or place.with_suffix(".py").is_file()


def real(folder: str) -> str:
    """A folder without links; as it is where it is relative to a folder that was deleted."""
    try:
        return os.path.realpath(folder or os.curdir)
    except FileNotFoundError:
        return folder


def same(one: str, two: str) -> bool:
    """Whether two folders of a path are one; the empty one is the current folder."""
    return real(one) == real(two)


def with_root(path: Sequence[str], root: str) -> list[str]:
    """The path, with the installation before all else that holds one of our packages.

    It goes no further to the front than it must: what else lies beside our packages would shadow
    what is installed.
    """
    others = [p for p in path if not same(p, root)]
    at = next((i for i, p in enumerate(path) if same(p, root)), None)
    hiding = [i for i, p in enumerate(others) if any(holds(p, name) for name in PACKAGES)]
    if at is not None and not any(i < at for i in hiding):
        return list(path)
    where = hiding[0] if hiding else len(others)
    return [*others[:where], root, *others[where:]]


def for_ours(path: Sequence[str], root: str, project: str, here: str) -> list[str]:
    """The path for a subject of ours: nothing in the user's folders shadows what is installed.

    Args:
        path: as it is.
        root: folder of the installation.
        project: of the study; it goes to the end.
        here: the current folder, which `python -m` puts first; if it is there, to the end as well.
    """
    first = with_root([p for p in path if not (same(p, here) or same(p, project))], root)
    if any(same(p, here) for p in path) and not any(same(here, f) for f in (root, project)):
        first.append(here)
    return first if same(project, root) else [*first, project]


def for_theirs(path: Sequence[str], root: str, project: str) -> list[str]:
    """The path for a subject of the user's: the project first, if there is one, then ours."""
    if not project or same(project, root):
        return with_root(path, root)
    return [project, *with_root([p for p in path if not same(p, project)], root)]


def outside(path: Iterable[str]) -> tuple[list[str], list[str]]:
    """Folders of the path that are not the interpreter's: those before its own, and those after.

    A worker keeps its interpreter's: on another machine it may be elsewhere.
    """
    before: list[str] = []
    after: list[str] = []
    found = before
    for entry in path:
        if _interpreters(entry):
            found = after
        elif not entry or Path(entry).is_absolute():
            found.append(real(entry))
    return before, after


def _interpreters(entry: str) -> bool:
    place = Path(entry)
    libraries = [Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")]
    return (
        bool({"site-packages", "dist-packages"} & {*place.parts})
        or place in libraries
        or place.parent in libraries  # lib-dynload
        or (place.suffix == ".zip" and place.name.startswith("python"))
    )


def settle(rule: Mapping[str, Any]) -> str:
    """Give this process the driver's path, the installation before what shadows it.

    A project whose packages are its own comes first again when its subject is loaded.

    Args:
        rule: see `harness.installation.rule`.

    Returns:
        Folder of the installation here; empty where there is none.
    """
    known = {*rule["before"], *rule["after"], *rule["inserted"]}
    path = [*rule["before"], *(p for p in sys.path if p not in known), *rule["after"]]
    sys.path[:] = path
    importlib.invalidate_caches()
    root = rule["root"] if holds(rule["root"], "harness") else found("harness")
    sys.path[:] = with_root(path, root) if root else path
    return str(root)


def found(name: str) -> str:
    """Folder in which a child of this process finds a package; empty for nowhere.

    What this process has imported already does not count.
    """
    finders = [f.find_spec for f in sys.meta_path if hasattr(f, "find_spec")]
    spec = next((s for find in finders if (s := find(name, None)) is not None), None)
    if spec is None:
        return ""
    if spec.origin is None:  # a folder without __init__.py
        return str(Path(real(next(iter(spec.submodule_search_locations or ()), ""))).parent)
    file = Path(spec.origin)
    package = Path(real(str(file.parent)))
    return str(package.parent if file.name.startswith("__init__.") else package)


def imported(name: str) -> str:
    """Folder from which this process has imported a package; empty if it has not."""
    file = getattr(sys.modules.get(name), "__file__", None)
    return str(Path(real(file)).parents[1]) if file else ""


def look(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Settle this process, import the harness, and tell what it and its children import."""
    root = settle(rule)
    told: dict[str, Any] = {"host": socket.gethostname(), "root": real(root) if root else ""}
    if not root:
        return told
    try:
        importlib.import_module("harness")
    except Exception as error:  # what stands there may be anything
        return told | {"error": f"{type(error).__name__}: {error}"}
    told["places"] = {
        name: sorted({imported(name), found(name)} - {""}) for name in rule["packages"]
    }
    return told if told["host"] == rule["host"] else told | {"digest": digest_of(root)}


def problem(told: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    """What is wrong with what a process told of itself; empty if it runs what was started.

    The place decides on the driver's own machine, the sources elsewhere.
    """
    if not told["root"]:
        return "Stillhouse is not installed there"
    if "error" in told:
        return f"{told['root']} cannot be imported: {told['error']}"
    elsewhere = told["host"] != rule["host"]
    if not elsewhere and told["root"] != rule["real"]:
        return f"it would run {told['root']}"
    for name, places in told["places"].items():
        if places != [told["root"]]:
            return f"it imports `{name}` from {' and '.join(places) or 'nowhere'}"
    if elsewhere and told["digest"] != rule["digest"]:
        return f"{told['root']} has other sources, {told['digest'][:8]}"
    return ""


def digest_of(root: str) -> str:
    """Digest of the sources of our packages below a folder."""
    lines = []
    for package in PACKAGES:
        for file in Path(root, package).rglob("*"):
            if file.suffix in SOURCES and file.is_file():
                name = file.relative_to(root).as_posix()
                lines.append(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:32]
