"""What any executor must do: subclass, and give the fixture `executor`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from harness.contract import Measurement, Report
from harness.executors.base import Ended, Event, Executor, Job
from harness.journal import attempts
from harness.testing import stub
from tests.support import keeper

KEEPER = "keeper"
"""Named from its own folder: workers get the path of a run's first subject, here a stub of ours."""
SUBJECTS = {stub.__name__: stub.Recipe, KEEPER: keeper.Recipe}


class Recorder:
    """Collects events in the order in which they came."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Event]] = []

    def __call__(self, job: Job, event: Event, at: float) -> None:
        """Note one event."""
        assert at > 1e9
        self.events.append((job.key, event))

    def of(self, job: Job) -> list[Event]:
        """Events of one job."""
        return [event for key, event in self.events if key == job.key]

    def ended(self, job: Job) -> Ended:
        """How a job ended: its last event, and the only one of its kind."""
        events = self.of(job)
        last = events[-1]
        assert isinstance(last, Ended), events
        assert events[0] == "started"
        assert all(isinstance(event, Report) for event in events[1:-1])
        return last

    def reports(self, job: Job) -> list[Report]:
        """Reports of one job."""
        return [event for event in self.of(job) if isinstance(event, Report)]


def make_job(
    folder: Path, name: str, *, subject: str = stub.__name__, replicate: int = 0, **recipe: Any
) -> Job:
    """A job of a stub subject; its attempt folder is made."""
    attempt = folder / name / "attempts" / "1-aa"
    attempt.mkdir(parents=True)
    return Job(
        key=name,
        short=name,
        attempt=1,
        nonce="aa",
        subject=subject,
        recipe=SUBJECTS[subject](**recipe).model_dump(),
        replicate=replicate,
        folder=attempt,
        log=folder / name / "log.txt",
        cache=folder / "cache",
        measurement=Measurement(protocol="p"),
        project=Path(__file__).parent if subject == KEEPER else None,
    )


def never() -> bool:
    """A stop that never comes."""
    return False


class ExecutorContract:
    """What every executor does. `survives_kill` is false where jobs share the driver's process."""

    survives_kill = True

    def run(
        self, executor: Executor, jobs: Iterable[Job], stop: Callable[[], bool] = never
    ) -> Recorder:
        """Run jobs and record what is told."""
        recorder = Recorder()
        executor.run(jobs, recorder, stop)
        return recorder

    def test_good_jobs_report_in_order_and_end(self, executor: Executor, tmp_path: Path) -> None:
        jobs = [make_job(tmp_path, f"good-{i}", replicate=i) for i in range(3)]
        told = self.run(executor, jobs)
        for job in jobs:
            assert told.ended(job).state == "done"
            assert told.ended(job).seconds >= 0
            assert told.ended(job).device
            assert [r.step for r in told.reports(job)] == [1, 2, 3, 3]
            assert told.reports(job)[-1].measured
            lines = [json.loads(t) for t in (job.folder / "reports.jsonl").read_text().splitlines()]
            assert [line["report"]["step"] for line in lines] == [1, 2, 3, 3]

    def test_failures_stay_in_their_trial(self, executor: Executor, tmp_path: Path) -> None:
        faults = {
            "raise": make_job(tmp_path, "raise", fault="raise"),
            "nothing": make_job(tmp_path, "nothing", fault="nothing"),
            "diverge": make_job(tmp_path, "diverge", fault="diverge"),
            "nan": make_job(tmp_path, "nan", fault="nan"),
            "unknown": make_job(tmp_path, "unknown").model_copy(update={"subject": "no.such"}),
            "exit": make_job(tmp_path, "exit", subject=KEEPER, fault="exit"),
            "full": make_job(tmp_path, "full", subject=KEEPER, fault="full"),
            "measured": make_job(tmp_path, "measured", subject=KEEPER, fault="measured-nan"),
            "good": make_job(tmp_path, "good"),
        }
        told = self.run(executor, faults.values())
        ended = {name: told.ended(job) for name, job in faults.items()}
        assert ended["raise"].state == "failed"
        assert "the stub was asked to raise" in ended["raise"].reason
        assert "RuntimeError" in ended["raise"].traceback
        assert "RuntimeError" in faults["raise"].log.read_text()
        assert (ended["nothing"].state, ended["nothing"].reason) == (
            "failed",
            "ended without an outcome",
        )
        assert (ended["diverge"].state, ended["diverge"].reason) == ("diverged", "asked to")
        assert ended["nan"].state == "done"
        assert math.isnan(told.reports(faults["nan"])[0].metrics["train/loss"])
        assert '"train/loss":null' in (faults["nan"].folder / "reports.jsonl").read_text()
        assert ended["unknown"].state == "failed"
        assert "no.such" in ended["unknown"].reason
        assert (ended["exit"].state, ended["exit"].reason) == ("failed", "SystemExit: 3")
        assert ended["full"].state == "failed"
        assert "No space left" in ended["full"].reason
        assert ended["measured"].state == "diverged"
        assert ended["measured"].reason == "score not finite at step 4"
        assert ended["good"].state == "done"
        assert not any(e.died for e in ended.values())

    def test_output_goes_to_the_trials_log(self, executor: Executor, tmp_path: Path) -> None:
        job = make_job(tmp_path, "chatty", subject=KEEPER, fault="chatty")
        quiet = make_job(tmp_path, "quiet")
        self.run(executor, [job, quiet])
        assert "to stdout" in job.log.read_text()
        assert "to stderr" in job.log.read_text()
        assert "to std" not in quiet.log.read_text()

    def test_warm_equals_fresh(self, executor: Executor, tmp_path: Path) -> None:
        """A job after others gives the same numbers as the same job first."""
        first = make_job(tmp_path, "first", subject=KEEPER, x=1.5, replicate=3)
        others = [make_job(tmp_path, f"other-{i}", replicate=i) for i in range(4)]
        again = make_job(tmp_path, "again", subject=KEEPER, x=1.5, replicate=3)
        told = self.run(executor, [first, *others, again])
        assert [r.metrics for r in told.reports(first)] == [r.metrics for r in told.reports(again)]

    def test_continues_from_a_checkpoint(self, executor: Executor, tmp_path: Path) -> None:
        whole = make_job(tmp_path, "whole", subject=KEEPER)
        told = self.run(executor, [whole])
        checkpoint = whole.folder / "checkpoint-3.json"
        rest = make_job(tmp_path, "rest", subject=KEEPER)
        told = self.run(executor, [rest.model_copy(update={"resume_from": checkpoint})])
        assert [r.step for r in told.reports(rest)] == [4, 4]
        assert _last_score(told, rest) == _score_on_disk(whole)

    def test_falls_back_from_a_corrupt_checkpoint(self, executor: Executor, tmp_path: Path) -> None:
        whole = make_job(tmp_path, "whole", subject=KEEPER)
        self.run(executor, [whole])
        torn = tmp_path / "torn.json"
        torn.write_text("{")
        good = whole.folder / "checkpoint-3.json"
        rest = make_job(tmp_path, "rest", subject=KEEPER)
        beginning = make_job(tmp_path, "beginning", subject=KEEPER)
        told = self.run(
            executor,
            [
                rest.model_copy(update={"resume_from": torn, "fallbacks": [good]}),
                beginning.model_copy(update={"resume_from": torn}),
            ],
        )
        assert [r.step for r in told.reports(rest)] == [4, 4]
        assert "checkpoint-3.json" in told.reports(rest)[0].info["checkpoint_fallback"]
        assert "corrupt" in rest.log.read_text()
        assert [r.step for r in told.reports(beginning)] == [1, 2, 3, 4, 4]
        assert "the beginning" in told.reports(beginning)[0].info["checkpoint_fallback"]
        assert _last_score(told, rest) == _last_score(told, beginning) == _score_on_disk(whole)

    def test_a_killed_worker_ends_its_job_only(self, executor: Executor, tmp_path: Path) -> None:
        if not self.survives_kill:
            return  # tested with a driver of its own, which dies
        killed = make_job(tmp_path, "killed", fault="kill")
        others = [make_job(tmp_path, f"other-{i}") for i in range(3)]
        told = self.run(executor, [others[0], killed, *others[1:]])
        assert told.ended(killed).state == "killed"
        assert told.ended(killed).died
        assert [told.ended(job).state for job in others] == ["done"] * 3

    def test_jobs_are_pulled_lazily(self, executor: Executor, tmp_path: Path) -> None:
        """A job is asked for when there is room for it: at most one ahead of two workers."""
        recorder = Recorder()
        ahead: list[int] = []

        def jobs() -> Iterable[Job]:
            for index in range(6):
                ended = sum(isinstance(event, Ended) for _, event in recorder.events)
                ahead.append(index - ended)
                yield make_job(tmp_path, f"lazy-{index}")

        executor.run(jobs(), recorder, never)
        assert max(ahead) <= 2

    def test_stopped_before_it_starts(self, executor: Executor, tmp_path: Path) -> None:
        told = self.run(executor, [make_job(tmp_path, "never")], stop=lambda: True)
        assert told.events == []


def _last_score(told: Recorder, job: Job) -> float:
    return told.reports(job)[-1].metrics["score"]


def _score_on_disk(job: Job) -> float:
    return attempts.read_reports(job.folder)[-1].report.metrics["score"]


class StopContract:
    """Ending early; apart, because Ray starts anew after each of these."""

    def test_stop_interrupts_what_runs(self, executor: Executor, tmp_path: Path) -> None:
        recorder = Recorder()
        jobs = [make_job(tmp_path, f"slow-{i}", cycles=10_000, seconds=0.05) for i in range(4)]
        executor.run(jobs, recorder, lambda: any(isinstance(e, Report) for _, e in recorder.events))
        began = [job for job in jobs if recorder.of(job)]
        assert 1 <= len(began) <= 2
        assert all(recorder.ended(job).state == "killed" for job in began)

    def test_an_error_of_the_driver_comes_back(self, executor: Executor, tmp_path: Path) -> None:
        def on_event(job: Job, event: Event, at: float) -> None:
            if isinstance(event, Report):
                raise ZeroDivisionError("the journal broke")

        raised: list[str] = []
        try:
            executor.run([make_job(tmp_path, "one")], on_event, never)
        except ZeroDivisionError as error:
            raised.append(str(error))
        assert raised == ["the journal broke"]
