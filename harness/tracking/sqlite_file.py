"""The SQLite file behind MLflow: made in one piece, with fewer flushes, moved with its files."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.journal.workspace import Workspace
from harness.tracking.address import local_folder, on_network, quiet, sqlite_uri
from harness.tracking.ownership import epochs_in, is_epoch_of
from harness.tracking.run_write import TAG

ARTIFACTS_TAG = TAG + "artifacts"
"""Tag of an experiment whose files lie in its workspace: the address of that folder, as it was when
the rows were written."""
LOCKED_SECONDS = 5.0
_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("logged_models", "artifact_location"),
)
_MARK = "INSERT OR REPLACE INTO experiment_tags (key, value, experiment_id) VALUES (?, ?, ?)"
_KEYS = "SELECT key FROM experiment_tags WHERE experiment_id = ?"
_RUNS = "SELECT run_uuid, artifact_uri FROM runs WHERE experiment_id = ?"
_PLACE = "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?"
_MARKED = "SELECT experiment_id, value FROM experiment_tags WHERE key = ?"
_EARLIER = (  # made by an earlier version, which left no mark, in a database that it had made
    "SELECT e.experiment_id, e.artifact_location FROM experiments e"
    " JOIN experiment_tags t ON t.experiment_id = e.experiment_id AND t.key = ?"
    " JOIN experiments d ON d.experiment_id = 0 AND d.artifact_location = e.artifact_location || ?"
    " WHERE e.artifact_location LIKE ?"
    " AND e.experiment_id NOT IN (SELECT experiment_id FROM experiment_tags WHERE key = ?)"
)


def prepared_database(file: Path, engine_of: Callable[[str], Any]) -> Any:
    """Make the database if it is missing; return the SQLAlchemy engine for it.

    The tables are made in a temporary file that is renamed when complete: a crash leaves no half
    made schema, and nobody else ever sees one (processes that race to make it crash).

    Args:
        file: the database.
        engine_of: makes the tables that an address lacks and returns its engine.
    """
    import sqlalchemy

    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists() or not file.stat().st_size:
        for left_over in file.parent.glob(f".{file.name}-making*"):
            left_over.unlink()
        temporary = file.with_name(f".{file.name}-making")
        with quiet():
            engine_made = engine_of(sqlite_uri(temporary))
        engine_made.dispose()
        if not on_network(file.parent):  # write-ahead logs need memory shared by all readers
            with contextlib.closing(sqlite3.connect(temporary)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        temporary.replace(file)
    engine = engine_of(sqlite_uri(file))
    sqlalchemy.event.listen(engine, "connect", _relax)
    engine.dispose()
    return engine


def follow_artifacts(workspace: Workspace, file: Path, experiment: str | None = None) -> None:
    """Let the rows of a database name the folder where the files of its runs are now.

    MLflow stores whole addresses: in a workspace that was moved they would lead to where it was,
    and in a copy to the original. What another workspace has written there stays as it is.

    Args:
        workspace: whose files are meant.
        file: the database.
        experiment: the only one to look at, which is this workspace's, in a database that others
            use, too; None for all of them in its own, those of earlier versions included.
    """
    now = workspace.artifacts.as_uri()
    with contextlib.closing(sqlite3.connect(file, timeout=LOCKED_SECONDS)) as rows, rows:
        marked = [(n, then) for n, then in rows.execute(_MARKED, (ARTIFACTS_TAG,)) if then != now]
        if experiment is not None:
            moved = [(number, then) for number, then in marked if str(number) == experiment]
        else:
            moved = [(n, then) for n, then in marked if _is_of(workspace, rows, n)]
            parameters = (TAG + "study", "/0", f"%/{workspace.artifacts.name}", ARTIFACTS_TAG)
            moved += rows.execute(_EARLIER, parameters).fetchall()
        for number, then in moved:
            for table, column in _columns(rows):
                _rewrite(rows, table, column, then, now, number)
            _rewrite_runs(rows, then, now, number)
            rows.execute(_MARK, (ARTIFACTS_TAG, now, number))
        for then in {then for _, then in moved} if experiment is None else ():
            _rewrite(rows, "experiments", "artifact_location", then, now, 0)  # MLflow's `Default`


def _is_of(workspace: Workspace, rows: sqlite3.Connection, experiment: int) -> bool:
    """Whether every epoch that was left on an experiment is in the workspace."""
    epochs = epochs_in(key for (key,) in rows.execute(_KEYS, (experiment,)))
    return bool(epochs) and all(is_epoch_of(workspace, epoch) for epoch in epochs)


def _rewrite_runs(rows: sqlite3.Connection, then: str, now: str, experiment: int) -> None:
    """But for runs whose files are still there and not here: those of an experiment adopted."""
    for run, address in rows.execute(_RUNS, (experiment,)).fetchall():
        if not address.startswith(then + "/"):
            continue
        moved = now + address.removeprefix(then)
        was, here = local_folder(address), local_folder(moved)
        if was is None or here is None or here.is_dir() or not was.is_dir():
            rows.execute(_PLACE, (moved, run))


def _columns(rows: sqlite3.Connection) -> list[tuple[str, str]]:
    rows_of_tables = rows.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    tables = {name for (name,) in rows_of_tables}
    return [(table, column) for table, column in _ADDRESSES if table in tables]


def _rewrite(
    rows: sqlite3.Connection, table: str, column: str, then: str, now: str, experiment: int
) -> None:
    """Put one folder in the place of another at the head of addresses, and of nothing else."""
    rows.execute(
        f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
        f" WHERE experiment_id = ? AND ({column} = ? OR substr({column}, 1, ?) = ?)",
        (now, len(then) + 1, experiment, then, len(then) + 1, then + "/"),
    )


@contextlib.contextmanager
def no_stray_folders(file: Path) -> Iterator[None]:
    """MLflow makes the folders of an address, not of the file: none is left of an escaped one."""
    written = Path(sqlite_uri(file).removeprefix("sqlite:///")).parent
    missing = [folder for folder in (written, *written.parents) if not folder.exists()]
    try:
        yield
    finally:
        for folder in missing if written != file.parent else ():
            with contextlib.suppress(OSError):
                folder.rmdir()


def _relax(connection: Any, _record: object) -> None:
    """Fewer flushes: a power cut may lose the newest rows, which the journal still has."""
    connection.execute("PRAGMA synchronous=NORMAL")
