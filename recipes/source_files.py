"""The code digest of a recipe: every definition that it may run, wherever that stands.

`code_roots.py` says where the code of a recipe begins, `reached.py` what is reached from there, and
`definitions.py` what counts of it. Deleting what nothing runs, moving a definition or renaming a
file changes no digest. This file reads the packages and keeps what was found in the user's cache:
the definitions of a file by its content, digests by roots, as long as no file was touched.
Imports no torch. Why so: docs/decisions/2026-11-27-code-digest.md.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from recipes import code_roots, definitions
from recipes.definitions import SourceFile, source_file
from recipes.kept import user_cache, write_whole
from recipes.reached import Target, Tree

ROOT = Path(__file__).parent.parent
PACKAGES = ("recipes", "evaluation")
KEPT = 64
"""Sets of roots whose digests are kept between processes."""


@dataclass(frozen=True, eq=False)
class Code:
    """Definitions and one digest over all of them; one object for equal roots."""

    digest: str
    files: dict[str, str]
    """Digest of each by `path#name`, by `path` of what the file does beside defining: of its text
    and, behind a hyphen, of what its names stand for."""


def code_of(recipe: Mapping[str, Any], measured_by: Iterable[str]) -> Code:
    """The definitions that a recipe or reference row runs.

    Args:
        recipe: resolved, or the settings of a reference row.
        measured_by: import strings of its protocol.
    """
    roots = {*code_roots.recipe_roots(recipe), *map(_target, measured_by)}
    return _code(tuple(sorted(roots)), code_roots.reads_files(recipe))


def code_below(*modules: str) -> Code:
    """Some modules, whole, and all that they run."""
    return _code(tuple(sorted(Target(module, "") for module in modules)), True)


def _target(import_string: str) -> Target:
    module, _, attributes = import_string.partition(":")
    return Target(module, attributes.partition(".")[0])


@cache
def _code(roots: tuple[Target, ...], files: bool) -> Code:
    return _Kept.of(ROOT).code(roots, files=files)


class _Kept:
    """Digests by roots, kept in the user's cache as long as no file of the packages is touched."""

    def __init__(self, root: Path) -> None:
        self.seen = seen_files(root)
        self.path = user_cache() / f"code-{_hash(str(root))[:12]}.json"
        self.stamp = _hash(json.dumps(self.seen))
        held = _held(self.path)
        self.found = held["found"] if held.get("stamp") == self.stamp else {}

    @classmethod
    @cache
    def of(cls, root: Path) -> _Kept:
        return cls(root)

    def code(self, roots: tuple[Target, ...], *, files: bool) -> Code:
        asked = " ".join([*(f"{t.module}:{t.name}" for t in roots), *["files"] * files])
        if asked not in self.found:
            source = tree(files=files)
            made = source.reached([root for root in roots if source.has(root)])
            paths = {module_of(name): name for name, *_ in self.seen}
            listing = {}
            for name, told in made.listing.items():
                module, sign, part = name.partition("#")
                listing[f"{paths[module]}{sign}{part}"] = told
            known = [*self.found.items()][1 - KEPT :]
            self.found = {**dict(known), asked: (made.digest, listing)}
            write_whole(self.path, {"stamp": self.stamp, "found": self.found})
        return Code(*self.found[asked])


def seen_files(root: Path) -> list[tuple[str, int, int, int]]:
    """Source files of the packages: path from the root, size, and times of change in ns.

    The time that no program sets (`ctime`) is there for files that are copied with their times.
    """
    found: list[tuple[str, int, int, int]] = []
    waiting = [root / package for package in PACKAGES]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            held = list(entries)
        if not any(entry.name == "__init__.py" for entry in held):
            continue  # weights, records
        for entry in held:
            if entry.is_dir():
                waiting.append(Path(entry.path))
            elif entry.name.endswith(".py"):
                at = entry.stat()
                path = Path(entry.path).relative_to(root).as_posix()
                found.append((path, at.st_size, at.st_mtime_ns, at.st_ctime_ns))
    return sorted(found)


@cache
def tree(*, files: bool) -> Tree:
    """The packages as they are on disk, to follow names in; `files` where data are files."""
    return Tree(_texts(), code_roots.limits(files=files))


@cache
def _texts() -> dict[str, SourceFile]:
    """Every file of the packages by module; what was read once is kept by content."""
    kept = user_cache() / "definitions.json"
    reader = _hash(Path(definitions.__file__).read_text())
    whole = _held(kept)
    held = whole["found"] if whole.get("reader") == reader else {}
    found, now = {}, {}
    for path, *_ in seen_files(ROOT):
        content = (ROOT / path).read_bytes()
        module = module_of(path)
        place = module if path.endswith("/__init__.py") else module.rpartition(".")[0]
        name = f"{place} {hashlib.sha256(content).hexdigest()}"
        try:
            now[name] = found[module] = held.get(name) or source_file(content, place)
        except (SyntaxError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from error
    if now.keys() - held.keys():
        write_whole(kept, {"reader": reader, "found": now})
    return found


def module_of(path: str) -> str:
    """Dotted name of a source file."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _held(path: Path) -> dict[str, Any]:
    """What a file of the cache holds; nothing where it is not there yet, or not ours."""
    try:
        held = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    right = isinstance(held, dict) and any(
        isinstance(held.get(k), dict) for k in ("found", "files")
    )
    return held if right else {}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
