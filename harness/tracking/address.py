"""Where MLflow is and where its files go: addresses and folders. Imports no mlflow."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import psutil

from harness.errors import HarnessError
from harness.journal import temporary_folders
from harness.journal.command_line import typed
from harness.journal.workspace import Workspace
from harness.text.identifiers import ForeignError
from harness.text.printable import printable
from harness.text.secrets import without_credentials

VARIABLE = "MLFLOW_TRACKING_URI"
ARTIFACTS = "STILLHOUSE_ARTIFACTS"
"""A folder that an MLflow server shares with this machine for the files of runs."""
NETWORK_FILESYSTEMS = ("nfs", "lustre", "gpfs", "beegfs", "cifs", "smb", "ceph", "9p", "fuse")


def tracking_uri(workspace: Workspace, given: str | None = None) -> str:
    """The absolute tracking URI: as given, else MLFLOW_TRACKING_URI, else the workspace's file.

    Raises:
        HarnessError: for file stores, with the way to migrate one.
    """
    uri = given or os.environ.get(VARIABLE) or sqlite_uri(workspace.database)
    scheme = urlparse(uri).scheme
    if scheme in ("", "file") and not uri.startswith("databricks"):
        raise HarnessError(
            f"MLflow address {without_credentials(uri)!r} is a file store, which MLflow 3.13 "
            "and later do not write. "
            "Give http(s)://host:port or sqlite:////absolute/path.db, or leave it out for "
            f"{sqlite_uri(workspace.database)}. To keep old runs: "
            "mlflow migrate-filestore --source OLD_FOLDER --target sqlite:////absolute/path.db"
        )
    file = sqlite_file(uri)
    if file is None:
        return uri
    if "?" in uri:
        raise HarnessError(
            f"MLflow address {uri!r} holds a question mark, after which a URL has options, and "
            "none is supported: write %3F where the path has one"
        )
    return sqlite_uri(file)


def sqlite_uri(file: Path) -> str:
    """The address of a SQLite file; what means something in a URL is escaped, nothing else."""
    text = str(file)
    for letter in "%?#":  # the percent sign first
        text = text.replace(letter, f"%{ord(letter):02X}")
    return f"sqlite:///{text}"


def sqlite_file(uri: str) -> Path | None:
    """Absolute path of a SQLite URI (a relative one is taken from the current folder), or None."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///"))).expanduser().resolve()


def local_folder(artifact_uri: str) -> Path | None:
    """The folder that an artifact address names, or None where it is no local one."""
    parsed = urlparse(artifact_uri)
    return Path(unquote(parsed.path)) if parsed.scheme in ("", "file") else None


def artifact_homes(workspace: Workspace, uri: str) -> list[Path] | None:
    """Folders of this machine that runs' files may be written to; None for any."""
    if sqlite_file(uri) is not None:
        return None
    shared = os.environ.get(ARTIFACTS)
    return [workspace.artifacts, *([Path(shared).expanduser()] if shared else [])]


@contextlib.contextmanager
def folder_for(artifact_uri: str, homes: Collection[Path] | None) -> Iterator[tuple[Path, bool]]:
    """Where files go: the run's own folder if it is local, else a temporary one to upload.

    Args:
        artifact_uri: as the server, or the database, says.
        homes: folders that a local one must lie in, as a server's word alone makes none here; None
            where a database of this machine says it.

    Raises:
        ForeignError: if it lies in none of them.
    """
    folder = local_folder(artifact_uri)
    if folder is not None:
        real = folder.resolve()
        if homes is not None and not any(real.is_relative_to(home.resolve()) for home in homes):
            raise ForeignError(
                f"files of a run belong in {printable(str(folder))[:200]}, says MLflow: refused, "
                "as it is not the workspace's own folder. Start the server with "
                "--serve-artifacts, so that files go through it; or, where the folder is shared, "
                f"name it in {ARTIFACTS}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        yield folder, False
        return
    with tempfile.TemporaryDirectory(prefix=temporary_folders.folder_prefix("upload")) as temporary:
        yield Path(temporary), True


def on_network(folder: Path) -> bool:
    """True where a folder lies on a network file system."""
    return file_system(folder).startswith(NETWORK_FILESYSTEMS)


def file_system(folder: Path) -> str:
    """Type of the file system that a folder lies on, as the kernel names it; empty if unknown."""
    mounts = [(p.mountpoint, p.fstype) for p in psutil.disk_partitions(all=True)]
    inside = [m for m in mounts if folder.is_relative_to(m[0])]
    return max(inside, key=lambda m: len(m[0]))[1] if inside else ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the lines Alembic logs about each migration off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(before)


def sync_command(workspace: Workspace, study: str, uri: str, beside: str = "") -> str:
    """What to type to bring the server at an address up to date; no password is in it."""
    own = sqlite_file(uri) == workspace.database
    words = [] if own else ["--mlflow", without_credentials(uri)]
    words += ["--as", beside] if beside else []
    return typed("sync", study, *words, workspace=workspace)
