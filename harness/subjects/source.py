"""The source files of somebody's subject: its module and what that imports of its project.

They are hashed by file, always: what an author declares in `fingerprints` is added, since people
forget to raise a number. Imports are read, not run, so one inside a function counts and one whose
name is worked out at run time (`importlib.import_module(name)`) does not: its file can be declared.
One whose name is written there (`importlib.import_module("lab.net")`) counts.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.contract import Fingerprints
from harness.errors import SubjectError
from harness.import_path import PACKAGES
from harness.installation import ROOT
from harness.subjects.digests import digest_of
from harness.subjects.project_imports import OURS_ALONE, imports_in

SHORT = 16
MOST_FILES = 5_000
_INSTALLED = {"site-packages", "dist-packages"}


@dataclass(frozen=True)
class _Home:
    """A folder that imports are looked for in."""

    folder: Path
    packages: tuple[str, ...] = ()
    """Top-level names that belong to the subject; empty for all that are there."""

    def holds(self, name: str) -> bool:
        """Whether a top-level name is found here."""
        if name == OURS_ALONE or (self.packages and name not in self.packages):
            return False
        return (self.folder / name).is_dir() or (self.folder / f"{name}.py").is_file()

    def ends(self, name: str) -> bool:
        """Whether no later folder is asked for a name: a folder without __init__.py is no end."""
        package = self.folder / name / "__init__.py"
        return package.is_file() or (self.folder / f"{name}.py").is_file()


_OWN = _Home(ROOT.resolve(), tuple(name for name in PACKAGES if name != OURS_ALONE))
"""Packages of this installation that a subject may import; the harness is never a part of it, its
version is recorded with the environment."""


class HashedSubject:
    """Somebody's subject, whose code digest covers its source as well as what it says itself."""

    def __init__(self, subject: object, module: str, project: Path | None) -> None:
        """Take the subject, the module it was imported from, and the study's project."""
        self._subject = subject
        self._module = module
        self._project = project
        self._files: dict[str, str] | None = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # of a copy that is not made yet, above all
            raise AttributeError(name)
        return getattr(self._subject, name)

    def fingerprints(self, recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        """The subject's own digests, with the files of its source in the one of its code."""
        own = self.earlier_fingerprints(recipe, protocol)
        if self._files is None:
            self._files = source_files(self._module, self._project)
        return own.model_copy(
            update={
                "code": digest_of([own.code, self._files]),
                "code_files": own.code_files | self._files,
            }
        )

    def earlier_fingerprints(self, recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        """As the previous version made them: what the subject says itself."""
        own: Fingerprints = getattr(self._subject, "fingerprints")(recipe, protocol)  # noqa: B009
        return own


def source_files(module: str, project: Path | None) -> dict[str, str]:
    """Path -> digest of a module's file and of every file of its project that it imports.

    Files are named relative to the folder that the module's package lies in, and by the way they
    are imported: a link is named as it stands there, and what it leads to is read.

    Args:
        module: dotted, already imported.
        project: of the study; what lies in it belongs to the subject.

    Raises:
        SubjectError: a file cannot be read, or there are too many.
    """
    first = _file_of(module)
    if first is None:
        return {}  # built in, or made at run time: there is no source to hash
    home, first = _home_of(module, first)
    homes = _homes(module, home, project)
    found: dict[str, str] = {}
    todo = [first, *_packages_of(first, home)]
    seen = set(todo)
    while todo:
        file = todo.pop()
        found[_named(file, homes)] = hashlib.sha256(_read(file)).hexdigest()[:SHORT]
        if len(found) > MOST_FILES:
            raise SubjectError(f"subject {module!r} imports over {MOST_FILES:,} files")
        for name in _imports(file, homes):
            for other in _files_of(name, homes):
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
    return dict(sorted(found.items()))


def _file_of(module: str) -> Path | None:
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    return Path(file).absolute() if file and file.endswith(".py") else None


def _home_of(module: str, file: Path) -> tuple[Path, Path]:
    """The folder that the module's package lies in, without links, and the file below it."""
    home = file.parents[module.count(".") + (file.name == "__init__.py")]
    return home.resolve(), home.resolve() / file.relative_to(home)


def _packages_of(file: Path, home: Path) -> Iterator[Path]:
    """What importing a module runs before it: `__init__.py` of the packages it lies in."""
    if home == _OWN.folder and file.relative_to(home).parts[0] == OURS_ALONE:
        return
    for folder in file.parents:
        if folder == home:
            return
        package = folder / "__init__.py"
        if package != file and package.is_file():
            yield package


def _homes(module: str, home: Path, project: Path | None) -> list[_Home]:
    """The study's project, the folder that the module's package lies in, and this installation."""
    installed = bool(_INSTALLED & set(home.parts))
    places = [] if project is None else [_Home(project.resolve())]
    places.append(_Home(home, (module.partition(".")[0],) if installed else ()))
    return [*places, _OWN]


def _named(file: Path, homes: list[_Home]) -> str:
    for home in homes:
        if file.is_relative_to(home.folder):
            return file.relative_to(home.folder).as_posix()
    return file.name


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SubjectError(f"{file} cannot be read for the code digest: {error}") from error


def _imports(file: Path, homes: list[_Home]) -> Iterator[str]:
    """Dotted names that a file imports; `from a import b` gives `a` and `a.b`."""
    for home in homes:
        if file.is_relative_to(home.folder):
            for found in imports_in(file, home.folder):
                yield found.module
                yield from (f"{found.module}.{name}" for name in found.names)
            return


def _files_of(name: str, homes: list[_Home]) -> Iterator[Path]:
    """Files that importing a dotted name runs, as far as they belong to the subject."""
    parts = name.split(".")
    if not all(parts):
        return
    holding = [home for home in homes if home.holds(parts[0])]
    for home in [h for h in holding if h.ends(parts[0])][:1] or holding:
        for end in range(1, len(parts) + 1):
            inner = home.folder.joinpath(*parts[:end])
            for file in (inner.with_suffix(".py"), inner / "__init__.py"):
                if file.is_file():
                    yield file
