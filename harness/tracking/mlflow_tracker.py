"""Records a study in MLflow: calls become writes; what the journal holds is replayed first."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from harness.analysis.model import Answer
from harness.contract import Artifact, Report
from harness.errors import HarnessError
from harness.journal import claims, shards, temporary_folders
from harness.journal.command_line import NAME, typed
from harness.journal.history import History, TrialHistory
from harness.journal.records import Closed, Opened
from harness.journal.states import ENDED, OVER
from harness.journal.workspace import Workspace, project_of
from harness.planning.plan import Plan
from harness.planning.reuse import as_read_by
from harness.subjects.load import load_subject
from harness.text.secrets import without_credentials
from harness.tracking.address import sync_command, tracking_uri
from harness.tracking.background_writer import BackgroundWriter
from harness.tracking.mlflow_store import MlflowStore
from harness.tracking.names import MOST_NAMES, Remark, for_mlflow, renamed
from harness.tracking.ownership import Ownership
from harness.tracking.pages import TABLE_TAG, VIEWS, items_table, link, note, saved_views
from harness.tracking.projection import Projection, study_files
from harness.tracking.run_write import ORPHAN, STUDY, TAG, Point, RunWrite, Store

KNOWN_HEADLINES = ["t2i/fid", "t2i/kd", "t2i/clip"]
KNOWN_HEADLINES += ["edit/fidelity", "edit/following", "edit/preservation"]
"""Used where the subject cannot be imported (`sync` on another machine)."""
REPORTS = "reports.jsonl"


class ExperimentStore(Store, Protocol):
    """A store that keeps one experiment."""

    uri: str
    experiment_name: str
    experiment_id: str
    owner: Ownership | None


class Past(NamedTuple):
    """Attempts of one trial as they stood when the tracker started."""

    key: str
    attempts: list[tuple[Opened, Closed | None]]
    superseded_to: int
    live: bool
    """Another driver is running it: its last attempt is left alone."""
    replaces: bool = False
    """The run showed results of other code before."""


def _replaces(trial: TrialHistory | Past, attempt: int) -> bool:
    """Whether an attempt's values take the place of others that the run showed."""
    return trial.replaces or 0 < trial.superseded_to < attempt


class LiveTracker:
    """A tracker fed by the driver; every call returns at once, one thread does the writing."""

    def __init__(
        self,
        workspace: Workspace,
        store: ExperimentStore,
        *,
        beside: str = "",
        adopt: bool = False,
    ) -> None:
        """Take where to write, and what was answered: see `Ownership`."""
        self._workspace = workspace
        self._store = store
        self._answered = (beside, adopt)
        self._background = BackgroundWriter(store)
        self._projection: Projection | None = None
        self._interim: Interim | None = None
        self._history: History | None = None
        self._started = 0.0
        self._closed: dict[str, tuple[Closed, Path]] = {}
        self._names: set[str] = set()
        self._renamed: dict[str, str] = {}
        self._told: set[tuple[str, str]] = set()
        """Key and nonce of every attempt whose end was passed on."""
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def start(self, plan: Plan, history: History) -> None:
        """A run of the study begins (or `sync`): make sure everything recorded is there."""
        project = _project(self._workspace, plan)
        headline, declared = _metrics(plan, project)
        beside, adopt = self._answered
        owner = Ownership(self._workspace, self._store.uri, plan.study, beside=beside, adopt=adopt)
        owner.know(history)
        owner.remember()
        projection = self._projection = Projection(
            plan, headline, project, declared, workspace=owner.workspace_id
        )
        self._history = history
        self._store.owner, self._store.experiment_name = owner, owner.experiment
        past = [p for p in (self._past(t.trial.key, history) for t in plan.trials) if p]
        self._told.update((p.key, o.nonce) for p in past for o, c in p.attempts if c is not None)
        self._interim = Interim(projection, [closed for closed, _ in self._closed.values()])
        starts = [p.attempts[0][0].at for p in past]
        starts += [record.at for record in history.planned.get(plan.study, ())]
        self._started = min(starts, default=time.time())
        tags = {
            TAG + "study": plan.study,
            TAG + "question": plan.question[:5000],
            "mlflow.experimentKind": "custom_model_development",
            **saved_views(plan, [projection.metric(name) for name in headline]),
        }
        first_note = note(plan, None, self._links_hint())
        racing = shards.others_live(self._workspace, plan.study)

        def action(background: BackgroundWriter) -> None:
            background.experiment_tags.update(tags)
            background.experiment_defaults["mlflow.note.content"] = first_note
            background.look_for(p.key for p in past if racing)
            background.add(projection.study_opened(self._started))
            background.replays = self._replays(past, projection, background)

        self._background.put(action)

    def settle(self, seconds: float) -> None:
        """Wait a while for the server's word on whether the study may be written there."""
        self._background.connected.wait(seconds)
        if self._background.elsewhere is not None:
            raise self._background.elsewhere

    def opened(self, record: Opened) -> None:
        projection, history = self._projection, self._history
        assert projection is not None, "start() comes first"
        assert history is not None
        assert self._store.owner is not None
        self._store.owner.attempts.add((record.key, record.nonce))
        trial = history.trials.get(record.key)
        rerun = trial is not None and _replaces(trial, record.attempt)
        self._background.put(lambda b: b.add(projection.opened(record, rerun=rerun)))

    def report(self, key: str, attempt: int, report: Report, folder: Path, at: float) -> None:
        """A report arrived from the attempt in `folder` at Unix time `at`."""
        projection = self._projection
        assert projection is not None, "start() comes first"
        self._note_names(report.metrics)
        write = projection.report(key, report, folder, at)  # smaller than the report, if it waits
        self._background.put(lambda b: b.add(write))

    def closed(self, record: Closed, folder: Path) -> None:
        projection, interim = self._projection, self._interim
        assert projection is not None, "start() comes first"
        self._closed[record.key] = (record, folder)
        self._told.add((record.key, record.nonce))
        for measured in record.measurements:
            self._note_names(measured.metrics)
        arms = interim.add(record) if interim else ()
        self._background.put(lambda b: b.add(projection.closed(record, folder), *arms))

    def answer(self, answer: Answer, report_html: Path | None) -> None:
        projection = self._projection
        assert projection is not None, "start() comes first"
        self._interim = None  # what it wrote is replaced below
        elsewhere = [self._replay(p, projection) for p in self._finished_elsewhere(projection.plan)]
        closed = dict(self._closed)
        at = max((c.at for c, _ in closed.values()), default=self._started)
        self._scratch = tempfile.TemporaryDirectory(
            prefix=temporary_folders.folder_prefix("tables")
        )
        scratch = Path(self._scratch.name)
        files = study_files(report_html)
        text = note(projection.plan, answer, self._links_hint())

        def action(background: BackgroundWriter) -> None:
            background.look_for(write.ident for write in elsewhere)
            background.add(*elsewhere)
            for row in answer.arms:
                if row.kind != "arm":
                    continue
                write = projection.arm(row, answer, self._started, at)
                write.files = items_table(_panels(row.keys, closed), scratch / row.arm)
                write.tags |= TABLE_TAG if write.files else {}
                background.add(write)
            tags = {
                TAG + "verdict": projection.verdict_line(answer),
                TAG + "scope": projection.claimed(answer),
            }
            background.add(RunWrite(STUDY, tags={k: v for k, v in tags.items() if v}, files=files))
            background.experiment_tags["mlflow.note.content"] = text

        self._background.put(action)

    def complete(self, history: History, stamp: str) -> None:
        """All of the history is told with this, and the stamp is left once it is written.

        Left out while other drivers run the study: what they record, they write themselves.
        """
        projection = self._projection
        assert projection is not None, "start() comes first"
        if shards.others_live(self._workspace, projection.plan.study):
            return
        past = [self._past(t.trial.key, history) for t in projection.plan.trials]
        late = [
            self._replay(p, projection)
            for p in past
            if p and any(c and (p.key, o.nonce) not in self._told for o, c in p.attempts)
        ]

        def action(background: BackgroundWriter) -> None:
            background.look_for(write.ident for write in late)
            background.add(*late)
            background.stamp = stamp

        self._background.put(action)

    def close(self, timeout: float = 60.0) -> list[str]:
        """Flush and stop; returns warnings: what could not be written, and `sync` as the remedy."""
        projection = self._projection
        if projection is not None:
            ended = [closed for closed, _ in self._closed.values()]
            done = {c.key for c in ended if c.state in OVER}
            complete = all(t.trial.key in done for t in projection.plan.trials)
            last = max((c.at for c in ended), default=self._started)
            write = RunWrite(
                ident=STUDY,
                tags={TAG + "state": "done" if complete else "incomplete"},
                status="FINISHED" if complete else "KILLED",
                end_ms=round(1000 * last),
            )
            writes = [write, *(self._interim.stopped() if self._interim else ())]
            self._background.put(lambda b: b.add(*writes))
        warnings = self._background.close(timeout)
        if self._scratch is not None:
            self._scratch.cleanup()
        if warnings and projection is not None:
            elsewhere, (beside, _) = self._background.elsewhere, self._answered
            name = elsewhere.proposal if elsewhere is not None else beside
            command = sync_command(self._workspace, projection.plan.study, self._store.uri, name)
            warnings.append(f"The journal has everything: {command} writes the rest")
        remarks = [*self._background.remarks, renamed(self._renamed)]
        return [*warnings, *(Remark(text) for text in remarks if text)]

    def links(self) -> dict[str, str]:
        """Name of each saved view to its address; empty where no server is running (see `ui`)."""
        if not self._store.uri.startswith("http") or not self._store.experiment_id:
            return {}
        return {
            v.name: link(without_credentials(self._store.uri), self._store.experiment_id, v)
            for v in VIEWS
        }

    def _note_names(self, names: Iterable[str]) -> None:
        """Remember those that MLflow shows differently; new ones only, for speed."""
        for name in names if len(self._names) < MOST_NAMES else ():
            if name not in self._names:
                self._names.add(name)
                if (there := for_mlflow(name)) != name:
                    self._renamed[name] = there

    def _links_hint(self) -> str:
        if self._store.uri.startswith("http"):
            return ""
        return typed("ui", workspace=self._workspace, name=NAME)

    def _past(self, key: str, history: History) -> Past | None:
        trial = history.trials.get(key)
        if trial is None or not trial.attempts:
            return None
        attempts = [(a.opened, a.closed) for a in trial.ordered]
        if self._store.owner is not None:
            self._store.owner.attempts.update((key, o.nonce) for o, _ in attempts)
        counted = trial.complete or trial.latest
        if counted is not None and counted.closed is not None:
            folder = self._folder(counted.opened)
            if counted.opened.attempt > trial.superseded_to:
                self._closed[key] = (counted.closed, folder)
        live = attempts[-1][1] is None and claims.is_claimed(self._workspace.trial(key))
        return Past(key, attempts, trial.superseded_to, live, trial.replaces)

    def _finished_elsewhere(self, plan: Plan) -> list[Past]:
        """Trials that another driver ran meanwhile (studies share trials): nobody told us."""
        missing = [t.trial.key for t in plan.trials if t.trial.key not in self._closed]
        history = as_read_by(plan, History.read([self._workspace.journal] if missing else []))
        past = [p for key in missing if (p := self._past(key, history))]
        alone = not shards.others_live(self._workspace, plan.study)  # live shards tell their own
        return [p for p in past if alone and p.key in self._closed]

    def _replays(
        self, past: list[Past], projection: Projection, background: BackgroundWriter
    ) -> Iterator[RunWrite]:
        everything = background.known or {}
        planned = {STUDY, *(t.trial.key for t in projection.plan.trials)}
        planned |= {"arm/" + arm.name for arm in projection.plan.arms}
        for ident in sorted(set(everything) - planned):
            yield RunWrite(ident, tags={TAG + "kind": ORPHAN})
        for trial in past:
            known = everything.get(trial.key)
            opened, closed = trial.attempts[-1]
            marker = f"{opened.attempt}-{opened.nonce}"
            if known is not None and known.tags[TAG + "kind"] != ORPHAN:
                same = known.tags.get(TAG + "attempt") == marker
                if same and known.ended and closed is not None:
                    continue
            if not trial.live:
                yield self._replay(trial, projection)

    def _replay(self, trial: Past, projection: Projection) -> RunWrite:
        write = RunWrite(ident=trial.key)
        for opened, closed in trial.attempts:
            folder, last = self._folder(opened), opened.at
            rerun = _replaces(trial, opened.attempt)
            write.merge(projection.opened(opened, live=False, rerun=rerun))
            for at, report in finite_reports(folder / REPORTS):
                write.merge(projection.report(trial.key, report, folder, at))
                last = at
            if closed is not None:
                write.merge(projection.closed(closed, folder))
            else:
                write.merge(projection.interrupted(trial.key, last))
        return write

    def _folder(self, opened: Opened) -> Path:
        name = f"{opened.attempt}-{opened.nonce}"
        return self._workspace.trial(opened.key) / "attempts" / name


def finite_reports(file: Path) -> Iterator[tuple[float, Report]]:
    """Reports of an attempt with their Unix time, without torn lines and numbers not finite."""
    if not file.is_file():
        return
    for line in file.read_text(encoding="utf-8").split("\n"):
        try:
            row: dict[str, Any] = json.loads(line)
            fields: dict[str, Any] = row["report"]
            values = fields.get("metrics", {}).items()
            metrics = {k: float(v) for k, v in values if v is not None and math.isfinite(float(v))}
            artifacts = [Artifact.model_validate(a) for a in fields.get("artifacts", ())]
            report = Report(
                step=fields["step"],
                metrics=metrics,
                measured=fields.get("measured", False),
                artifacts=tuple(artifacts),
            )
            yield float(row["at"]), report
        except (ValueError, KeyError, TypeError):
            continue


def _panels(
    keys: dict[int, str], closed: dict[str, tuple[Closed, Path]]
) -> list[tuple[str, str, Path]]:
    """Item, caption and file of the first finished replicate's panels at its last step."""
    for _, key in sorted(keys.items()):
        if key not in closed:
            continue
        record, folder = closed[key]
        panels = [a for a in record.artifacts if a.kind == "panel"]
        last = max((p.step or 0 for p in panels), default=0)
        rows = [
            (f"{p.item}-{p.draw}" if p.draw else p.item or Path(p.path).stem, p.caption, p.path)
            for p in panels
            if (p.step or 0) == last
        ]
        if rows:
            return [(item, caption, folder / path) for item, caption, path in rows]
    return []


def _metrics(plan: Plan, project: Path) -> tuple[list[str], list[str] | None]:
    """Metrics of the first table and all declared ones; None where the subject is not at hand."""
    try:
        specs = load_subject(plan.subject, project=project).metrics
        return [name for name, spec in specs.items() if spec.headline], list(specs)
    except HarnessError:
        metrics = [plan.primary, *(c.metric for c in plan.contrasts)]
        return list(dict.fromkeys([n for n in metrics if n] + KNOWN_HEADLINES)), None


def _project(workspace: Workspace, plan: Plan) -> Path:
    """Folder the study's path is relative to."""
    file = Path(plan.study_file)
    return project_of(file) if file.is_absolute() or file.is_file() else workspace.root.parent


class MlflowTracker(LiveTracker):
    """Records a study in MLflow: `MlflowTracker(workspace)`, or with a tracking URI.

    Without a URI, MLFLOW_TRACKING_URI counts, else a SQLite file in the workspace.

    Raises:
        HarnessError: for `file:` URIs and plain folders, which MLflow no longer writes.
    """

    def __init__(
        self, workspace: Workspace, uri: str | None = None, *, beside: str = "", adopt: bool = False
    ) -> None:
        """Take where to write, and what was answered should others have written there.

        Args:
            workspace: whose journal is projected.
            uri: the address, else as above.
            beside: name of the experiment to write to; default as remembered, else the study's.
            adopt: go on with what another workspace wrote, where its history is here.
        """
        store = MlflowStore(workspace, tracking_uri(workspace, uri))
        super().__init__(workspace, store, beside=beside, adopt=adopt)
        self.uri = store.uri


EVERY_SECONDS = 30.0
"""Arms are brought up to date at most this often; a short study shows them with its answer."""


class Interim:
    """Counts what ended, per arm. The answer replaces everything it wrote."""

    def __init__(self, projection: Projection, ended: Iterable[Closed] = ()) -> None:
        self._projection = projection
        self._arm_of = {
            t.trial.key: t.trial.arm for t in projection.plan.trials if t.trial.kind == "trial"
        }
        self._planned = Counter(self._arm_of.values())
        self._closed = {record.key: record for record in ended if record.key in self._arm_of}
        self._changed: set[str] = set()
        self._next = time.monotonic() + EVERY_SECONDS
        self._shown: set[str] = set()

    def add(self, record: Closed) -> list[RunWrite]:
        """Take in a trial that ended; the arms to write now, mostly none."""
        if record.key not in self._arm_of:
            return []
        self._closed[record.key] = record
        self._changed.add(self._arm_of[record.key])
        if time.monotonic() < self._next:
            return []
        self._next = time.monotonic() + EVERY_SECONDS
        changed, self._changed = self._changed, set()
        self._shown |= changed
        return [self._write(arm) for arm in sorted(changed)]

    def stopped(self) -> list[RunWrite]:
        """The study ends without an answer: no arm may look as if it were still running."""
        ends = [record.at for record in self._closed.values()]
        at_ms = round(1000 * max(ends, default=0.0))
        return [
            RunWrite(ident="arm/" + arm, status="KILLED", end_ms=at_ms)
            for arm in sorted(self._shown)
        ]

    def _write(self, arm: str) -> RunWrite:
        mine = [r for key, r in self._closed.items() if self._arm_of[key] == arm]
        done = [r for r in mine if r.state == "done"]
        at_ms = round(1000 * max(r.at for r in mine))
        values: dict[str, list[float]] = {}
        for record in done:
            final = record.measurements[-1].metrics if record.measurements else {}
            for name, value in final.items():
                if value is not None and name in self._projection.headline:
                    values.setdefault(name, []).append(value)
        planned = self._planned[arm]
        points = [
            Point(
                self._projection.metric(name),
                sum(numbers) / len(numbers),
                len(done),
                at_ms,
                True,
            )
            for name, numbers in values.items()
        ]
        points.append(Point("n_done", float(len(done)), len(done), at_ms, True))
        points.append(Point("n_planned", float(planned), len(done), at_ms, True))
        counted = f"{len(done)} of {planned} replicates"
        over = sum(r.state in ENDED for r in mine) >= planned
        state = counted if over else f"interim: {counted}"
        write = self._projection.arm_row(arm, min(r.at - r.seconds for r in mine))
        write.tags |= {TAG + "state": state, TAG + "estimate": state}
        write.points, write.status = points, "RUNNING"
        return write
