"""Runs jobs one after another in the driver's own process: no Ray, no copies, easy to debug."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from harness.executors.base import Ended, Event, Executor, Job, OnEvent
from harness.executors.worker import execute, limit_threads


class InlineExecutor(Executor):
    """One job at a time. A SIGKILL here ends the driver too; the next `run` continues the trial."""

    def __init__(self, cpus: float | None = None) -> None:
        """Give numerical libraries as many threads as a trial has CPUs, as Ray's workers have.

        They read it when they are imported: make the executor before anything imports them.
        """
        if cpus is not None:
            limit_threads(cpus)

    def run(self, jobs: Iterable[Job], on_event: OnEvent, stop: Callable[[], bool]) -> None:
        if stop():
            return
        for job in jobs:
            if stop():
                return
            _run_one(job, on_event, stop)
            if stop():
                return

    def close(self) -> None:
        """Nothing is kept."""


def _run_one(job: Job, on_event: OnEvent, stop: Callable[[], bool]) -> None:
    began = time.monotonic()
    on_event(job, "started", time.time())
    running = execute(job)
    while True:
        at, event = time.time(), _killed(began)
        if not stop():
            try:
                with _interruptible(stop):
                    at, event = next(running)
            except KeyboardInterrupt:
                at, event = time.time(), _killed(began)
        on_event(job, event, at)
        if isinstance(event, Ended):
            running.close()
            return


def _killed(began: float) -> Event:
    return Ended(state="killed", reason="interrupted", seconds=time.monotonic() - began)


@contextmanager
def _interruptible(stop: Callable[[], bool]) -> Iterator[None]:
    """A signal that asks for the end inside the subject ends its step, as KeyboardInterrupt.

    The handlers in force are called first, so that the driver knows what happened.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def interrupt(number: int, frame: FrameType | None) -> None:
        handler = previous[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)
        if stop():
            raise KeyboardInterrupt

    try:
        for number, handler in previous.items():
            if callable(handler):
                signal.signal(number, interrupt)
        yield
    finally:
        for number, handler in previous.items():
            if callable(handler):
                signal.signal(number, handler)
