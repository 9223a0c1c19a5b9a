"""The source that a bundle carries: what git tracks of the packages, the study and its recipes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import harness
from harness.bundling.contents import LOCK, Members
from harness.report.results import counting
from harness.workspace import project_of

if TYPE_CHECKING:
    from harness.commands.answered import Answered

OWN = Path(harness.__file__).parents[1]
"""Root of Stillhouse's own source."""
PACKAGES = ("harness", "recipes", "evaluation")
ROOT_FILES = ("pyproject.toml", LOCK, "Makefile", "README.md", "LICENSE", "CONTRIBUTING.md")
_SOURCE = (".py", ".yaml", ".yml", ".toml", ".j2", ".css")
_PASSED_OVER = ("__pycache__", ".git")


def source(made: Answered) -> Members:
    """`code/` holds the study's project, `stillhouse/` Stillhouse itself where that is another.

    Of the project: packages, files of the root, the study's folder, its base recipe, and every
    file that the code digest lists. Bytes are those of the working tree, which the digest hashed.
    """
    project = project_of(made.study.file)
    folder = made.study.file.resolve().parent
    listed = {name for files in code_files(made).values() for name in files}
    wanted = [*PACKAGES, *ROOT_FILES, *sorted({name.split("/")[0] for name in listed})]
    found = _below("code", project, [project / name for name in wanted])
    if folder == project:  # a folder without a project of its own: only what the study names
        found |= _named("code", project, [made.study.file])
    else:
        found |= _below("code", project, [folder])
    found |= _named("code", project, [*_recipe(made), *(project / name for name in listed)])
    if project.resolve() != OWN.resolve():
        found |= _below("stillhouse", OWN, [OWN / name for name in (*PACKAGES, *ROOT_FILES)])
    return found


def code_files(made: Answered) -> dict[str, dict[str, str]]:
    """Code digest to the source files it covers, for the attempts that count."""
    found: dict[str, dict[str, str]] = {}
    for planned in made.plan.trials:
        record = made.history.trials.get(planned.trial.key)
        for attempt in counting(record) if record else ():
            found.setdefault(attempt.opened.code, attempt.opened.code_files)
    return found


def study_path(made: Answered) -> str:
    """The study file as one types it from its project."""
    return made.study.file.resolve().relative_to(project_of(made.study.file)).as_posix()


def git(folder: Path, *words: str) -> list[str]:
    """Lines that git prints in a folder; empty without git or outside a repository."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.decode("utf-8", "replace").replace("\0", "\n").splitlines()


def _recipe(made: Answered) -> list[Path]:
    named = made.study.recipe
    return [made.study.file.parent / named] if isinstance(named, str) else []


def _below(prefix: str, root: Path, places: Iterable[Path]) -> Members:
    """Files below some places that git tracks, and source not added yet; all where it tracks none.

    What the repository ignores never goes along, nor do strange files that lie about.
    """
    tracked = {root / name for name in git(root, "ls-files", "-z", ".")}
    others = git(root, "ls-files", "-z", "--others", "--exclude-standard", ".")
    tracked |= {root / name for name in others if tracked and name.endswith(_SOURCE)}
    files: list[Path] = []
    for place in places:
        inside = sorted(place.rglob("*")) if place.is_dir() else [place]
        files += [f for f in inside if not tracked or f in tracked]
    return _named(prefix, root, files)


def _named(prefix: str, root: Path, files: Iterable[Path]) -> Members:
    found: Members = {}
    for file in files:
        inside = root.resolve() in file.resolve().parents
        if not inside or file.is_symlink() or not file.is_file():
            continue
        name = file.resolve().relative_to(root.resolve())
        if not any(part in _PASSED_OVER or part.endswith(".pyc") for part in name.parts):
            found[f"{prefix}/{name.as_posix()}"] = file
    return found
