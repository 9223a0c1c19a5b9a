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
from pathlib import Path

from harness.confidential import without_credentials
from harness.journal import History
from harness.plan import Plan
from harness.program import typed
from harness.trackers.address import sqlite_file, tracking_uri
from harness.trackers.base import Tracker
from harness.trackers.rows import TAG
from harness.workspace import Workspace

WRITTEN = TAG + "written"
"""Tag of the experiment: the stamp of what was all there when it was written, last of all."""
LOOK_SECONDS = 3.0
"""A server that does not answer within it counts as away; the whole of it, however it answers."""
MOST_BYTES = 2**22
"""Of an answer: an experiment with its saved views is far smaller."""
_FIND = (
    "SELECT t.value FROM experiments e JOIN experiment_tags t ON t.experiment_id = e.experiment_id"
    " WHERE e.name = ? AND e.lifecycle_stage = 'active' AND t.key = ?"
)


class AwayError(Exception):
    """There is no way to the server, or it does not answer; the text says how that showed."""


def stamp(plan: Plan, history: History, page: Path) -> str:
    """Digest of what a server should hold: the plan, how each attempt ended, and the report."""
    trials = []
    for key in sorted({t.trial.key for t in plan.trials}):
        known = history.trials.get(key)
        ended = [
            [a.opened.attempt, a.opened.nonce, a.closed.state if a.closed else ""]
            for a in (known.ordered if known else ())
        ]
        trials.append([key, known.superseded_to if known else 0, ended])
    report = hashlib.sha256(page.read_bytes()).hexdigest() if page.is_file() else ""
    text = json.dumps([plan.study, plan.digest, trials, report])
    return hashlib.sha256(text.encode()).hexdigest()


class MlflowPlace:
    """Where a study is tracked: makes the tracker, looks for a stamp, names the remedy.

    Raises:
        HarnessError: for an address that cannot work.
    """

    def __init__(self, workspace: Workspace, given: str | None = None) -> None:
        self.workspace = workspace
        self.uri = tracking_uri(workspace, given)

    def __call__(self) -> Tracker:
        """The tracker; imports mlflow once it writes."""
        from harness.trackers.mlflow_runs import MlflowTracker

        return MlflowTracker(self.workspace, self.uri)

    def stamp(self, experiment: str) -> str | None:
        """The stamp there; empty where there is none, None where only a client can tell.

        Raises:
            AwayError: if nobody answers there.
        """
        file = sqlite_file(self.uri)
        if file is not None:
            return _in_sqlite(file, experiment)
        if urllib.parse.urlparse(self.uri).scheme in ("http", "https"):
            return _in_time(self.uri, experiment)
        return None

    def sync(self, study: str) -> str:
        """The command that writes what a server lacks of a study."""
        return sync_command(self.workspace, study, self.uri)


def sync_command(workspace: Workspace, study: str, uri: str) -> str:
    """What to type to bring the server at an address up to date; no password is in it."""
    own = sqlite_file(uri) == workspace.database
    words = [] if own else ["--mlflow", without_credentials(uri)]
    return typed("sync", study, *words, workspace=workspace)


def _in_sqlite(file: Path, experiment: str) -> str:
    import sqlite3

    if not file.exists():
        return ""
    try:
        connection = sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=LOOK_SECONDS)
        with contextlib.closing(connection):
            row = connection.execute(_FIND, (experiment, WRITTEN)).fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return ""
        raise AwayError(f"{file}: {error}") from error
    except sqlite3.Error as error:
        raise AwayError(f"{file}: {error}") from error
    return str(row[0]) if row else ""


def _in_time(uri: str, experiment: str) -> str | None:
    """Asked in a thread: a socket's own timeout is for each byte, not for the answer."""
    answers: queue.SimpleQueue[str | Exception | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_on_server(uri, experiment))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, name="stillhouse-look", daemon=True).start()
    try:
        found = answers.get(timeout=LOOK_SECONDS)
    except queue.Empty:
        raise AwayError(f"no answer within {LOOK_SECONDS:g} s") from None
    if isinstance(found, Exception):
        raise AwayError(str(getattr(found, "reason", "") or found) or type(found).__name__)
    return found


def _on_server(uri: str, experiment: str) -> str | None:
    import urllib.error
    import urllib.request

    from harness.trackers.remote import authorization, opener

    query = urllib.parse.urlencode({"experiment_name": experiment})
    place = f"{without_credentials(uri).rstrip('/')}/api/2.0/mlflow/experiments/get-by-name?{query}"
    request = urllib.request.Request(place, headers=authorization(uri))
    try:
        with opener().open(request, timeout=LOOK_SECONDS) as answer:
            content = json.loads(answer.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        return "" if error.code == 404 else None  # the client may know how to be let in
    except ValueError:
        return None
    found = content.get("experiment", {}) if isinstance(content, dict) else {}
    if not isinstance(found, dict) or found.get("lifecycle_stage") != "active":
        return ""
    tags = found.get("tags", [])
    return next((str(t["value"]) for t in tags if t.get("key") == WRITTEN), "")
