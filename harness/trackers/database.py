"""The SQLite file behind MLflow: made in one piece, opened with fewer flushes."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.trackers.address import on_network, quiet, sqlite_uri


def prepared(file: Path, engine_of: Callable[[str], Any]) -> Any:
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
            made = engine_of(sqlite_uri(temporary))
        made.dispose()
        if not on_network(file.parent):  # write-ahead logs need memory shared by all readers
            with contextlib.closing(sqlite3.connect(temporary)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
        temporary.replace(file)
    engine = engine_of(sqlite_uri(file))
    sqlalchemy.event.listen(engine, "connect", _relax)
    engine.dispose()
    return engine


@contextlib.contextmanager
def no_strays(file: Path) -> Iterator[None]:
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
