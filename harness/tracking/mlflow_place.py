"""Whether a tracking server holds all of a study: a stamp left with the last write, and a look.

The look is for a `run` that has nothing to do: it imports no mlflow and never waits long.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import queue
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from harness.errors import HarnessError
from harness.journal.history import History
from harness.journal.workspace import Workspace
from harness.planning.plan import Plan
from harness.text.secrets import without_credentials
from harness.tracking.address import sqlite_file, sync_command, tracking_uri
from harness.tracking.ownership import Ownership, epochs_in, name_to_write_to
from harness.tracking.run_write import TAG, WRITTEN
from harness.tracking.tracker import Tracker

LOOK_SECONDS = 3.0
"""A server that does not answer within it counts as away; the whole of it, however it answers."""
SETTLE_SECONDS = 15.0
"""How long trials wait for MLflow's own client to say whose the study is, where only it can."""
RUNS_SECONDS = 20.0
"""For all runs of an experiment, which are asked for once: where an earlier version wrote it."""
MOST_BYTES = 2**22
"""Of an answer: an experiment with its saved views is far smaller."""
Made = TypeVar("Made")
_FIND = "SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = ?"
_TAGS = "SELECT key, value FROM experiment_tags WHERE experiment_id = ?"
_RUN_TAGS = (
    "SELECT r.run_uuid, t.key, t.value FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid"
    " WHERE r.experiment_id = ? AND r.lifecycle_stage = ? AND t.key LIKE ?"
)


class SeenExperiment(NamedTuple):
    """An experiment as a look shows it."""

    id: str
    active: bool
    tags: dict[str, str]

    @property
    def stamp(self) -> str:
        """What was all there when it was written last; empty where that is not known."""
        return self.tags.get(WRITTEN, "") if self.active else ""


class AwayError(Exception):
    """There is no way to the server, or it does not answer; the text says how that showed."""


def stamp(plan: Plan, history: History, page: Path) -> str:
    """Digest of what a server should hold: the plan, how each attempt ended, and the report."""
    trials = []
    for key in sorted({t.trial.key for t in plan.trials}):
        record = history.trials.get(key)
        ended = [
            [a.opened.attempt, a.opened.nonce, a.closed.state if a.closed else ""]
            for a in (record.ordered if record else ())
        ]
        trials.append([key, record.superseded_to if record else 0, ended])
    # What MLflow holds is known by this alone, in one request and without importing mlflow. So runs
    # that somebody deletes there one by one are not missed.
    report = hashlib.sha256(page.read_bytes()).hexdigest() if page.is_file() else ""
    text = json.dumps([plan.study, plan.digest, trials, report])
    return hashlib.sha256(text.encode()).hexdigest()


class MlflowPlace:
    """Where a study is tracked: makes the tracker, looks whose it is there, names the remedy.

    Raises:
        HarnessError: for an address or a name that cannot work.
    """

    def __init__(
        self,
        workspace: Workspace,
        given: str | None = None,
        *,
        beside: str | None = None,
        adopt: bool = False,
    ) -> None:
        """Take an address, and what `--as` and `--adopt` say."""
        self.workspace = workspace
        self.uri = tracking_uri(workspace, given)
        self.beside = name_to_write_to(beside)
        self.adopt = adopt
        if beside and adopt:
            raise HarnessError(
                "give --as or --adopt, not both: one writes beside what is there, the other goes "
                "on in its place"
            )

    def __call__(self) -> Tracker:
        """The tracker; imports mlflow once it writes."""
        from harness.tracking.mlflow_tracker import MlflowTracker

        return MlflowTracker(self.workspace, self.uri, beside=self.beside, adopt=self.adopt)

    def look(self, study: str, history: History, stamp_wanted: str = "") -> SeenExperiment | None:
        """The experiment of a study, if it may be written; None where only a client can tell.

        One that an earlier version left, and that bears the wanted stamp, is not looked into: that
        takes a while, and there is nothing to write.

        Raises:
            AwayError: if nobody answers there.
            ElsewhereError: if it was continued from elsewhere.
        """
        owner = self._owner(study)
        experiment = self._seen(owner.experiment)
        if (
            experiment is not None
            and stamp_wanted
            and experiment.stamp == stamp_wanted
            and not epochs_in(experiment.tags)
        ):
            return experiment
        if experiment is not None and experiment.id:
            owner.know(history)
            owner.judge(experiment.tags, lambda: self._run_tags(experiment))
        return experiment

    def refuse_strangers(self, study: str, history: History) -> bool:
        """See whose the study is there before anything is started; True once that is known.

        A server that does not answer stops nobody.

        Raises:
            ElsewhereError: if it was continued from elsewhere.
        """
        try:
            return self.look(study, history) is not None
        except AwayError:
            return True  # the tracker looks when it is back

    def remember(self, study: str) -> None:
        """Keep the name that was given for the study's experiment."""
        self._owner(study).remember()

    def sync(self, study: str, beside: str = "") -> str:
        """The command that writes what a server lacks of a study."""
        return sync_command(self.workspace, study, self.uri, beside or self.beside)

    def _owner(self, study: str) -> Ownership:
        return Ownership(self.workspace, self.uri, study, beside=self.beside, adopt=self.adopt)

    def _seen(self, experiment: str) -> SeenExperiment | None:
        file = sqlite_file(self.uri)
        if file is not None:
            return _in_sqlite(file, experiment)
        if urllib.parse.urlparse(self.uri).scheme in ("http", "https"):
            return _in_time(lambda: _on_server(self.uri, experiment), LOOK_SECONDS)
        return None

    def _run_tags(self, seen: SeenExperiment) -> list[dict[str, str]]:
        """Tags of the runs in an experiment, deleted ones of a deleted experiment.

        Raises:
            AwayError: if they cannot be had in time.
        """
        file = sqlite_file(self.uri)
        if file is not None:
            return _runs_in_sqlite(file, seen)
        return _in_time(lambda: _runs_on_server(self.uri, seen), RUNS_SECONDS)


def _in_sqlite(file: Path, experiment: str) -> SeenExperiment:
    none = SeenExperiment("", False, {})
    if not file.exists():
        return none
    with _reading(file) as rows:
        row = rows.execute(_FIND, (experiment,)).fetchone()
        if row is None:
            return none
        tags = dict(rows.execute(_TAGS, (row[0],)).fetchall())
        return SeenExperiment(str(row[0]), row[1] == "active", tags)
    return none


def _runs_in_sqlite(file: Path, seen: SeenExperiment) -> list[dict[str, str]]:
    tags_of: dict[str, dict[str, str]] = {}
    with _reading(file) as rows:
        state = "active" if seen.active else "deleted"
        for run, key, value in rows.execute(_RUN_TAGS, (seen.id, state, TAG + "%")):
            tags_of.setdefault(run, {})[key] = value
    return [tags for tags in tags_of.values() if tags.get(TAG + "kind")]


@contextlib.contextmanager
def _reading(file: Path) -> Iterator[Any]:
    """A connection that writes nothing; without MLflow's tables the reading ends in silence.

    Raises:
        AwayError: if the file cannot be read.
    """
    import sqlite3

    try:
        connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=LOOK_SECONDS)
        with contextlib.closing(connection):
            yield connection
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise AwayError(f"{file}: {error}") from error
    except sqlite3.Error as error:
        raise AwayError(f"{file}: {error}") from error


def _in_time(ask: Callable[[], Made], seconds: float) -> Made:
    """Asked in a thread: a socket's own timeout is for each byte, not for the answer."""
    answers: queue.SimpleQueue[tuple[Made | None, Exception | None]] = queue.SimpleQueue()

    def asking() -> None:
        try:
            answers.put((ask(), None))
        except Exception as error:
            answers.put((None, error))

    threading.Thread(target=asking, name="stillhouse-look", daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise AwayError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise AwayError(str(getattr(error, "reason", "") or error) or type(error).__name__)
    return answer  # type: ignore[return-value]


def _on_server(uri: str, experiment: str) -> SeenExperiment | None:
    import urllib.error
    import urllib.request

    from harness.tracking.remote import authorization, opener

    query = urllib.parse.urlencode({"experiment_name": experiment})
    place = f"{without_credentials(uri).rstrip('/')}/api/2.0/mlflow/experiments/get-by-name?{query}"
    request = urllib.request.Request(place, headers=authorization(uri))
    try:
        with opener().open(request, timeout=LOOK_SECONDS) as answer:
            content = json.loads(answer.read(MOST_BYTES))
        experiment_there = content.get("experiment", {})
        tags = {str(t["key"]): str(t.get("value", "")) for t in experiment_there.get("tags", [])}
        number = str(experiment_there.get("experiment_id", ""))
        return SeenExperiment(number, experiment_there.get("lifecycle_stage") == "active", tags)
    except urllib.error.HTTPError as error:
        none = SeenExperiment("", False, {})
        return none if error.code == 404 else None  # the client may know how to be let in
    except (ValueError, KeyError, TypeError, AttributeError):  # no answer of MLflow's
        return None


def _runs_on_server(uri: str, seen: SeenExperiment) -> list[dict[str, str]]:
    from harness.tracking.remote import Remote

    remote = Remote(uri)
    condition = f"tags.`{TAG}kind` != ''"
    runs = remote.runs(seen.id, condition, deleted=not seen.active)
    return [{tag.key: tag.value for tag in run.data.tags} for run in runs]
