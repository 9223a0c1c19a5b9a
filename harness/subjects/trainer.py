"""An attempt of someone else's trainer: started, watched, stopped; its progress as reports."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.contract import Artifact, Context, CorruptCheckpoint, Outcome, Report
from harness.journal import attempts
from harness.journal.item_table import KINDS, NOT_USED
from harness.subjects import supervisor
from harness.subjects.placeholders import (
    OUTSIDE,
    SEED_BELOW,
    at_path,
    filled,
    placeholders,
    text_of,
)
from harness.subjects.settings import CommandSettings

POLL_SECONDS = 0.2
BEAT_SECONDS = 10.0
"""A sign of life at least this often, for the executor and the display."""
OUTPUT = "output.txt"
TAIL_LINES = 8
RECIPE_FILE = "recipe.json"
REPORTED = "reported so far"
"""Fact beside a checkpoint: the declared metrics that who continues from it may not tell again."""
_OUT_OF_MEMORY = re.compile(r"out of memory|outofmemoryerror", re.IGNORECASE)


class TrainerError(RuntimeError):
    """The trainer ended badly; the message holds its last lines."""


class OutOfMemoryError(TrainerError):
    """The trainer said that memory ran out: the machine's doing, so the trial may continue."""


class Trainer:
    """Runs the command once and turns its progress into reports."""

    def __init__(
        self, settings: CommandSettings, root: Path, recipe: dict[str, Any], context: Context
    ) -> None:
        """Take a command, the folder it is started in, the recipe and the attempt's context."""
        self.settings = settings
        self.root = root
        self.recipe = recipe
        self.context = context
        self.step = 0
        self.total: int | None = None
        self.stopped = False
        """True where it was stopped because its time was up."""
        self.own: dict[str, float] = {}
        """Last value of every declared metric."""
        self._progress = ProgressFile(Path(self.text(settings.progress)))
        self._known: set[str] = set()
        self._heard = False
        self._diverged = False

    def text(self, template: str) -> str:
        """A template filled in for this attempt."""
        return filled(template, self._value)

    def reports(self) -> Generator[Report, None, Outcome | None]:
        """Reports until the trainer ends; returns an outcome only where it diverged.

        Raises:
            TrainerError: it ended with another exit code than 0.
            CorruptCheckpoint: it did so before it reported anything, continuing from a checkpoint.
        """
        self._prepare()
        output = _output(self.context.folder)
        began = output.stat().st_size if output.exists() else 0
        with output.open("ab") as log:
            process = self._start(log.fileno())
            try:
                diverged = yield from self._watch(process)
            finally:
                if process.poll() is None:
                    _stop(process)
                    if not self._diverged:
                        self._keep_last_checkpoint()
        if diverged is None and not self.stopped:
            for report in self._new(last=True):
                diverged = diverged or report.outcome
                yield report
        complaint = self._progress.complaint()
        if complaint:
            print(f"warning: {complaint}")
            yield self._report(info={"progress": complaint})
        if diverged is None and not self.stopped and process.returncode:
            self._fail(process.returncode, _tail(output, began))
        return diverged

    def _prepare(self) -> None:
        if not self.root.is_dir():
            raise TrainerError(f"cwd {self.root} is not a folder on this machine")
        if lacking := self.settings.unset():
            raise TrainerError(f"`env` needs {', '.join(lacking)} in this machine's environment")
        folder = self.context.folder
        (folder / RECIPE_FILE).write_text(json.dumps(self.recipe, indent=1) + "\n")
        given = self.settings
        named = (given.progress, given.student, given.checkpoint, given.items, given.prompts)
        for template in named:
            if template and not _hangs_on_step(template.rpartition("/")[0]):
                Path(self.text(template)).parent.mkdir(parents=True, exist_ok=True)
        if self.context.resume_from is not None:
            # Its copy stands in this attempt's folder already, and is no new one.
            self._known.add(str(self.context.resume_from))
            for line in attempts.read_reports(folder):  # carried from the attempt it continues
                self.own |= json.loads(line.report.info.get(REPORTED, "{}"))

    def _start(self, log: int) -> subprocess.Popen[bytes]:
        words = [*self.settings.words]
        if self.context.resume_from is not None:
            words += self.settings.resume_words
        argv = [self.text(word) for word in words]
        env = os.environ | {name: self.text(value) for name, value in self.settings.env.items()}
        print("command: " + json.dumps(argv), flush=True)
        # -P keeps the supervisor's own folder off its path, whose modules would hide those of
        # others.
        keeper = [sys.executable, "-P", supervisor.__file__, str(self.settings.grace_seconds)]
        return subprocess.Popen(
            [*keeper, *argv], stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=self.root,
            env=env, start_new_session=True,
        )  # fmt: skip

    def _watch(self, process: subprocess.Popen[bytes]) -> Generator[Report, None, Outcome | None]:
        beat = time.monotonic() + BEAT_SECONDS
        while process.poll() is None:
            for report in self._new():
                yield report
                if report.outcome is not None:
                    return report.outcome
                beat = time.monotonic() + BEAT_SECONDS
            yield from self._checkpoints()
            if self.context.deadline is not None and time.time() > self.context.deadline:
                self.stopped = True
                _stop(process)
                yield from self._new(last=True)
                yield from self._checkpoints()
                return None
            if time.monotonic() > beat:
                yield self._report()
                beat = time.monotonic() + BEAT_SECONDS
            time.sleep(POLL_SECONDS)
        return None

    def _new(self, *, last: bool = False) -> Iterator[Report]:
        for line in self._progress.read(last=last):
            self._heard = True
            self.step, self.total = line.step, line.total or self.total
            self.own |= {n: v for n, v in line.metrics.items() if n in self.settings.metrics}
            reason = line.diverged or _nan(line, set(self.settings.metrics))
            if reason:
                self._diverged = True
                yield self._report(outcome=Outcome(state="diverged", reason=reason))
                return
            measured = {n: v for n, v in line.metrics.items() if n in self.settings.metrics}
            logged = {n: v for n, v in line.metrics.items() if n not in measured}
            yield self._report(metrics=logged)
            if measured and line.step in self.context.measurement.at:
                artifacts, told = self.tables(last=False)
                yield self._report(metrics=measured, measured=True, artifacts=artifacts, info=told)

    def tables(self, *, last: bool) -> tuple[tuple[Artifact, ...], dict[str, str]]:
        """Tables of this step as artifacts, and a fact for each that should be there and is not.

        A name without {step} is written anew: what it holds belongs to the `last` step alone.
        """
        found: list[Artifact] = []
        facts: dict[str, str] = {}
        for kind in KINDS:
            template: str | None = getattr(self.settings, kind)
            if not template or not (last or _hangs_on_step(template)):
                continue
            file = Path(self.text(template))
            if file.is_file():
                path = file.relative_to(self.context.folder).as_posix()
                found.append(Artifact(kind=kind, path=path, step=self.step))
            else:
                facts[NOT_USED[kind]] = f"the trainer left no {file.name} at step {self.step}"
        return tuple(found), facts

    def _report(self, **parts: Any) -> Report:
        return Report(step=self.step, total=self.total, **parts)

    def _checkpoints(self) -> Iterator[Report]:
        """The newest checkpoint, if it was not there before."""
        if not self.settings.checkpoint:
            return
        found = self._saved()
        if found and str(found[-1]) not in self._known:
            self._known.add(str(found[-1]))
            path = found[-1].relative_to(self.context.folder).as_posix()
            kept = Artifact(kind="checkpoint", path=path, step=self.step)
            told = {REPORTED: json.dumps(self.own)} if self.own else {}
            yield self._report(artifacts=(kept,), info=told)

    def _saved(self) -> list[Path]:
        """Every checkpoint in the attempt's folder, the newest last."""
        inside = Path(self.text(self.settings.checkpoint)).relative_to(self.context.folder)
        return sorted(self.context.folder.glob(str(inside)), key=_numbered)

    def thin(self) -> None:
        """Delete all checkpoints but the newest `keep` of them, once it ended well.

        One that holds the student is no resume point alone.
        """
        if self.settings.keep is None:
            return
        student = Path(self.text(self.settings.student)) if self.settings.student else None
        for path in self._saved()[: -self.settings.keep]:
            if student is None or not (path == student or path in student.parents):
                attempts.remove(path)

    def _keep_last_checkpoint(self) -> None:
        """What it saved when told to stop: nobody takes reports any more, so on disk only."""
        for report in (*self._new(last=True), *self._checkpoints()):
            attempts.append_report(self.context.folder, time.time(), report)

    def _fail(self, code: int, tail: str) -> None:
        how = f"ended with code {code}" if code < 128 else f"was ended by signal {code - 128}"
        said = f"the trainer {how}" + (f": {tail}" if tail else ", and printed nothing")
        if _OUT_OF_MEMORY.search(tail):
            raise OutOfMemoryError(said)
        # A command cannot raise this itself. Ending before its first word, when it continues, is
        # taken for a checkpoint it cannot read: the one before is tried, then the start.
        if self.context.resume_from is not None and not self._heard:
            raise CorruptCheckpoint(said)
        raise TrainerError(said)

    def _value(self, name: str) -> str:
        context = self.context
        if name.startswith(OUTSIDE):
            return os.environ[name.removeprefix(OUTSIDE)]
        space, _, rest = name.partition(".")
        if space == "recipe":
            return text_of(at_path(self.recipe, rest))
        if space == "seed":
            return str(context.seed(rest) % SEED_BELOW)
        return {
            "attempt": str(context.folder),
            "gpus": str(max(1, math.ceil(context.gpus))),
            "key": context.key,
            "recipe_file": str(context.folder / RECIPE_FILE),
            "replicate": str(context.replicate),
            "resume": str(context.resume_from or ""),
            "step": str(self.step),
        }[name]


def _hangs_on_step(template: str) -> bool:
    return any(placeholder.name == "step" for placeholder in placeholders(template))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe that keeps it alive and wait: SIGTERM, the grace time, SIGKILL."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait()
    except KeyboardInterrupt:  # a second Ctrl-C: nobody wants to wait
        process.terminate()
        raise


def _nan(line: ProgressLine, declared: set[str]) -> str:
    """Why a line means divergence: NaN anywhere, or an infinity among what is judged."""
    bad = [
        name
        for name, value in line.metrics.items()
        if math.isnan(value) or (name in declared and not math.isfinite(value))
    ]
    return f"{', '.join(bad)} not finite at step {line.step}" if bad else ""


def _output(folder: Path) -> Path:
    """Where the worker's output goes, if that is a file (the trial's log); else one of our own."""
    sys.stdout.flush()
    name = getattr(sys.stdout, "name", None)
    if isinstance(name, str | os.PathLike) and Path(name).is_file():
        return Path(name)
    return folder / OUTPUT


def _tail(output: Path, began: int) -> str:
    with output.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(began, size - 4096))
        text = stream.read().decode(errors="replace").replace("\r", "\n")
    lines = [line.rstrip() for line in text.split("\n") if line.strip()]
    told = [line for line in lines if not line.startswith(("==", "command: ", "warning: "))]
    return " | ".join(told[-TAIL_LINES:])[-400:]


def _numbered(path: Path) -> list[tuple[int, str]]:
    """Sorts `step-1000` after `step-200`."""
    return [(int(n or 0), text) for text, n in re.findall(r"(\D*)(\d*)", path.as_posix())]


LONGEST_LINE = 2**20
"""Bytes without a line end after which what was read is given up."""
READ_AT_ONCE = 2**22

_SURROGATE = b"\\ud"


@dataclass(frozen=True)
class ProgressLine:
    """One line of progress."""

    step: int
    total: int | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    diverged: str = ""
    """Why the trainer gives up; empty if it does not."""


class ProgressFile:
    """Reads what was appended since the last time. The file may not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ignored = 0
        self.first_ignored = ""
        self._offset = 0
        self._rest = b""
        self._step = 0

    def read(self, *, last: bool = False) -> Iterator[ProgressLine]:
        """New lines, in order. `last`: nobody writes any more, so a line needs no end."""
        while chunk := self._more():
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            yield from filter(None, map(self._line, lines))
            if len(self._rest) > LONGEST_LINE:
                self._ignore(self._rest, f"longer than {LONGEST_LINE} bytes")
                self._rest = b""
        if last and self._rest:
            rest, self._rest = self._rest, b""
            line = self._line(rest)
            if line is not None:
                yield line

    def complaint(self) -> str:
        """What was ignored, in words; empty if nothing was."""
        if not self.ignored:
            return ""
        return (
            f"{self.ignored} line(s) of {self.path.name} ignored, the first: {self.first_ignored}"
        )

    def _more(self) -> bytes:
        try:
            with self.path.open("rb") as stream:
                if stream.seek(0, 2) < self._offset:  # written anew: what was read is gone
                    self._offset, self._rest = 0, b""
                stream.seek(self._offset)
                chunk = stream.read(READ_AT_ONCE)
        except FileNotFoundError:
            return b""
        self._offset += len(chunk)
        return chunk

    def _line(self, raw: bytes) -> ProgressLine | None:
        if not raw.strip():
            return None
        try:
            content = json.loads(raw)
            if _SURROGATE in raw.lower():
                json.dumps(content, ensure_ascii=False).encode()  # half a pair is no letter
        except (ValueError, RecursionError):
            self._ignore(raw, "not JSON")
            return None
        step = _count(content.get("step")) if isinstance(content, dict) else None
        if step is None:
            self._ignore(raw, "no object with a whole `step` from 0 on")
            return None
        if step < self._step:
            self._ignore(raw, f"step {step} after step {self._step}")
            return None
        self._step = step
        said = content.get("diverged")
        return ProgressLine(
            step=step,
            total=_count(content.get("total")),
            metrics=_numbers(content),
            diverged=said if isinstance(said, str) else "it says so" if said is True else "",
        )

    def _ignore(self, raw: bytes, why: str) -> None:
        self.ignored += 1
        self.first_ignored = self.first_ignored or f"{raw[:80].decode(errors='replace')} ({why})"


def _count(value: Any) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if whole else None


def _numbers(content: dict[str, Any]) -> dict[str, float]:
    """The numbers of `metrics`, or without that those of the line itself; null is not a number."""
    given = content.get("metrics")
    if not isinstance(given, dict):
        given = {k: v for k, v in content.items() if k not in ("step", "total", "diverged")}
    found = {}
    for name, value in given.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                found[name] = float(value)
            except OverflowError:
                found[name] = math.inf
    return found
