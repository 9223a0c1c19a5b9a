"""Where results live: found from the study file's project, not from the folder one is in.

A workspace has a random id and may be moved: the id goes along, so nothing of it depends on a path.
Two processes that start at once agree on one id.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import WorkspaceError
from harness.text.identifiers import Name

FOLDER = "stillhouse-workspace"
RESULTS = "results"
"""Folder beside a study file with what is recorded of it: journals there count as history."""
VARIABLE = "STILLHOUSE_WORKSPACE"
MARKERS = ("pyproject.toml", ".git")
MIN_FREE_BYTES = 64 * 2**20


def here() -> Path:
    """The current folder.

    Raises:
        WorkspaceError: if it was deleted meanwhile.
    """
    try:
        return Path.cwd()
    except FileNotFoundError as error:
        raise WorkspaceError(
            "the current folder does not exist any more: change to one that does, and name the "
            "study by its path or the workspace with --workspace"
        ) from error


def project_of(study_file: Path) -> Path:
    """Nearest folder above the study file with a project marker; else the file's own folder."""
    start = study_file.resolve().parent
    for folder in (start, *start.parents):
        if any((folder / marker).exists() for marker in MARKERS):
            return folder
    return start


def in_project(study_file: Path) -> str:
    """The study file as one types it from its project, however it was named (`..`, links)."""
    return study_file.resolve().relative_to(project_of(study_file)).as_posix()


class Workspace:
    """Paths inside one workspace folder. Making the object writes nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()

    @classmethod
    def find(cls, study_file: Path | None = None, given: str | Path | None = None) -> Workspace:
        """`--workspace`, else STILLHOUSE_WORKSPACE, else `stillhouse-workspace` in the project."""
        if given:
            return cls(Path(given))
        if os.environ.get(VARIABLE):
            return cls(Path(os.environ[VARIABLE]))
        anchor = study_file if study_file is not None else here() / "x"
        return cls(project_of(anchor) / FOLDER)

    @property
    def id(self) -> str:
        """Which workspace this is, wherever it lies; empty before anything was written."""
        return read_workspace_id(self.root)

    @property
    def journal(self) -> Path:
        """Folder of journal files, one per driver process."""
        return self.root / "journal"

    @property
    def cache(self) -> Path:
        """Shared content-addressed cache; may be deleted at any time."""
        return self.root / "cache"

    @property
    def artifacts(self) -> Path:
        """MLflow's default artifact root."""
        return self.root / "artifacts"

    @property
    def database(self) -> Path:
        """MLflow's default SQLite file."""
        return self.root / "mlflow.db"

    def trial(self, key: str) -> Path:
        """Folder of one trial: trial.json, log.txt, attempts/, claim.lock."""
        return self.root / "trials" / key

    def study(self, name: str) -> Path:
        """Folder of one study: report.html, tables, its lock."""
        return self.root / "studies" / name

    def ensure_usable(self, need_bytes: int = MIN_FREE_BYTES) -> None:
        """Create the workspace and prove that it can be written, before any training.

        Raises:
            WorkspaceError: if it is read-only, not a folder, or has less than `need_bytes` free.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            probe = self.root / f".probe-{os.getpid()}"
            probe.write_text("stillhouse")
            probe.unlink()
            for folder in (self.journal, self.cache, self.artifacts):
                folder.mkdir(exist_ok=True)
            make_workspace_id(self.root)
        except OSError as error:
            raise WorkspaceError(
                f"workspace {self.root} cannot be written: {error.strerror or error}. "
                f"Give another with --workspace or {VARIABLE}."
            ) from error
        self.ensure_space(need_bytes)

    def ensure_space(self, need_bytes: int = MIN_FREE_BYTES) -> None:
        """Look at the disk only.

        Raises:
            WorkspaceError: if it has less than `need_bytes` free.
        """
        free = shutil.disk_usage(self.root).free
        if free < need_bytes:
            raise WorkspaceError(
                f"workspace {self.root} has {free / 2**20:.0f} MiB free, "
                f"{need_bytes / 2**20:.0f} MiB are needed. "
                "Free some space and run the same command again, or give another with --workspace."
            )


def history_folders(workspace: Workspace, study: Path | None = None) -> list[Path]:
    """Folders of journals: the workspace's first, then of recorded results.

    Args:
        workspace: its journal comes first.
        study: a study file, its folder, or its results folder; None searches `studies/*/results`
            of the workspace's project, or of the project one is in where the workspace lies
            elsewhere.
    """
    if study is not None:
        folder = study if study.is_dir() else study.parent
        return [workspace.journal, folder, folder / RESULTS]
    projects = projects_of(workspace, study)
    recorded = [r for p in projects for r in sorted(p.glob(f"studies/*/{RESULTS}"))]
    return [workspace.journal, *recorded]


def projects_of(workspace: Workspace, study: Path | None) -> list[Path]:
    """The study's project, and that of the workspace, or the one that one is in."""
    own = workspace.root.name == FOLDER
    projects = [workspace.root.parent if own else project_of(here() / "x")]
    if study is not None:
        folder = study if study.is_dir() else study.parent
        projects.insert(0, project_of(folder.resolve() / "x"))
    return list(dict.fromkeys(projects))


ID_FILE = "workspace.json"
ID_FORMAT = 1
ID_LETTER = "w"
"""No hex digit, so that no id is taken for a number, nor for a key."""
_SETTLING_SECONDS = 5.0

WorkspaceId = Literal[""] | Annotated[Name, Field(description="Empty where it is not known.")]


class _Identity(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    format: int = Field(ge=1)
    id: Name


def read_workspace_id(root: Path) -> str:
    """The id of the workspace in a folder; empty where it has none yet. Never writes.

    Raises:
        WorkspaceError: if the file is there and says something else.
    """
    file = root / ID_FILE
    try:
        text = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise WorkspaceError(f"{file} cannot be read: {error.strerror or error}") from error
    try:
        identity = _Identity.model_validate_json(text)
    except ValidationError as error:
        raise WorkspaceError(
            f'{file} does not say which workspace this is: {{"format": {ID_FORMAT}, "id": ...}} is '
            "expected. Bring it back; or delete it, and the next command that writes makes another "
            "id: runs on tracking servers are then asked about with --as or --adopt"
        ) from error
    if identity.format > ID_FORMAT:
        raise WorkspaceError(
            f"{file} has format {identity.format}, and this version knows {ID_FORMAT}: a later "
            "version of Stillhouse has written it. Use that one, or another workspace"
        )
    return identity.id


def make_workspace_id(root: Path) -> str:
    """The id of the workspace in a folder, made where it has none; one, however many ask at once.

    Raises:
        OSError: if it cannot be written.
        WorkspaceError: as `read`.
    """
    if workspace_id := _settled(root):
        return workspace_id
    root.mkdir(parents=True, exist_ok=True)
    text = (
        _Identity(format=ID_FORMAT, id=ID_LETTER + secrets.token_hex(16)).model_dump_json() + "\n"
    )
    descriptor, name = tempfile.mkstemp(prefix=f".{ID_FILE}-", dir=root)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.chmod(0o644)
        _publish(temporary, root / ID_FILE, text)
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
    file = root / ID_FILE
    while True:
        # Asked before reading: what was empty or missing then may be whole once reading has failed.
        written = file.is_file() and file.stat().st_size > 0
        try:
            return read_workspace_id(root)
        except WorkspaceError:
            if written or time.monotonic() > end:
                raise
            time.sleep(0.01)


STUDY_FILE = "study.yaml"
"""The study file of a folder."""


def file_of(path: Path) -> Path:
    """The study file that is meant: a folder means its `study.yaml`."""
    return path / STUDY_FILE if path.is_dir() else path
