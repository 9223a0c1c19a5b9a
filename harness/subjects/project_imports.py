"""What a user's subject imports of our packages, where his project has packages of these names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness.errors import SubjectError
from harness.import_path import PACKAGES, holds, same
from harness.installation import ROOT, there

MOST_FILES = 2000
OURS_ALONE = "harness"


class Import(NamedTuple):
    """A module that a file imports."""

    file: Path
    line: int
    module: str
    names: tuple[str, ...] = ()
    """What is taken from it, each perhaps a module."""


def refuse_both(module: str, project: Path) -> None:
    """Refuse a subject whose process would need a package of ours and the project's of that name.

    Args:
        module: of the subject, in the project.
        project: where it is imported from.

    Raises:
        SubjectError: with the file and line that asks for ours.
    """
    if same(str(project), str(ROOT)):
        return
    own = [name for name in PACKAGES if holds(str(project), name)]
    bare = [n for n in PACKAGES if n not in own and any((project / n).glob("*.py"))]
    if not own and not bare:
        return
    for found in imports_below(module.partition(":")[0], project):
        first = found.module.partition(".")[0]
        where = f"{found.file}:{found.line}"
        if first == OURS_ALONE:
            if there(project, found.module) and not there(ROOT, found.module):
                raise SubjectError(
                    f"{where}: `{found.module}` is in the project's own `harness`, but in this "
                    "process `harness` is Stillhouse: rename that package, or run the program as "
                    "a `command:`, in a process of its own"
                )
        elif first in bare:
            raise SubjectError(
                f"{where}: `{found.module}` is in a folder without __init__.py, and Stillhouse "
                f"has a package `{first}`, which would be imported in its place: add an empty "
                f"{project / first / '__init__.py'}, or rename it"
            )
        elif first == "recipes" and first not in own and "evaluation" in own:
            raise SubjectError(
                f"{where}: `{found.module}` is Stillhouse's and needs its `evaluation`, but the "
                f"project has a package of that name, {project / 'evaluation'}; one process "
                "cannot hold both. Run the program as a `command:`, in a process of its own, and "
                "its `student` is measured by ours; or rename the package"
            )


@cache
def imports_below(module: str, project: Path) -> tuple[Import, ...]:
    """Imports of a module and of what it imports in the project, functions included.

    A subject is loaded several times a command, and `harness` is never the project's.
    """
    return tuple(_below(module, project))


def _below(module: str, project: Path) -> Iterator[Import]:
    waiting, seen = [module], set[Path]()
    while waiting and len(seen) < MOST_FILES:
        name = waiting.pop()
        for file in _files(name, project):
            if file in seen:
                continue
            seen.add(file)
            for found in imports_in(file, project):
                yield found
                if found.module.partition(".")[0] == OURS_ALONE:
                    continue
                waiting += [found.module, *(f"{found.module}.{n}" for n in found.names)]


def _files(module: str, project: Path) -> Iterator[Path]:
    """The module's file and those of the packages it lies in, where they are in the project."""
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        place = project.joinpath(*parts[:count])
        for file in (place / "__init__.py", place.with_suffix(".py")):
            if file.is_file():
                yield file
                break


def imports_in(file: Path, root: Path) -> Iterator[Import]:
    """Imports of a file, functions included; none where it cannot be parsed: importing it tells.

    Args:
        file: below the root.
        root: what its dotted name starts from, for relative imports.
    """
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return  # importing it will tell
    inside = file.relative_to(root).with_suffix("").parts
    package = inside[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join([*base, *(node.module.split(".") if node.module else ())])
            if name:
                taken = tuple(alias.name for alias in node.names if alias.name != "*")
                yield Import(file, node.lineno, name, taken)
        elif isinstance(node, ast.Call) and _called(node.func) in _IMPORTING:
            yield from _named_in_text(file, node, package)
        elif isinstance(node, ast.Assign) and inside[-1] == "__init__" and package:
            yield from _for_a_star(file, node, package)


_IMPORTING = ("import_module", "__import__")


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _named_in_text(file: Path, call: ast.Call, package: tuple[str, ...]) -> Iterator[Import]:
    """`importlib.import_module("lab.net")`: a name that is written there is known."""
    named = call.args[0] if call.args else None
    if isinstance(named, ast.Constant) and isinstance(named.value, str):
        rest = named.value.lstrip(".")
        level = len(named.value) - len(rest)
        base = package[: len(package) - level + 1] if level else ()
        parts = [*base, *(rest.split(".") if rest else [])]
        if parts and all(part.isidentifier() and len(part) < 200 for part in parts):
            yield Import(file, call.lineno, ".".join(parts))


def _for_a_star(file: Path, given: ast.Assign, package: tuple[str, ...]) -> Iterator[Import]:
    """`__all__ = ["net"]` of a package: `from lab import *` imports `lab.net`."""
    listed = given.value
    if isinstance(listed, ast.List | ast.Tuple) and any(
        isinstance(name, ast.Name) and name.id == "__all__" for name in given.targets
    ):
        texts = (e.value for e in listed.elts if isinstance(e, ast.Constant))
        names = tuple(text for text in texts if isinstance(text, str))
        yield Import(file, given.lineno, ".".join(package), names)
