"""Values by prompt of measurements recorded without any, from the items they stored.

A subject that can make its tables from an attempt's folder (`prompt_tables`) is asked for them;
nothing is sampled and no record is touched. What comes out is packed beside the workspace's
journal, where values by prompt are looked for, under the very attempt they belong to.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.analysis.answered_study import AnsweredStudy
from harness.contract import Subject
from harness.errors import WorkspaceError
from harness.journal import attempts
from harness.journal.history import Attempt
from harness.journal.item_table import KINDS, TableError, read_table
from harness.journal.prompt_values import (
    PACKED,
    PromptTables,
    Unusable,
    all_rows,
    checked,
    packed_text,
    rows_of,
    values_of,
)
from harness.journal.records import MeasuredAt
from harness.journal.workspace import Workspace
from harness.report.results import counting
from harness.text.spelling import said_by


@dataclass
class Filled:
    """What came of it."""

    made: int = 0
    """Measurements that have values by prompt now."""
    left: list[str] = field(default_factory=list)
    """Why others have none, a line each."""


def fill_in_prompt_values(
    answered: AnsweredStudy, metrics: list[str], echo: Callable[[str], None]
) -> Filled:
    """Make values by prompt of a study's measurements that have none of these metrics.

    Args:
        answered: the study; the attempts in its workspace are looked into, where the values are
            written, and its subject is asked for the tables.
        metrics: whose values are kept.
        echo: prints one line where there is something to do.

    Raises:
        WorkspaceError: if the workspace cannot be written.
    """
    filled = Filled()
    subject, workspace = answered.subject, answered.workspace
    again = getattr(subject, "prompt_tables", None)
    if again is None:
        return filled
    lacking = list(_lacking(answered, metrics))
    if not lacking:
        return filled
    echo(f"values by prompt of {len(lacking)} measurements, from their stored items ...")
    rows: list[tuple[str, ...]] = []
    for attempt, measured in lacking:
        new_rows, why = _made(again, subject, workspace, attempt, measured, metrics)
        if new_rows:
            filled.made += 1
            rows += new_rows
        else:
            opened = attempt.opened
            filled.left.append(f"{opened.trial.short} at step {measured.step}: {why}")
    if rows:
        _add(workspace.journal / PACKED, rows)
    return filled


def _lacking(answered: AnsweredStudy, metrics: list[str]) -> Iterator[tuple[Attempt, MeasuredAt]]:
    history, workspace = answered.history, answered.workspace
    tables = PromptTables(history)
    for planned in answered.plan.trials:
        if planned.trial.kind == "reference":
            continue  # no contrast judges it
        record = history.trials.get(planned.trial.key)
        for attempt in counting(record) if record is not None else ():
            if attempt.closed is None or not attempts.folder_of(workspace, attempt).is_dir():
                continue
            for measured in attempt.closed.measurements:
                wanted = [m for m in metrics if m in measured.metrics]
                if wanted and not any(tables.packed_rows(attempt, measured, m) for m in wanted):
                    yield attempt, measured


def _made(
    again: Any,
    subject: Subject,
    workspace: Workspace,
    attempt: Attempt,
    measured: MeasuredAt,
    metrics: list[str],
) -> tuple[list[tuple[str, ...]], str]:
    """Rows of one measurement; why there are none."""
    opened = attempt.opened
    recipe, protocol = opened.trial.recipe, opened.protocol_name
    try:
        if subject.fingerprints(recipe, protocol).protocol != opened.protocol:
            return [], f"protocol {protocol} is another now"
        folder = attempts.folder_of(workspace, attempt)
        tables: Mapping[str, str] = again(folder, measured.step, recipe, protocol, workspace.cache)
        return _rows(tables, attempt, measured, metrics)
    except Exception as error:  # a subject may raise anything
        return [], f"{type(error).__name__}: {said_by(error)}"


def _rows(
    tables: Mapping[str, str], attempt: Attempt, measured: MeasuredAt, metrics: list[str]
) -> tuple[list[tuple[str, ...]], str]:
    rows: list[tuple[str, ...]] = []
    why = "its stored items say nothing of these metrics"
    # Through files, as `read_table` is the one reader that checks tables of others, sizes included.
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            file = Path(folder) / f"{kind}.csv"
            file.write_text(tables.get(kind, ""), encoding="utf-8")
            try:
                table = read_table(file, kind, [m for m in metrics if m in measured.metrics])
            except TableError as error:
                why = f"{kind}: {error}"
                continue
            for metric in table.values if table is not None else ():
                value = measured.metrics[metric]
                try:
                    if table is not None and value is not None:
                        values = checked(values_of(table, metric), metric, value)
                        rows += rows_of(attempt, measured, metric, values)
                except Unusable as error:
                    why = str(error)
    return rows, why


def _add(file: Path, rows: list[tuple[str, ...]]) -> None:
    """Into the file, the rows that are there before them; theirs of the same place go."""
    new = {row[:4] for row in rows}
    before = [row for row in all_rows(file) if row[:4] not in new]
    temporary = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        temporary.write_bytes(packed_text([*before, *rows]))
        temporary.replace(file)
    except OSError as error:
        raise WorkspaceError(
            f"{file} cannot be written: {error.strerror or error}. A copy of the workspace that "
            "can be, named with --workspace, will do"
        ) from error
