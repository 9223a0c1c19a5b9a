"""Ray, started or joined in a process of its own, and MLflow: reached, of a schema that fits."""

from __future__ import annotations

import json
import tempfile
import time
from email.utils import parsedate_to_datetime
from importlib import metadata

from harness.doctor.finding import Finding, ProbeError, fail, ok, probe
from harness.doctor.storage import skewed
from harness.errors import HarnessError
from harness.executors import ray_process
from harness.journal import temporary_folders
from harness.journal.workspace import Workspace
from harness.text.identifiers import ForeignError
from harness.text.secrets import without_credentials
from harness.tracking.address import sqlite_file, tracking_uri
from harness.tracking.remote import Remote

RAY_SECONDS = 180.0
MLFLOW_SECONDS = 60.0
RAY = """
import json, sys
from pathlib import Path
from harness.errors import HarnessError
from harness.executors.ray_tune import RayExecutor
scratch, address, cpus, gpus = sys.argv[1:]
try:
    executor = RayExecutor(Path(scratch), address=address or None)
    print(json.dumps(["", executor.room(float(cpus), float(gpus))]))
except HarnessError as error:
    print(json.dumps([str(error), 0]))
"""
SCHEMA = """
import json, sys
from harness.tracking.mlflow_store import schema_of
print(json.dumps(schema_of(sys.argv[1])))
"""


def ray(address: str | None, cpus: float, gpus: float, seconds: float = RAY_SECONDS) -> Finding:
    """Whether Ray starts here, or lets us into a cluster, and has room for a trial."""
    try:
        if address is not None:
            ray_process.check_reachable(address)
        with tempfile.TemporaryDirectory(
            prefix=temporary_folders.folder_prefix("doctor")
        ) as scratch:
            arguments = (scratch, address or "", str(cpus), str(gpus))
            problem, room = json.loads(probe(RAY, *arguments, seconds=seconds))
    except HarnessError as error:
        return fail("ray", *_split(str(error)))
    except ProbeError as error:
        return fail("ray", str(error), "--inline runs without Ray; Ray's logs are in /tmp/ray")
    if problem:
        found, fix = _split(problem)
        return fail("ray", found, fix or "ask for less in `resources:`, or join a larger cluster")
    where = f"the cluster at {address}" if address else "starts here"
    return ok("ray", f"{where}, room for {room} trial(s) at once")


def mlflow(workspace: Workspace, given: str | None) -> list[Finding]:
    """Whether MLflow is reached and of a fitting version or schema; a server's clock too."""
    try:
        uri = tracking_uri(workspace, given)
    except HarnessError as error:
        return [fail("mlflow", *_split(str(error)))]
    if uri.startswith(("http://", "https://")):
        return _server(uri)
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        return [ok("mlflow", f"{uri} will be made by the first run")]
    return [_schema(uri)]


def _server(uri: str) -> list[Finding]:
    shown = without_credentials(uri)
    fix = (
        "start it (`mlflow server --backend-store-uri ...`), give its address with --mlflow or "
        "MLFLOW_TRACKING_URI, or run with --no-mlflow and use `sync` later"
    )
    asked = time.time()
    try:
        version, date = Remote(uri).version()
    except ForeignError as error:
        said = str(error).partition(" cannot be read: it ")[2] or str(error)
        if said.startswith(("answers 401", "answers 403")):
            fix = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or a token"
        return [fail("mlflow", f"{shown} {said}", fix)]
    ours = metadata.version("mlflow")
    if version.split(".")[:1] != ours.split(".")[:1]:
        state = fail(
            "mlflow",
            f"{shown} says it is version {version!r}; ours is {ours}",
            "is that an MLflow server? If so, bring both to the same major version",
        )
    else:
        state = ok("mlflow", f"{shown}, version {version}")
    try:
        skew = parsedate_to_datetime(date or "").timestamp() - asked
    except (ValueError, TypeError, OverflowError):  # none, or none that can be read
        return [state]
    return [state, skewed("mlflow clock", skew, "the MLflow server")]


def _schema(uri: str) -> Finding:
    shown = uri if sqlite_file(uri) is not None else without_credentials(uri)
    try:
        there, newest = json.loads(probe(SCHEMA, uri, seconds=MLFLOW_SECONDS))
    except ProbeError as error:
        locked = "database is locked" in str(error)
        fix = (
            "another program holds it: stop it, or wait"
            if locked
            else "check address, password and driver (psycopg2-binary for postgresql+psycopg2://)"
        )
        return fail("mlflow", f"{shown} cannot be read: {error}", fix)
    if there != newest:
        return fail(
            "mlflow",
            f"{shown} has schema {there or 'none'}, the installed MLflow wants {newest}",
            f"keep a copy, then: mlflow db upgrade {shown}",
        )
    return ok("mlflow", f"{shown}, schema {there}")


def _split(text: str) -> tuple[str, str]:
    found, _, fix = text.partition(". ")
    return found, fix
