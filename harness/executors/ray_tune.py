"""Runs jobs as Ray Tune trials in warm, reused actors. Only it and `tune_parts` import ray.

A trial of Tune is one attempt. Its trainable never raises: how an attempt ended is a result like
any other. An actor that dies ends its attempt as killed, and the driver opens the next. Nothing is
restored from Tune's own files: they go to a scratch folder that is removed at the end.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from harness.executors import ray_process, shared_storage

ray_process.prepare()  # before ray is imported: it reads its environment then

import ray  # noqa: E402 - the environment above is read at import
from ray import cloudpickle, tune  # noqa: E402
from ray.job_config import JobConfig  # noqa: E402
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: E402

from harness import import_path, installation  # noqa: E402
from harness.errors import HarnessError  # noqa: E402
from harness.executors.base import Executor, Job, OnEvent  # noqa: E402
from harness.executors.job_queue import Broken, JobQueue, Stopped  # noqa: E402
from harness.executors.ray_process import Watch  # noqa: E402
from harness.executors.shared_storage import check_shared  # noqa: E402
from harness.executors.tune_parts import Listener, NewestFirst, Search, worker_of  # noqa: E402
from harness.executors.worker import thread_environment  # noqa: E402
from harness.journal import gc_pauses  # noqa: E402
from harness.subjects.settings import imported_by  # noqa: E402

for module in (import_path, shared_storage):
    # A worker that unpickles a name of ours would import our package before it is told from where.
    cloudpickle.register_pickle_by_value(module)

MAX_TRIALS = 1000
"""Trials a Tuner: its state grows with each, and is rewritten whole."""
ANSWER_SECONDS = 60.0
"""How long the nodes of a cluster may take to start a process and read a file."""


class RayExecutor(Executor):
    """Starts Ray, or joins a cluster, at the first `run`; `close` lets go of it."""

    def __init__(
        self, scratch: Path, *, parallel: int | None = None, address: str | None = None
    ) -> None:
        self._scratch = scratch
        self._parallel = parallel
        self._address = address
        self._broken = 0
        self._watch: Watch | None = None
        self._rule: dict[str, Any] = {}

    def run(self, jobs: Iterable[Job], on_event: OnEvent, stop: Callable[[], bool]) -> None:
        """See `Executor.run`.

        Raises HarnessError if Ray cannot be started, or breaks down twice.
        """
        pulled = iter(jobs)
        while not stop():
            first = next(pulled, None)
            if first is None:
                return
            self._start(first)
            batch = islice(chain([first], pulled), MAX_TRIALS)
            room = ray_process.slots(_resources_of_nodes(), first.cpus, first.gpus)
            slots = min(room, self._parallel or room, MAX_TRIALS)
            self._tune(JobQueue(batch, on_event, stop, slots, self._watch))

    def room(self, cpus: float, gpus: float) -> int:
        """Trials that fit at once on the cluster; before `run`: it is joined and left to ask."""
        self._join(cpus)
        fit = ray_process.slots(_resources_of_nodes(), cpus, gpus)
        ray.shutdown()
        return min(fit, self._parallel or fit)

    def close(self) -> None:
        """Leave Ray and remove its scratch folder."""
        self._leave()
        shutil.rmtree(self._scratch, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._scratch.parent.rmdir()  # unless another run uses it

    def _leave(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
            ray.shutdown()

    def _start(self, job: Job) -> None:
        if ray.is_initialized():
            return
        self._join(job.cpus)
        self._watch = Watch(self._address)
        gc_pauses.settle()
        ray_process.silence_ray()
        self._rule = installation.rule(imported_by(job.subject), job.project)
        installation.differing(_ask_nodes(import_path.look, self._rule), self._rule)
        if self._address is not None:
            check_shared(self._scratch, _ask_nodes)

    def _join(self, cpus: float) -> None:
        threads = thread_environment(cpus)
        if self._address is not None:
            ray_process.check_reachable(self._address)
            options = ray_process.join_options(self._address, threads)
        else:
            options = ray_process.own_cluster_options(cpus, self._parallel)
        try:
            with ray_process.starting(threads), _without_usage_process():
                ray.init(
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    job_config=_PlainPath(),
                    **options,
                )
        except Exception as error:  # Ray raises bare ones where a process does not come up
            raise ray_process.start_error(self._address, error) from error

    def _tune(self, jobs: JobQueue) -> None:
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(jobs.slots)
        config = tune.TuneConfig(
            search_alg=Search(jobs),
            scheduler=NewestFirst(jobs),
            reuse_actors=True,
            # As many as the search gives.
            num_samples=-1,
            trial_name_creator=lambda trial: str(trial.trial_id),
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        )
        tuner = tune.Tuner(
            worker_of(self._rule),
            tune_config=config,
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(self._scratch),
                callbacks=[Listener(jobs)],
                verbose=0,
                # No retry, no checkpoint, no restore of Tune's: a worker that dies ends its attempt
                # as killed, and the driver opens the next from the last complete checkpoint. Tune
                # schedules, no more.
                failure_config=tune.FailureConfig(max_failures=0),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                sync_config=tune.SyncConfig(sync_artifacts=False),
                log_to_file=False,
            ),
        )
        try:
            tuner.fit()
        except Stopped:
            self._leave()
        except (Exception, Broken) as error:  # attempts under way are lost, others are not
            self._leave()
            jobs.lose(ray_process.breakdown(error, told=isinstance(error, Broken)))
            if not ray_process.out_of_memory(str(error)):  # one worker; but Tune gave up
                self._broken += 1
            if self._broken > 1:
                raise HarnessError(f"Ray broke down twice, last: {error}") from error
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)
        jobs.finish()
        gc.collect()  # a Tuner and its trials are one great cycle; the collector runs rarely here


class _PlainPath(JobConfig):  # type: ignore[misc]
    """A job whose workers do not get the folders of driver and program in front of their path.

    There a `torch.py` or a fork of ours would come before what is installed. Ray leaves them out
    where it has a working folder of its own to put there; should it not ask, `settle` does.
    """

    def _runtime_env_has_working_dir(self) -> bool:
        return True


@contextlib.contextmanager
def _without_usage_process() -> Iterator[None]:
    """Start Ray without the process that it has for usage statistics, though they are off.

    With no dashboard asked for it does nothing else, and it asks the cloud's metadata address
    where it runs before it looks whether anybody wants to know; no setting stops that.
    """
    services = ray._private.services
    real = services.start_api_server
    services.start_api_server = lambda *_, **__: (None, None)  # as where it does not come up
    try:
        yield
    finally:
        services.start_api_server = real


def _resources_of_nodes() -> list[dict[str, float]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _ask_nodes(reader: Callable[[Any], Any], argument: Any) -> dict[str, Any]:
    """What `reader` returns on each node that is alive, or why it did not.

    It goes there by value: what a node would import is not known yet.
    """
    answers = {}
    for node in (node for node in ray.nodes() if node["Alive"]):
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(reader).options(num_cpus=0, scheduling_strategy=there, max_retries=0)
        answers[ray_process.name_of(node)] = task.remote(argument)
    ray.wait(list(answers.values()), num_returns=len(answers), timeout=ANSWER_SECONDS)
    return {name: _answer(reference) for name, reference in answers.items()}


def _answer(reference: Any) -> Any:
    try:
        return ray.get(reference, timeout=1.0)
    except Exception as error:  # the node is gone, or lacks this program's files
        return ray_process.ray_error_text(error)
