"""Records that MLflow keeps with each study's run: written by the report, fetched by `reproduce`.

The files under `results/` of a study's run are what `export` writes: a compact journal and the
answer. They are enough to reproduce any trial of the study on another machine. Whatever a server or
a database says is data: run ids and file names are checked before they become paths.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from harness.errors import HarnessError, NotJudgedError
from harness.journal.command_line import NAME, typed
from harness.journal.workspace import Workspace
from harness.text.identifiers import ForeignError, identifier, inside
from harness.text.printable import printable
from harness.text.secrets import without_credentials
from harness.text.spelling import last_words
from harness.tracking.address import local_folder, sqlite_file, tracking_uri
from harness.tracking.mlflow_store import MlflowStore
from harness.tracking.projection import RECORDS
from harness.tracking.remote import MOST_FILE_BYTES, Remote
from harness.tracking.run_write import TAG

MOST_RUNS, MOST_FILES = 10_000, 100
KINDS = (".json", ".jsonl")
STUDIES = f"tags.`{TAG}kind` = 'study'"


class StudyRun(NamedTuple):
    """The run of a study."""

    run_id: str
    study: str
    experiment: str
    """Each is written by one workspace; several may have a study of that name."""


class Keeper(Protocol):
    """Where studies' runs and their records are."""

    def study_runs(self) -> Iterator[StudyRun]: ...

    def download(self, run_id: str, target: Path) -> bool:
        """Copy a run's records into an empty folder; False if it has none."""

    def close(self) -> None:
        """Let go of connections."""


class ServerKeeper:
    """A server that is asked over HTTP: its word is worth nothing here, nor are its addresses."""

    def __init__(self, address: str) -> None:
        self._remote = Remote(address)

    def study_runs(self) -> Iterator[StudyRun]:
        """The runs of all studies on the server."""
        for experiment in self._remote.experiments():
            for run in self._remote.runs(experiment.experiment_id, STUDIES):
                study = run.tag(TAG + "study")
                yield StudyRun(run.info.run_id, study, experiment.name)

    def download(self, run_id: str, target: Path) -> bool:
        """Copy a run's records into an empty folder; False if it has none."""
        listed = [f for f in self._remote.files(run_id, RECORDS) if not f.is_dir]
        for name, file in _chosen([(f.path, f) for f in listed]):
            self._remote.download(run_id, file, inside(target, "file", name))
        return any(target.iterdir())

    def close(self) -> None:
        """Nothing is held."""


class RecordStore(MlflowStore):
    """A database read for the records that its studies' runs carry."""

    def study_runs(self) -> Iterator[StudyRun]:
        """The runs of all studies in the database."""
        self._open()
        for experiment in self._client.search_experiments():
            self.experiment_id = experiment.experiment_id
            for run in self._search(STUDIES):
                study = run.data.tags.get(TAG + "study", "")
                yield StudyRun(run.info.run_id, study, experiment.name)

    def download(self, run_id: str, target: Path) -> bool:
        """Copy a run's records into an empty folder; False if it has none."""
        folder = self._beside(run_id) or local_folder(
            self._client.get_run(run_id).info.artifact_uri
        )
        if folder is not None:
            self._copy(folder / RECORDS, target)
            return any(target.iterdir())
        listed = [f for f in self._client.list_artifacts(run_id, RECORDS) if not f.is_dir]
        for name, file in _chosen([(f.path, f) for f in listed]):
            if (file.file_size or 0) > MOST_FILE_BYTES:
                raise ForeignError(f"{name} of run {run_id} is larger than {MOST_FILE_BYTES:,} B")
            with tempfile.TemporaryDirectory(dir=target.parent) as beside:
                file_there = self._client.download_artifacts(run_id, f"{RECORDS}/{name}", beside)
                shutil.move(file_there, inside(target, "file", name))
        return any(target.iterdir())

    def _beside(self, run_id: str) -> Path | None:
        """Files of a run in the workspace that the database lies in: it may say where that was."""
        file = sqlite_file(self.uri)
        if file is None:
            return None
        place = inside(Workspace(file.parent).artifacts, "run", run_id, "artifacts")
        return place if place.is_dir() else None

    def _copy(self, folder: Path, target: Path) -> None:
        """From a folder of this machine; another machine's database names none of ours."""
        home = self._workspace.artifacts.resolve()
        if sqlite_file(self.uri) is None and not folder.resolve().is_relative_to(home):
            raise ForeignError(
                f"a run's files lie in {printable(str(folder))}, a folder of the server's own: "
                "not read. Give the server's http address, or a copy of the folder"
            )
        names = [f.name for f in folder.iterdir()] if folder.is_dir() else []
        for name, _ in _chosen([(f"{RECORDS}/{n}", None) for n in names]):
            file = inside(folder, "file", name)
            if file.is_file():
                if file.stat().st_size > MOST_FILE_BYTES:
                    raise ForeignError(f"{file} is larger than {MOST_FILE_BYTES // 2**20} MiB")
                shutil.copyfile(file, inside(target, "file", name))


def _chosen(listed: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Names of records among listed paths, each of them an identifier."""
    if len(listed) > MOST_FILES:
        raise ForeignError(f"a run has {len(listed):,} records, more than {MOST_FILES}")
    records = []
    for path, file in listed:
        if not path.startswith(RECORDS + "/"):
            raise ForeignError(f"file {ascii(path)[:80]} is refused: it is not in {RECORDS}/")
        name = identifier("file", path.removeprefix(RECORDS + "/"))
        if name.endswith(KINDS):
            records.append((name, file))
    return records


def fetch(uri: str, workspace: Workspace) -> dict[Path, str]:
    """Copy the records of every study on a server into the workspace's cache.

    Of a study that several workspaces wrote, the experiment of its own name is read: what one has
    measured is no answer about another's.

    Args:
        uri: address of the server, or `sqlite:////path`; `#NAME` at its end is the one experiment
            that is read.
        workspace: copies go into its cache.

    Returns:
        folder -> what it is a copy of; one for each study that has records.

    Raises:
        HarnessError: if the server cannot be reached, or says what cannot be.
        NotJudgedError: if no run there carries records.
    """
    uri, only = _split(uri)
    address = tracking_uri(workspace, uri)
    server = without_credentials(address)
    mark = hashlib.sha256(address.encode()).hexdigest()[:12]
    file = sqlite_file(address)
    if file is not None and not file.is_file():
        raise HarnessError(f"MLflow's database {file} is not there")
    home = workspace.cache / "mlflow-records" / mark
    copies, bare = {}, []
    over_http = address.startswith(("http://", "https://"))
    store: Keeper = ServerKeeper(address) if over_http else RecordStore(workspace, address)
    studies: list[str] = []
    try:
        runs = list(islice(store.study_runs(), MOST_RUNS + 1))
        if len(runs) > MOST_RUNS:
            raise ForeignError(f"MLflow at {server} has more than {MOST_RUNS:,} studies")
        chosen, unread = _one_of_each(runs, only)
        for run, also in chosen:
            target = inside(home, "run", run.run_id)
            name = f"{server}, study {printable(run.study)[:100]}, run {run.run_id}{also}"
            if _fresh(store, run.run_id, target):
                copies[target / RECORDS] = name
            else:
                bare.append(name)
                studies.append(run.study)
    except HarnessError:
        raise
    except Exception as error:  # a server may fail in any way
        raise HarnessError(
            f"MLflow at {server} cannot be read: {type(error).__name__}: "
            f"{printable(without_credentials(last_words(str(error), 300)))}"
        ) from error
    finally:
        store.close()
    bare += [
        f"study {printable(study)[:100]}, not read, as several workspaces wrote it: say which at "
        f"the end of the address ({others})"
        for study, others in unread.items()
    ]
    if copies and unread:
        last = next(reversed(copies))
        copies[last] += "; " + "; ".join(bare[-len(unread) :])
    if not copies:
        searched = "; ".join(bare) or "no study's run"
        raise NotJudgedError(
            f"no records on {server} ({searched}): a study's run carries them once its report was "
            f"made. Where it ran, `{typed('sync', *studies[:1], name=NAME)}` writes them"
        )
    return copies


def _split(uri: str) -> tuple[str, str]:
    """An address, and the experiment that is named behind it."""
    file = sqlite_file(uri)
    address, _, only = uri.rpartition("#")
    return (address, only) if address and not (file and file.is_file()) else (uri, "")


def _one_of_each(
    runs: list[StudyRun], only: str
) -> tuple[list[tuple[StudyRun, str]], dict[str, str]]:
    """The runs to read, one experiment a study, each with what is said of others; what is not read.

    Raises:
        HarnessError: if the experiment that is named is not there.
    """
    there = sorted({run.experiment for run in runs})
    if only and only not in there:
        names_there = printable(", ".join(there))[:300] or "none"
        raise HarnessError(
            f"--from: no experiment {only!r} with a study there; there are: {names_there}"
        )
    experiments_of: dict[str, set[str]] = {}
    for run in runs:
        experiments_of.setdefault(run.study, set()).add(run.experiment)
    chosen, unread = [], {}
    for run in runs:
        names = experiments_of[run.study]
        experiment_read = only or (run.study if len(names) > 1 else run.experiment)
        others = ", ".join(f"#{name}" for name in sorted(names - {experiment_read}))
        if run.experiment == experiment_read:
            also = f" (also written by others: {printable(others)[:200]})" if others else ""
            chosen.append((run, also))
        elif not only and experiment_read not in names:
            unread[run.study] = printable(others)[:200]
    return chosen, unread


def _fresh(store: Keeper, run_id: str, target: Path) -> bool:
    """Copy a run's records, in the place of an earlier copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix="new-", dir=target.parent))
    try:
        (fresh / RECORDS).mkdir()
        there = store.download(run_id, fresh / RECORDS)
        # Cut off in between there is no copy, and the next command fetches one.
        shutil.rmtree(target, ignore_errors=True)
        fresh.replace(target)
        return there
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
