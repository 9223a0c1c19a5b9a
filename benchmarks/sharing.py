"""Twelve trials in one warm worker against twelve lone ones, each in a process of its own.

    python benchmarks/sharing.py [--trials 12] [--lone 4] [--cycles 10]

A lone trial prepares (imports, frozen weights, items, reference features) and then trains and
measures; warm trials share the preparation. The claim: the warm process takes at most 1.05 times
one preparation plus the lone trainings. Lone processes are spread over the warm one's run, so that
both see the same machine; processor time. Exit code 1 where the claim does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 1.05


def worker(trials: int, cycles: int) -> None:
    """Prepare once, run trials, and print the processor seconds of each as JSON lines."""
    sys.path.insert(0, str(ROOT))
    import torch

    torch.set_num_threads(1)
    from harness.contract import Context, Measurement
    from harness.journal.seeds import stream_for
    from recipes import subject
    from recipes.recipe import Recipe

    with tempfile.TemporaryDirectory() as scratch:
        recipe = Recipe.model_validate({"train": {"cycles": cycles}}).model_dump(mode="json")
        began = 0.0  # imports count: processor time since the process started
        for number in range(trials + 1):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            context = Context(
                key="bench", replicate=number, seed=stream_for(number), folder=folder,
                measurement=Measurement(protocol=subject.PROTOCOL), cache=Path(scratch),
            )  # fmt: skip
            if number == 0:
                _prepare(context.cache)
            else:
                for _ in subject.run(recipe, context):
                    pass
            now = time.process_time()
            print(json.dumps({"seconds": now - began}), flush=True)
            sys.stdin.readline()  # wait until told to go on
            began = time.process_time()


def _prepare(cache: Path) -> None:
    """What trials of one worker share."""
    from recipes import subject
    from recipes.families.toyworld import shared
    from recipes.subject import measuring

    shared()
    measuring._world(subject.PROTOCOL, cache, "cpu")


def _start(trials: int, cycles: int) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--worker", "--trials", str(trials)]
    return subprocess.Popen(
        [*command, "--cycles", str(cycles)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )


def _next(process: subprocess.Popen[str]) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    seconds = float(json.loads(process.stdout.readline())["seconds"])
    return seconds


def _go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--lone", type=int, default=4, help="lone processes")
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.trials, given.cycles)
        return 0
    warm = _start(given.trials, given.cycles)
    preparation = _next(warm)
    spent, prepared, lone = [], [preparation], []
    for number in range(given.trials):
        if number % max(1, given.trials // given.lone) == 0:
            one = _start(1, given.cycles)
            prepared.append(_next(one))
            _go_on(one)
            lone.append(_next(one))
            _go_on(one)
            one.wait()
        _go_on(warm)
        spent.append(_next(warm))
        print(f"trial {number + 1}: warm {spent[-1]:.2f} s, lone {lone[-1]:.2f} s", flush=True)
    _go_on(warm)
    warm.wait()
    whole = preparation + sum(spent)
    allowed = statistics.fmean(prepared) + given.trials * statistics.fmean(lone)
    separate = given.trials * (statistics.fmean(prepared) + statistics.fmean(lone))
    print(f"python {platform.python_version()}, {os.cpu_count()} processors, {time.strftime('%F')}")
    print(
        f"preparation {statistics.fmean(prepared):.2f} s, lone trial {statistics.fmean(lone):.2f} s"
    )
    print(f"{given.trials} processes of their own would take {separate / whole:.2f} times as long")
    print(f"ratio {whole / allowed:.3f} (limit {LIMIT})")
    return 0 if whole <= LIMIT * allowed else 1


if __name__ == "__main__":
    sys.exit(main())
