"""What Tune is given to run: where its trials come from, in what order, who hears, who works.

Imported by `ray_tune` alone, which prepares the environment that Ray reads at its import.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback, PlacementGroupFactory, Trainable
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from harness import import_path
from harness.contract import Report
from harness.executors import ray_process
from harness.executors.base import Ended
from harness.executors.job_file import write_job
from harness.executors.job_queue import JobQueue

FLUSH_SECONDS = 0.5
"""Reports are sent together at most this often: a trip through Tune costs milliseconds."""
JOB_FILE = "job.json"


class Search(Searcher):  # type: ignore[misc]
    """Gives Tune a job as a trial whenever a slot is free for it."""

    def __init__(self, jobs: JobQueue) -> None:
        super().__init__()
        self._handed = jobs

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next job as the config of a Tune trial; None: later; FINISHED: no more."""
        job = self._handed.next(trial_id)
        if job is None:
            return None if self._handed.full else str(Searcher.FINISHED)
        file = job.folder / JOB_FILE
        write_job(job, file)
        return {"job": str(file), "cpus": job.cpus, "gpus": job.gpus}

    def on_trial_complete(self, trial_id: str, *args: Any, **details: Any) -> None:
        """Nothing to learn: this search knows what it wants."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing is restored from Tune."""

    restore = save

    def __deepcopy__(self, memo: dict[int, Any]) -> Search:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (Searcher, ())  # Tune pickles what it is given, to restore it; we never restore


class NewestFirst(FIFOScheduler):  # type: ignore[misc]
    """Gives a warm actor to the newest trial: older ones wait for actors that are starting up.

    First in, first out would give it to one of those, and throw its half-started actor away.
    """

    def __init__(self, jobs: JobQueue) -> None:
        super().__init__()
        self._handed = jobs

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The pending trial whose job was handed out last."""
        live = {trial.trial_id: trial for trial in tune_controller.get_live_trials()}
        for trial_id in self._handed.newest():
            if trial_id in live and live[trial_id].status == Trial.PENDING:
                return live[trial_id]
        return None

    def __deepcopy__(self, memo: dict[int, Any]) -> NewestFirst:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (FIFOScheduler, ())


class Listener(Callback):  # type: ignore[misc]
    """Turns what Tune tells into events."""

    def __init__(self, jobs: JobQueue) -> None:
        self._handed = jobs
        self._put_back = ray_process.signal_handlers()

    def setup(self, *args: Any, **info: Any) -> None:
        """Tune has just taken SIGUSR1 for itself."""
        self._put_back()

    def __reduce__(self) -> tuple[Any, ...]:
        return (Callback, ())

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Leave as soon as the driver is told to stop, or cannot go on."""
        self._handed.check()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """An actor took the job."""
        self._handed.started(trial.trial_id)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Reports, and maybe the end."""
        for at, kind, content in result.pop("events", ()):
            if kind == "report":
                self._handed.reported(trial.trial_id, Report.model_validate(content), at)
            else:
                self._handed.ended(trial.trial_id, Ended.model_validate(content), at)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Forget Tune's running statistics of a dozen timings: 13 KiB a trial, read by nobody."""
        trial.metric_analysis.clear()
        trial.metric_n_steps.clear()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Only a dead actor gets here: the trainable never raises."""
        error_text = str(trial.get_error() or "")
        self._handed.died(trial.trial_id, ray_process.cause_of_death(error_text))


def worker_of(rule: Mapping[str, Any]) -> type:
    """Class of the warm processes that execute one job after another.

    Classes made in a function cross processes by value: a worker that unpickles this one has
    imported nothing of ours yet, and `settle`, by value too, says where it imports it from. So no
    method names anything of ours but what it imports itself.

    Args:
        rule: see `installation.rule`.
    """
    look, problem, settle = import_path.look, import_path.problem, import_path.settle
    seconds = FLUSH_SECONDS

    class Worker(Trainable):  # type: ignore[misc]
        @classmethod
        def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
            bundle = {"CPU": config["cpus"]} | ({"GPU": config["gpus"]} if config["gpus"] else {})
            return PlacementGroupFactory([bundle])

        def setup(self, config: dict[str, Any]) -> None:
            self._refused = problem(look(rule), rule)  # nodes may have joined since all were asked
            self._take(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            settle(rule)
            self._take(new_config)
            return True

        def _take(self, config: dict[str, Any]) -> None:
            if not self._refused:
                worker = importlib.import_module("harness.executors.worker")
                self._running = worker.execute_file(Path(config["job"]))

        def step(self) -> dict[str, Any]:
            if self._refused:
                reason = f"its node does not run {rule['real']}, which was started: {self._refused}"
                ended = {"state": "failed", "reason": reason}
                return {"events": [(time.time(), "ended", ended)], "done": True}
            events: list[tuple[float, str, dict[str, Any]]] = []
            until = time.monotonic() + seconds
            while True:
                at, event = next(self._running)
                over = hasattr(event, "state")
                events.append((at, "ended" if over else "report", event.model_dump()))
                if over or time.monotonic() >= until:
                    return {"events": events, "done": over}

    return Worker
