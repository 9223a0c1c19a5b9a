"""What to type to start this program: printed commands must work where they are printed."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import WorkspaceError
from harness.import_path import same
from harness.journal.workspace import file_of

if TYPE_CHECKING:
    from harness.journal.workspace import Workspace

NAME = "stillhouse"


def program() -> str:
    """`stillhouse` if the shell finds this one, else the path it was started by."""
    started, on_path = Path(sys.argv[0]), shutil.which(NAME)
    if started.name != NAME or (on_path and same(on_path, str(started))):
        return NAME
    if on_path and not started.exists():  # what is no file is no path to type
        return NAME
    try:
        return min(os.path.relpath(started), str(started.absolute()), key=len)
    except FileNotFoundError:  # the current folder was deleted
        return str(executable()) if started.name == NAME else NAME


def executable() -> Path:
    """Absolute path of this program, for scripts that start it where no shell was set up.

    That of this environment: what the shell finds may be another's.
    """
    started, beside = Path(sys.argv[0]), Path(sys.executable).with_name(NAME)
    if started.name == NAME and started.is_file():
        return started.absolute()
    return Path(beside if beside.is_file() else shutil.which(NAME) or beside).absolute()


def typed(
    command: str,
    *words: object,
    study: Path | str | None = None,
    workspace: Workspace | None = None,
    name: str = "",
) -> str:
    """A command of this program as it can be pasted into the shell that shows it.

    Args:
        command: e.g. `run`.
        words: what follows, each one word for the shell whatever is in it.
        study: a study file, named first.
        workspace: which one is meant; named only where the command would find another.
        name: what the program is called on a page that others read; default as it was started.
    """
    line = [name or program(), command]
    if study is not None:
        line.append(path_word(study))
    line += [str(word) for word in words]
    if workspace is not None:
        line += _elsewhere(workspace, study)
    return shlex.join(line)


def path_word(path: Path | str) -> str:
    """A path that no command takes for an option."""
    text = str(path)
    return f"./{text}" if text.startswith("-") else text


def typed_reproduce(key: str, workspace: Workspace, study: Path) -> str:
    """The command that reproduces a trial; names its study where nothing else says the project."""
    words = [key]
    if not _says_project(workspace, study):
        words += ["--study", path_word(study)]
    return shlex.join([program(), "reproduce", *words, *_elsewhere(workspace, None)])


def _says_project(workspace: Workspace, study: Path) -> bool:
    from harness.journal.workspace import FOLDER, here, project_of

    if workspace.root.name == FOLDER:
        return True
    try:
        return project_of(here() / "x") == project_of(study)
    except WorkspaceError:  # the current folder was deleted
        return False


def _elsewhere(workspace: Workspace, study: Path | str | None) -> list[str]:
    from harness.journal.workspace import Workspace

    file = file_of(Path(study)) if study is not None else None
    try:
        is_usual = Workspace.find(file).root == workspace.root
    except WorkspaceError:  # the current folder was deleted
        is_usual = False
    return [] if is_usual else ["--workspace", path_word(workspace.root)]
