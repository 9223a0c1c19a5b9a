"""Where MLflow is and where its files go: addresses and folders. Imports no mlflow."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

import psutil

from harness.errors import HarnessError
from harness.running import leftovers
from harness.workspace import Workspace

VARIABLE = "MLFLOW_TRACKING_URI"
NETWORK_FILESYSTEMS = ("nfs", "lustre", "gpfs", "beegfs", "cifs", "smb", "ceph", "9p", "fuse")


def tracking_uri(workspace: Workspace, given: str | None = None) -> str:
    """The absolute tracking URI: as given, else MLFLOW_TRACKING_URI, else the workspace's file.

    Raises:
        HarnessError: for file stores, with the way to migrate one.
    """
    uri = given or os.environ.get(VARIABLE) or f"sqlite:///{workspace.database}"
    scheme = urlparse(uri).scheme
    if scheme in ("", "file") and not uri.startswith("databricks"):
        raise HarnessError(
            f"MLflow address {uri!r} is a file store, which MLflow 3.13 and later do not write. "
            "Give http(s)://host:port or sqlite:////absolute/path.db, or leave it out for "
            f"sqlite:///{workspace.database}. To keep old runs: "
            "mlflow migrate-filestore --source OLD_FOLDER --target sqlite:////absolute/path.db"
        )
    file = sqlite_file(uri)
    return f"sqlite:///{file}" if file is not None else uri


def sqlite_file(uri: str) -> Path | None:
    """Absolute path of a SQLite URI (a relative one is taken from the current folder), or None."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(unquote(uri.removeprefix("sqlite:///"))).expanduser().resolve()


@contextlib.contextmanager
def folder_for(artifact_uri: str) -> Iterator[tuple[Path, bool]]:
    """Where files go: the run's own folder if it is local, else a temporary one to upload."""
    parsed = urlparse(artifact_uri)
    if parsed.scheme in ("", "file"):
        folder = Path(unquote(parsed.path))
        folder.mkdir(parents=True, exist_ok=True)
        yield folder, False
        return
    with tempfile.TemporaryDirectory(prefix=leftovers.prefix("upload")) as temporary:
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
