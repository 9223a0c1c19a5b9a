"""Where a trial's time goes: rollout, teacher, fake score, optimiser, data, measuring, logging.

    python benchmarks/parts.py [--cycles 40]

One trial of the base recipe runs as a worker runs it, reports written, with a stopwatch around each
part; parts are disjoint. Processor time of one thread, so that other work on the machine does not
count. The claim: data and logging together take less than 5 %. Exit code 1 where they do not.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

torch.set_num_threads(1)
LIMIT = 0.05
INNERMOST: list[str] = []
SPENT: Counter[str] = Counter()


def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with its own time, without that of timed calls inside, counted under a part."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _switch(part)
        try:
            return function(*args, **kwargs)
        finally:
            _back()

    return wrapped


_since = time.process_time()


def _charge() -> None:
    global _since
    now = time.process_time()
    SPENT[INNERMOST[-1] if INNERMOST else "other"] += now - _since
    _since = now


def _switch(part: str) -> None:
    _charge()
    INNERMOST.append(part)


def _back() -> None:
    _charge()
    INNERMOST.pop()


def watch() -> None:
    """Put a stopwatch on every part."""
    from recipes import checkpoint, rollout
    from recipes.cycle import Distillation
    from recipes.data.draws import Draws
    from recipes.ema import Ema
    from recipes.guidance.panel import TeacherPanel
    from recipes.objectives import dmd, on_policy
    from recipes.subject import training

    places: list[tuple[Any, str, str]] = [
        (Draws, "batches", "data"),
        (Draws, "judged_anew", "data"),
        (on_policy, "to_exit", "rollout"),
        (TeacherPanel, "velocity", "teacher"),
        (dmd.DmdObjective, "student_loss", "student loss"),
        (dmd.DmdObjective, "fake_loss", "fake score"),
        (Distillation, "_step", "backward and optimiser"),
        (Ema, "update", "backward and optimiser"),
        (checkpoint, "save", "checkpoints"),
        (training, "measured", "measuring"),
    ]
    assert rollout.to_exit is on_policy.to_exit
    for owner, name, part in places:
        if part == "measuring":
            setattr(owner, name, _timed_steps(part, getattr(owner, name)))
        else:
            setattr(owner, name, timed(part, getattr(owner, name)))


def _timed_steps(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """As `timed`, for a generator: its steps count, not what happens between them."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        steps = function(*args, **kwargs)
        while True:
            _switch(part)
            try:
                report = next(steps)
            except StopIteration:
                return
            finally:
                _back()
            yield report

    return wrapped


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cycles", type=int, default=40)
    given = parser.parse_args()
    from harness.contract import Context, Measurement
    from harness.journal.attempts import append_report
    from harness.journal.seeds import stream_for
    from recipes import subject
    from recipes.recipe import Recipe

    recipe = Recipe.model_validate({"train": {"cycles": given.cycles}}).model_dump(mode="json")
    watch()
    write = timed("logging", append_report)
    with tempfile.TemporaryDirectory() as folder:
        context = Context(
            key="bench", replicate=0, seed=stream_for(0), folder=Path(folder),
            measurement=Measurement(protocol=subject.PROTOCOL), cache=Path(folder),
        )  # fmt: skip
        trial = subject.run(recipe, context)
        next(trial)  # weights loaded, fake score warmed up: preparation, shared between trials
        SPENT.clear()
        for report in trial:
            write(Path(folder), time.time(), report)
        _charge()
    whole = sum(SPENT.values())
    print(f"torch {torch.__version__}, python {platform.python_version()}, {time.strftime('%F')}")
    print(f"one trial of {given.cycles} cycles, measured: {whole:.1f} s of processor time")
    for part, seconds in SPENT.most_common():
        print(f"  {part:24} {seconds:7.2f} s  {100 * seconds / whole:5.1f} %")
    share = (SPENT["data"] + SPENT["logging"]) / whole
    print(json.dumps({name: round(seconds, 3) for name, seconds in SPENT.items()}))
    print(f"data and logging {100 * share:.1f} % (limit {100 * LIMIT:.0f} %)")
    return 0 if share < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
