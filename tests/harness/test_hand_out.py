"""Jobs handed to a scheduler: none is lost when it breaks down."""

from types import SimpleNamespace
from typing import Any

from harness.executors.base import Ended
from harness.executors.job_queue import JobQueue


def test_a_job_whose_worker_was_starting_up_is_told_when_the_scheduler_breaks() -> None:
    told: list[tuple[str, str]] = []

    def on_event(job: Any, event: Any, at: float) -> None:
        told.append((job.key, event.state if isinstance(event, Ended) else str(event)))

    jobs = [SimpleNamespace(key="a"), SimpleNamespace(key="b")]
    handed = JobQueue(jobs, on_event, lambda: False, 2)  # type: ignore[arg-type]
    handed.next("1")
    handed.next("2")
    handed.started("1")
    handed.lose("Ray broke down")
    handed.finish()
    assert [key for key, state in told if state == "killed"] == ["a", "b"]
