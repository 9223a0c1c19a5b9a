"""Which workspace is which: a random id in `workspace.json`, made by the first command that writes.

A workspace may be moved: the id goes along, so nothing of it depends on a path. Two processes that
start at once agree on one id.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import WorkspaceError
from harness.identifiers import Name

FILE = "workspace.json"
FORMAT = 1
LETTER = "w"
"""No hex digit, so that no id is taken for a number, nor for a key."""
_SETTLING_SECONDS = 5.0

WorkspaceId = Literal[""] | Annotated[Name, Field(description="Empty where it is not known.")]


class _Identity(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    format: int = Field(ge=1)
    id: Name


def read(root: Path) -> str:
    """The id of the workspace in a folder; empty where it has none yet. Never writes.

    Raises:
        WorkspaceError: if the file is there and says something else.
    """
    file = root / FILE
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise WorkspaceError(f"{file} cannot be read: {error.strerror or error}") from error
    try:
        found = _Identity.model_validate_json(text)
    except ValidationError as error:
        raise WorkspaceError(
            f'{file} does not say which workspace this is: {{"format": {FORMAT}, "id": ...}} is '
            "expected. Bring it back; or delete it, and the next command that writes makes another "
            "id: runs on tracking servers are then asked about with --as or --adopt"
        ) from error
    if found.format > FORMAT:
        raise WorkspaceError(
            f"{file} has format {found.format}, and this version knows {FORMAT}: a later version "
            "of Stillhouse has written it. Use that one, or another workspace"
        )
    return found.id


def make(root: Path) -> str:
    """The id of the workspace in a folder, made where it has none; one, however many ask at once.

    Raises:
        OSError: if it cannot be written.
        WorkspaceError: as `read`.
    """
    if known := _settled(root):
        return known
    root.mkdir(parents=True, exist_ok=True)
    text = _Identity(format=FORMAT, id=LETTER + secrets.token_hex(16)).model_dump_json() + "\n"
    descriptor, name = tempfile.mkstemp(prefix=f".{FILE}-", dir=root)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.chmod(0o644)
        _publish(temporary, root / FILE, text)
    finally:
        temporary.unlink(missing_ok=True)
    return _settled(root)


def _publish(temporary: Path, file: Path, text: str) -> None:
    """Under its name, whole, unless another process was first."""
    try:
        os.link(temporary, file)  # fails where it exists, which a rename does not
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        try:
            with file.open("x") as handle:
                handle.write(text)
        except FileExistsError:
            return


def _settled(root: Path) -> str:
    """What stands there; without hard links another process may be writing it this moment."""
    end = time.monotonic() + _SETTLING_SECONDS
    file = root / FILE
    while True:
        # Asked before reading: what was empty or missing then may be whole once reading has failed.
        written = file.is_file() and file.stat().st_size > 0
        try:
            return read(root)
        except WorkspaceError:
            if written or time.monotonic() > end:
                raise
            time.sleep(0.01)
