"""What git keeps of a study: a compact journal that `plan` reads as history, answer and tables.

The journal holds the attempts whose results count, with their measurements, and the last failed one
of trials that have none. Left out are what points at files of one machine (artifacts), intervals of
extra metrics, and the host's name; a listing of source files stands once for each code digest.
Values by prompt of headline and judged metrics are packed beside it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from harness.analysis.answered_study import AnsweredStudy
from harness.contract import Artifact
from harness.errors import NotJudgedError
from harness.journal.history import Attempt, History, TrialHistory
from harness.journal.lines import lines_of
from harness.journal.prompt_values import PACKED, PromptTables, packed_text
from harness.journal.records import Closed, MeasuredAt, Opened, Planned, Record
from harness.planning import prompt_spread
from harness.planning.amendments import frozen_in
from harness.planning.plan import Plan
from harness.report import tables

JOURNAL = "journal.jsonl"

Kept = Callable[[Attempt], list[Artifact]]


def write_results(answered: AnsweredStudy, folder: Path, *, with_tables: bool = True) -> list[Path]:
    """Write journal, answer and tables; the same records give the same bytes.

    Args:
        answered: the study, answered.
        folder: made where missing; files of the same names are replaced.
        with_tables: off where the tables lie beside the folder already.

    Returns:
        the files written.

    Raises:
        NotJudgedError: no trial of the study has a result yet.
    """
    texts = result_files(answered, with_tables=with_tables)
    contents = {name: text.encode() for name, text in texts.items()} | packed(answered)
    folder.mkdir(parents=True, exist_ok=True)
    # Each is whole, but not all of them at once: a command that is cut off leaves a new journal
    # beside an older answer, until it is typed again.
    for name, content in contents.items():
        temporary = folder / f".{name}-{os.getpid()}"
        temporary.write_bytes(content)
        temporary.replace(folder / name)
    return [folder / name for name in contents]


def packed(answered: AnsweredStudy) -> dict[str, bytes]:
    """Values by prompt of the journal's measurements, under their file's name.

    Of headline metrics, the primary one and those that a contrast judges; nothing where no trial
    has any. The same records give the same bytes.
    """
    history = answered.history
    metrics = kept_metrics(answered)
    tables_of = PromptTables(history)
    rows = [
        row
        for planned in answered.plan.trials
        if (record := history.trials.get(planned.trial.key)) is not None
        for attempt in counting(record)
        for measured in (attempt.closed.measurements if attempt.closed is not None else ())
        for metric in metrics
        for row in tables_of.packed_rows(attempt, measured, metric)
    ]
    return {PACKED: packed_text(rows)} if rows else {}


def kept_metrics(answered: AnsweredStudy) -> list[str]:
    """Metrics whose values by prompt are kept: the headline, the primary one, what is judged."""
    plan = answered.plan
    headline = [name for name, about in answered.answer.metrics.items() if about["headline"]]
    judged = [contrast.metric for contrast in plan.contrasts]
    return list(dict.fromkeys([*headline, plan.primary, *judged]))


def result_files(
    answered: AnsweredStudy, kept: Kept = lambda attempt: [], *, with_tables: bool = True
) -> dict[str, str]:
    """Name to text of what `write_results` writes.

    Args:
        answered: the study, answered.
        kept: the artifacts of an attempt that go along with the journal and stay named in it.
        with_tables: off where the tables lie beside already.

    Raises:
        NotJudgedError: no trial of the study has a result yet.
    """
    answer, plan = answered.answer, answered.plan
    headline = {name for name, about in answer.metrics.items() if about["headline"]}
    records = list(_records(plan, answered.history, headline, kept))
    if not any(isinstance(record, Closed) for record in records):
        raise NotJudgedError(f"study {plan.study!r} has no result yet; run it first")
    files = {
        JOURNAL: "".join(f"{line}\n" for line in _lines(records)),
        "answer.json": answer.model_dump_json() + "\n",
    }
    if answer.prompt_spreads:
        files[prompt_spread.FILE] = prompt_spread.to_text(answer.prompt_spreads)
    for table in tables.tables(answer) if with_tables else ():
        files[f"{table.name}.csv"] = tables.to_csv(table)
    return files


def _lines(records: Iterable[Record]) -> Iterator[str]:
    described: set[str] = set()
    for record in records:
        for key, line in lines_of(record, described, exclude_defaults=True):
            described.add(key)
            yield line


def _records(plan: Plan, history: History, headline: set[str], kept: Kept) -> Iterator[Record]:
    announced = history.planned.get(plan.study, [])
    yield from _announced(announced)
    listed: set[str] = set()
    for planned in plan.trials:
        trial = history.trials.get(planned.trial.key)
        for attempt in counting(trial) if trial else ():
            assert attempt.closed is not None
            yield _opened(attempt.opened, listed)
            yield _closed(attempt.closed, headline, kept(attempt))


def _announced(records: list[Planned]) -> Iterator[Planned]:
    """The plans a study was run with, one a digest change; only the last one with its trials."""
    ordered = sorted(records, key=lambda record: record.at)
    steps = [r for r, before in zip(ordered, [None, *ordered], strict=False) if _differs(r, before)]
    for record in steps[:-1]:
        # Earlier plans stay for what they froze; which trials there are, the last one says.
        bare: dict[str, object] = {"trials": [], "codes": {}, "accepted": {}}
        yield record.model_copy(update={**bare, "frozen": record.frozen or frozen_in(record)})
    if steps:
        last = ordered[-1]
        names = ("trials", "codes", "accepted", "looks")
        yield steps[-1].model_copy(update={name: getattr(last, name) for name in names})


def _differs(record: Planned, before: Planned | None) -> bool:
    return before is None or before.digest != record.digest


def counting(trial: TrialHistory) -> list[Attempt]:
    """The complete attempt and later measurements of its student; else the last, if it failed.

    Of a reference row the complete attempt of each protocol.
    """
    first, latest = trial.complete, trial.latest
    counted = [
        a
        for a in trial.ordered
        if a is trial.complete_under(a.opened.protocol) or (first and _remeasured(a, first))
    ]
    if counted:
        return counted
    failed = latest is not None and latest.closed is not None and trial.state == "failed"
    return [latest] if latest is not None and failed else []


def _remeasured(attempt: Attempt, first: Attempt) -> bool:
    later = attempt.opened.attempt > first.opened.attempt
    return later and attempt.opened.mode == "measure" and attempt.closed is not None


def _opened(record: Opened, listed: set[str]) -> Opened:
    # A listing of source files goes along once for each code digest: with it `plan` says after a
    # change of code which file made the recorded trials stale.
    update: dict[str, object] = {"host": "", "resumed_from": None}
    if record.code in listed:
        update["code_files"] = {}
    if record.trial.data in listed:
        update["data_files"] = {}
    listed |= {record.code, record.trial.data}
    return record.model_copy(update=update)


def _closed(record: Closed, headline: set[str], artifacts: list[Artifact]) -> Closed:
    measurements = [
        MeasuredAt(
            step=measured.step,
            metrics=measured.metrics,
            estimates=[e for e in measured.estimates if e.name in headline],
        )
        for measured in record.measurements
    ]
    return record.model_copy(update={"measurements": measurements, "artifacts": artifacts})
