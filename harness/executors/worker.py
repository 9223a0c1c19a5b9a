"""What runs beside a subject: one job as a generator of reports that ends with how it ended.

Both executors run exactly this, in the driver's process or in a Ray actor. It writes inside the
attempt folder and the trial's log only.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness import installation
from harness.contract import Context, CorruptCheckpoint, Outcome, Report
from harness.errors import SubjectError
from harness.executors.base import DEADLINE, Deadline, Ended, Job, watch
from harness.executors.job_file import take_job
from harness.executors.trial_log import LogStream, TrialLog
from harness.journal import attempts, environment
from harness.journal.item_table import KINDS
from harness.journal.prompt_values import complaints
from harness.journal.seeds import stream_for
from harness.subjects.load import load_subject
from harness.text.spelling import keeping_end, said_by

_OVER = object()
NO_OUTCOME = "ended without an outcome"
SMOKE_OVER = "smoke"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def thread_environment(cpus: float) -> dict[str, str]:
    """Environment that gives numerical libraries as many threads as the trial has CPUs."""
    return dict.fromkeys(THREAD_VARIABLES, str(max(1, int(cpus))))


def limit_threads(cpus: float) -> None:
    """Set the thread environment of this process; before numerical libraries are imported."""
    os.environ.update(thread_environment(cpus))


def execute(job: Job) -> Generator[tuple[float, Report | Ended]]:
    """Run one job: reports with their Unix time as they come, each on disk first, then one `Ended`.

    Failures of the subject are told, never raised; only KeyboardInterrupt passes through.
    """
    began = time.monotonic()  # a clock may be set back meanwhile
    device = environment.device_model(job.gpus > 0)
    deadline = Deadline(job.notice, job.deadline)
    attempts.start_attempt(job.folder)
    with LogStream(job.log) as log:
        trial_log = TrialLog(job, log, device)
        ended = Ended(state="failed", reason=NO_OUTCOME)
        try:
            for at, event in _reports(job, log, deadline):
                if isinstance(event, Ended):
                    ended = event
                    break
                trial_log.report(event, at)
                yield at, event
            else:
                if deadline.past:
                    ended = Ended(state="killed", reason=DEADLINE)
        except (Exception, SystemExit) as error:  # a subject may raise anything
            ended = _failure(error)
        seconds = time.monotonic() - began
        ended = ended.model_copy(update={"seconds": seconds, "device": device})
        trial_log.ended(ended)
        yield time.time(), ended


def execute_file(file: Path) -> Generator[tuple[float, Report | Ended]]:
    """Execute the job in a JSON file; meanwhile this process's output goes to the trial's log."""
    try:
        job = take_job(file)
    except (OSError, ValueError) as error:
        reason = f"the worker cannot read its job: {error}; is the workspace on shared storage?"
        yield time.time(), Ended(state="failed", reason=reason)
        return
    limit_threads(job.cpus)
    saved = {number: os.dup(number) for number in (1, 2)}  # native code writes there as well
    log = LogStream(job.log)
    try:
        for number in saved:
            os.dup2(log.fileno(), number)
        yield from execute(job)
    finally:
        for number, copy in saved.items():
            os.dup2(copy, number)
            os.close(copy)
        log.close()


def _failure(error: BaseException) -> Ended:
    reason = keeping_end(f"{type(error).__name__}: {said_by(error)}", 500)
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as unprintable:  # of its cause, its notes, its source
        text = f"{reason}\n(its traceback cannot be printed: {type(unprintable).__name__})\n"
    return Ended(state="failed", reason=_clean(reason), traceback=_clean(text))


def _clean(text: str) -> str:
    """Text that a journal takes: half a surrogate pair is none."""
    return str(text).encode(errors="backslashreplace").decode()


def _next(running: Iterator[object]) -> object:
    """What a subject yields next; `_OVER` at its end.

    Raises:
        SubjectError: for what no `except Exception` would stop, as GeneratorExit: told like others.
    """
    try:
        return next(running, _OVER)
    except (Exception, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise SubjectError(
            f"the subject raised {type(error).__name__}: {said_by(error)}"
        ) from error


def _checked(yielded: object) -> Report:
    """A report that keeps the contract, also where it was made past its own checks.

    Raises:
        SubjectError: says what was yielded instead, or what is wrong with it.
    """
    if not isinstance(yielded, Report):
        raise SubjectError(
            f"the subject yielded {_kind(yielded)}; `run`, `measure` and `reference` yield "
            "harness.contract.Report(step=..., metrics={...}), nothing else"
        )
    try:
        return Report.model_validate(dict(yielded.__dict__))
    except ValidationError as error:
        places = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3]
        )
        raise SubjectError(f"the subject yielded a Report that is none: {places}") from error


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _reports(
    job: Job, log: LogStream, deadline: Deadline
) -> Iterator[tuple[float, Report | Ended]]:
    """Reports of the first checkpoint that loads; they are appended to reports.jsonl."""
    with redirect_stdout(log), redirect_stderr(log):
        subject = load_subject(job.subject, project=job.project)
        installation.guard_children(job.cache)
    candidates: list[Path | None] = [None]
    if job.resume_from is not None:
        candidates = [job.resume_from, *job.fallbacks, None]
    for index, candidate in enumerate(candidates):
        running = _start(subject, job, candidate, deadline)
        first = True
        try:
            while True:
                with redirect_stdout(log), redirect_stderr(log):
                    yielded = _next(running)
                if yielded is _OVER:
                    return
                report = _with_complaints(job, subject, _checked(yielded))
                at = time.time()
                if first:
                    report = _first(job, candidate, index, report)
                    first = False
                # On disk before anybody is told: a worker that dies a moment later has reported it
                # all the same.
                attempts.append_report(job.folder, at, report)
                yield at, report
                ended = _ending(job, report)
                if ended is not None:
                    yield at, ended
                    return
        except CorruptCheckpoint as error:
            if not first or candidate is None:
                raise
            log.write(f"checkpoint {candidate.name} is corrupt, falling back: {error}\n")
        finally:
            close = getattr(running, "close", None)
            if close is not None:
                with redirect_stdout(log), redirect_stderr(log):
                    _closed(close)


def _with_complaints(job: Job, subject: Any, report: Report) -> Report:
    """With what is wrong in the tables that it names: they will not be used, and nothing fails."""
    if not any(artifact.kind in KINDS for artifact in report.artifacts):
        return report
    declared = getattr(subject, "metrics", None)
    facts = complaints(job.folder, report, declared if isinstance(declared, Mapping) else None)
    return report.model_copy(update={"info": {**report.info, **facts}}) if facts else report


def _closed(close: Callable[[], None]) -> None:
    """Close a subject's generator; what it raises then is told in its log and changes nothing."""
    try:
        close()
    except Exception as error:
        print(f"closing the subject raised {type(error).__name__}: {said_by(error)}")


def _first(job: Job, candidate: Path | None, index: int, report: Report) -> Report:
    """Forget carried reports past the start, and say so if a checkpoint was passed over."""
    attempts.rewind(job.folder, report)
    if not index:
        return report
    name = f"checkpoint {candidate.name}" if candidate is not None else "the beginning"
    fallback = f"the last {index} checkpoint(s) were corrupt; continued from {name}"
    return report.model_copy(update={"info": {**report.info, "checkpoint_fallback": fallback}})


def _ending(job: Job, report: Report) -> Ended | None:
    """How this report ends the job, if it does. A measurement that is not finite diverged."""
    not_finite = report.non_finite() if report.measured else ()
    if not_finite:
        names = ", ".join(not_finite)
        return Ended(state="diverged", reason=f"{names} not finite at step {report.step}")
    if report.outcome is not None:
        outcome: Outcome = report.outcome
        return Ended(state=outcome.state, reason=outcome.reason)
    if job.stop_at_step is not None and report.step >= job.stop_at_step:
        return Ended(state="done", reason=SMOKE_OVER)
    return None


def _start(
    subject: Any, job: Job, resume_from: Path | None, deadline: Deadline
) -> Iterator[Report]:
    context = Context(
        key=job.key,
        replicate=job.replicate,
        seed=stream_for(job.replicate),
        folder=job.folder,
        measurement=job.measurement,
        resume_from=resume_from,
        cache=job.cache,
        device="cuda" if job.gpus > 0 else "cpu",
        gpus=job.gpus,
    )
    context = watch(context, deadline)
    if job.mode == "measure":
        reports = subject.measure(job.student, job.measurement.protocol, context)
    elif job.mode == "reference":
        reports = subject.reference(job.recipe, context)
    else:
        reports = subject.run(job.recipe, context)
    if not isinstance(reports, Iterable):
        name = "run" if job.mode == "train" else job.mode
        raise SubjectError(
            f"the subject's `{name}` gave {_kind(reports)}, not an iterator of Reports"
        )
    return iter(reports)
