"""Records that MLflow keeps with each study's run: written by the report, fetched by `reproduce`.

The files under `results/` of a study's run are what `export` writes: a compact journal and the
answer. They are enough to reproduce any trial of the study on another machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness.errors import HarnessError, NotJudgedError
from harness.program import NAME, typed
from harness.trackers.address import sqlite_file, tracking_uri
from harness.trackers.mlflow_runs import MlflowStore
from harness.trackers.projection import RECORDS
from harness.trackers.rows import TAG
from harness.words import last_words
from harness.workspace import Workspace


class StudyRun(NamedTuple):
    """The run of a study."""

    run_id: str
    study: str


class RecordStore(MlflowStore):
    """A server read for the records that its studies' runs carry."""

    def study_runs(self) -> Iterator[StudyRun]:
        """The runs of all studies on the server."""
        self._open()
        for experiment in self._client.search_experiments():
            self.experiment_id = experiment.experiment_id
            for run in self._search(f"tags.`{TAG}kind` = 'study'"):
                yield StudyRun(run.info.run_id, run.data.tags.get(TAG + "study", ""))

    def download(self, run_id: str, folder: str, target: Path) -> bool:
        """Copy a folder of a run's files below `target`; False if the run has none of that name."""
        if not self._client.list_artifacts(run_id, folder):
            return False
        self._client.download_artifacts(run_id, folder, str(target))
        return True


def fetch(uri: str, workspace: Workspace) -> dict[Path, str]:
    """Copy the records of every study on a server into the workspace's cache.

    Args:
        uri: address of the server, or `sqlite:////path`.
        workspace: copies go into its cache.

    Returns:
        folder -> what it is a copy of; one for each study that has records.

    Raises:
        HarnessError: if the server cannot be reached.
        NotJudgedError: if no run there carries records.
    """
    address = tracking_uri(workspace, uri)
    mark = hashlib.sha256(address.encode()).hexdigest()[:12]
    file = sqlite_file(address)
    if file is not None and not file.is_file():
        raise HarnessError(f"MLflow's database {file} is not there")
    store = RecordStore(workspace, address)
    found, bare = {}, []
    studies: list[str] = []
    try:
        for run in store.study_runs():
            target = workspace.cache / "mlflow-records" / mark / run.run_id
            target.mkdir(parents=True, exist_ok=True)
            name = f"{address}, study {run.study}, run {run.run_id}"
            if store.download(run.run_id, RECORDS, target):
                found[target / RECORDS] = name
            else:
                bare.append(name)
                studies.append(run.study)
    except Exception as error:  # a server may fail in any way
        raise HarnessError(
            f"MLflow at {address} cannot be read: {type(error).__name__}: "
            f"{last_words(str(error), 300)}"
        ) from error
    finally:
        store.close()
    if not found:
        seen = "; ".join(bare) or "no study's run"
        raise NotJudgedError(
            f"no records on {address} ({seen}): a study's run carries them once its report was "
            f"made. Where it ran, `{typed('sync', *studies[:1], name=NAME)}` writes them"
        )
    return found
