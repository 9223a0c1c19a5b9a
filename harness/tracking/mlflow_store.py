"""The server side of MLflow, owned by one thread: the only module that imports mlflow."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.journal.workspace import Workspace
from harness.text.identifiers import identifier
from harness.text.secrets import without_credentials
from harness.tracking import run_write
from harness.tracking.address import artifact_homes, folder_for, sqlite_file
from harness.tracking.ownership import ElsewhereError, Ownership, epochs_in
from harness.tracking.pages import changed_by_user, write_pictures
from harness.tracking.run_write import (
    STUDY,
    TAG,
    DataSet,
    KnownRun,
    Point,
    RefusedError,
    RunWrite,
    Status,
)
from harness.tracking.sqlite_file import (
    ARTIFACTS_TAG,
    follow_artifacts,
    no_stray_folders,
    prepared_database,
)

logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # we retry, and say so
PAGE = 1000
MOST_PAGES = 1000
POINTS_PER_CALL = 1000  # the server's own limit; the client would split, too, but not retry parts
LOCK_SECONDS = 60.0
# Ours to retry: MLflow's own defaults wait minutes for an absent server, and truncate in silence.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",  # what the user named is where it goes
}
REFUSED: tuple[str, ...] = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")
REFUSED += ("PERMISSION_DENIED", "UNAUTHENTICATED", "RESOURCE_DOES_NOT_EXIST")


class MlflowStore:
    """One experiment on one tracking server."""

    def __init__(self, workspace: Workspace, uri: str) -> None:
        self.uri = uri
        self.experiment_name = ""
        self.experiment_id = ""
        self.owner: Ownership | None = None
        """Whose runs are meant; without it nothing is written."""
        self._follows = False
        """Whether files of the experiment lie in the workspace, wherever that is now."""
        self._workspace = workspace
        self._lock = FileLock(workspace.root / "mlflow.lock", timeout=LOCK_SECONDS)
        self._client: Any = None
        self._engine: Any = None

    def connect(self) -> dict[str, KnownRun]:
        """Reach the server, make the experiment; return our runs in it by identity.

        What others wrote there is left alone. Where a run of ours exists twice (a request came
        late), an ended one counts, else the older, and the other is deleted softly.
        """
        with _translated():
            self._open()
            with self._lock:
                self._ensure_experiment()
            runs: dict[str, KnownRun] = {}
            for run in self._search(f"tags.`{TAG}kind` != ''"):
                ident = run_write.run_name_of(run.data.tags)
                if not ident or not self._is_ours(run):
                    continue
                known = _known(run)
                if ident in runs:
                    if known.ended and not runs[ident].ended:
                        known, runs[ident] = runs[ident], known
                    self._client.delete_run(known.run_id)
                else:
                    runs[ident] = known
            return runs

    def find(self, ident: str) -> KnownRun | None:
        with _translated():
            runs = self._search(run_write.filter_of(ident))
            return next((_known(run) for run in runs if self._is_ours(run)), None)

    def only(self, ident: str, run_id: str) -> None:
        """Delete (softly) other runs of ours of that identity, made by a request that came late."""
        with _translated():
            for run in list(self._search(run_write.filter_of(ident))):
                if run.info.run_id != run_id and self._is_ours(run):
                    self._client.delete_run(run.info.run_id)

    def create(self, write: RunWrite, tags: Mapping[str, str]) -> KnownRun:
        """Create a run with all its tags; runs that drivers share are searched first, locked."""
        if write.ident == STUDY or write.ident.startswith("arm/"):
            with _translated(), self._lock:
                return self.find(write.ident) or self._create(write, tags)
        return self._create(write, tags)

    def history(self, run_id: str, names: Sequence[str]) -> dict[str, dict[int, float]]:
        values_of: dict[str, dict[int, float]] = {}
        with _translated():
            for name in names:
                rows = self._client.get_metric_history(run_id, name)
                rows = sorted(rows, key=lambda m: (m.step, m.timestamp))
                values_of[name] = {m.step: m.value for m in rows}
        return values_of

    def log(
        self, run_id: str, points: Sequence[Point], params: dict[str, str], tags: dict[str, str]
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(p.name, p.value, p.at_ms, p.step) for p in points]
        chunks = [metrics[i : i + POINTS_PER_CALL] for i in range(0, len(metrics), POINTS_PER_CALL)]
        with _translated():
            # Tags go with the last points: they name the attempt, and a run that names it is taken
            # for whole.
            for chunk in chunks[:-1]:
                self._client.log_batch(run_id, metrics=chunk)
            self._client.log_batch(
                run_id,
                metrics=chunks[-1] if chunks else (),
                params=[Param(k, v) for k, v in params.items()],
                tags=[RunTag(k, v) for k, v in tags.items()],
            )

    def inputs(self, run_id: str, datasets: Sequence[DataSet]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = [
            DatasetInput(
                Dataset(d.name, d.digest, source_type="local", source="{}"),
                [InputTag("mlflow.data.context", d.context)],
            )
            for d in datasets
        ]
        with _translated():
            self._client.log_inputs(run_id, inputs)

    def put(self, known: KnownRun, write: RunWrite) -> None:
        """Store files and pictures; what is there already is replaced, never doubled."""
        homes = artifact_homes(self._workspace, self.uri)
        place = known.artifact_uri
        if self._follows:  # whatever the database says of where the workspace was
            place = (self._workspace.artifacts / identifier("run", known.run_id)).as_uri()
            place += "/artifacts"
        with _translated(), folder_for(place, homes) as (folder, uploads):
            for name, content in write.files.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(content, bytes):
                    target.write_bytes(content)
                elif content.is_file():
                    shutil.copyfile(content, target)
            any_picture = write_pictures(write.pictures, folder)
            if uploads and any(folder.iterdir()):
                self._client.log_artifacts(known.run_id, str(folder))
            if any_picture and known.tags.get("mlflow.loggedImages") != "True":
                self._client.set_tag(known.run_id, "mlflow.loggedImages", "True")
                known.tags["mlflow.loggedImages"] = "True"

    def set_status(self, run_id: str, status: Status, end_ms: int | None) -> None:
        with _translated():
            if status == "RUNNING":
                self._client.update_run(run_id, status=status)
            else:
                self._client.set_terminated(run_id, status=status, end_time=end_ms)

    def experiment(self, tags: Mapping[str, str], defaults: Mapping[str, str]) -> None:
        """Set tags of the experiment where they differ; never a view that a user changed.

        Raises:
            ElsewhereError: if somebody went on with it from elsewhere since it was reached.
        """
        with _translated():
            there = self._client.get_experiment(self.experiment_id).tags
            if self.owner is not None and epochs_in(there):
                self.owner.judge(there, self._run_tags)
            for name, value in {**defaults, **there, **tags}.items():
                if there.get(name) != value and not changed_by_user(name, there.get(name)):
                    self._client.set_experiment_tag(self.experiment_id, name, value)

    def close(self) -> None:
        """Let go of connections; SQLite then folds its log back into the one file."""
        if self._engine is not None:
            self._engine.dispose()

    def _open(self) -> None:
        if self._client is not None:
            return
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        file = sqlite_file(self.uri)
        if file is not None:
            with self._lock, no_stray_folders(file):
                self._engine = _prepare_sqlite(file, self._workspace.artifacts)
                if file == self._workspace.database:
                    follow_artifacts(self._workspace, file)
                self._client = MlflowClient(self.uri)
            return
        self._client = MlflowClient(self.uri)

    def _ensure_experiment(self) -> None:
        """Make it, or see that it is this workspace's; leave this process's epoch there.

        Raises:
            ElsewhereError: if it was continued from elsewhere.
        """
        owner, name = self.owner, self.experiment_name
        file = sqlite_file(self.uri)
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None and self._made(name, file):
            return
        experiment = experiment or self._client.get_experiment_by_name(name)
        number = self.experiment_id = experiment.experiment_id
        before = dict(experiment.tags)
        deleted = experiment.lifecycle_stage == "deleted"
        if owner is not None:
            owner.judge(before, lambda: self._run_tags(deleted))
        if deleted:
            self._client.restore_experiment(number)
        if owner is not None:
            self._claim(owner, before)
        if file is not None and ARTIFACTS_TAG in before:
            follow_artifacts(self._workspace, file, number)
            self._follows = True

    def _made(self, name: str, file: Path | None) -> bool:
        """Make the experiment with the epoch in it; False where another process was first."""
        from mlflow.exceptions import MlflowException

        tags = self.owner.mark() if self.owner is not None else {}
        local = self._workspace.artifacts.as_uri() if file is not None else None
        if local is not None:
            tags[ARTIFACTS_TAG] = local
        try:
            self.experiment_id = self._client.create_experiment(name, local, tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return False
        if self.owner is not None:
            self.owner.settled(tags)
        self._follows = local is not None
        return True

    def _claim(self, owner: Ownership, before: Mapping[str, str]) -> None:
        """Leave the epoch, then look again: of two that come at once none overlooks the other."""
        mark = owner.mark()
        for name, value in mark.items():
            if before.get(name) != value:
                self._client.set_experiment_tag(self.experiment_id, name, value)
        there = dict(self._client.get_experiment(self.experiment_id).tags)
        if set(epochs_in(there)) != {*epochs_in(before), *epochs_in(mark)}:
            try:
                owner.judge(there, self._run_tags)
            except ElsewhereError:
                for name in mark:
                    if epochs_in([name]):
                        self._client.delete_experiment_tag(self.experiment_id, name)
                raise
        for name in owner.settled(there):
            with contextlib.suppress(Exception):  # too many of them do no harm
                self._client.delete_experiment_tag(self.experiment_id, name)

    def _run_tags(self, deleted: bool = False) -> Iterator[dict[str, str]]:
        """Of every run of ours or of others like us; those of a deleted experiment are, too."""
        for run in self._search(f"tags.`{TAG}kind` != ''", deleted=deleted):
            yield dict(run.data.tags)

    def _is_ours(self, run: Any) -> bool:
        return self.owner is None or self.owner.owns(run.data.tags)

    def _search(self, condition: str, *, deleted: bool = False) -> Iterator[Any]:
        from mlflow.entities import ViewType

        token = None
        for _ in range(MOST_PAGES):
            page = self._client.search_runs(
                [self.experiment_id],
                filter_string=condition,
                run_view_type=ViewType.ALL if deleted else ViewType.ACTIVE_ONLY,
                max_results=PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from page
            if not page.token:
                return
            if page.token == token:
                break
            token = page.token
        raise RefusedError(f"its pages of runs have no end (more than {MOST_PAGES}, or one twice)")

    def _create(self, write: RunWrite, tags: Mapping[str, str]) -> KnownRun:
        with _translated():
            run = self._client.create_run(
                self.experiment_id, start_time=write.start_ms, tags=dict(tags), run_name=write.name
            )
            return _known(run)


def _known(run: Any) -> KnownRun:
    latest = {
        m.key: Point(m.key, m.value, m.step, m.timestamp)
        for m in run.data.to_proto().metrics  # the plain mapping drops step and timestamp
    }
    info, data = run.info, run.data
    return KnownRun(
        info.run_id, info.status, info.artifact_uri, dict(data.tags), dict(data.params), latest
    )


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Tell what the server refuses for good from what is worth trying again."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        text = without_credentials(str(error).strip())
        if "out-of-date database schema" in text:
            raise RefusedError(text.splitlines()[0]) from error
        if getattr(error, "error_code", "") in REFUSED:
            raise RefusedError(text.splitlines()[0][:300] if text else "") from error
        raise


def _prepare_sqlite(file: Path, artifacts: Path) -> Any:
    """Make the database if it is missing; return the engine MLflow will use."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    artifacts.mkdir(parents=True, exist_ok=True)
    return prepared_database(file, lambda uri: SqlAlchemyStore(uri, artifacts.as_uri()).engine)


def schema_of(uri: str) -> tuple[str, str]:
    """Schema of a database (empty if it has none) and the one this MLflow wants; writes nothing."""
    from mlflow.store.db.utils import _get_latest_schema_revision, _get_schema_version
    from sqlalchemy import create_engine

    return _get_schema_version(create_engine(uri)) or "", str(_get_latest_schema_revision())
