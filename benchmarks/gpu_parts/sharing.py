"""Part 7: two trials in one process, and two processes on half a card each, against one alone.

Every measurement is a process of its own, made before the card is touched. A warm worker must give
a second trial the numbers of a fresh process, and the memory of the first; what half a card costs
is the price that a plan with `gpus: 0.5` leaves out.
"""

from __future__ import annotations

import json
import time
from multiprocessing import get_context
from typing import Any

import torch

from gpu_parts.made import FAMILIES, DrawnConditions, config_of, recipe_of
from gpu_parts.setup import GB, Log, Setup
from harness.journal.seeds import stream_for
from recipes.cycle import Distillation
from recipes.data.draws import Draws

LAYERS, PIXELS, CYCLES = 8, 1024, 3
LEFT, LOSS = 0.05, 1e-2
"""Largest share of a trial's peak held after it, and largest relative distance of a loss: attention
in bfloat16 adds up in another order each time; another seed or a leftover is far more."""


def measure(setup: Setup, log: Log) -> None:
    """Alone; in turn; side by side."""
    (alone,) = _processes(setup, "alone", [[1]])
    log.row("one trial alone: seconds a cycle", alone[0]["seconds"], "s")
    (turn,) = _processes(setup, "turn", [[0, 1]])
    log.row("second trial in a warm process: seconds a cycle", turn[1]["seconds"], "s")
    error = abs(turn[1]["loss"] - alone[0]["loss"]) / abs(alone[0]["loss"])
    log.row("its loss against a fresh process's", error, most=LOSS if setup.cuda else 0.0)
    if setup.cuda:
        log.row("held after the first trial", turn[0]["held"] / GB, "GB")
        share = turn[0]["held"] / turn[0]["peak"]
        log.row("the same as a share of its peak", share, most=LEFT)
        log.row("peak of the second over the first's", turn[1]["peak"] / turn[0]["peak"], most=1.05)
    both = _processes(setup, "both", [[0], [1]], half=True)
    slowest = max(found[0]["seconds"] for found in both)
    log.row("two at once, half a card each: seconds a cycle", slowest, "s")
    done = 2 * alone[0]["seconds"] / slowest
    log.row("work done by two, where one trial alone does 1", done)
    error = abs(both[1][0]["loss"] - alone[0]["loss"]) / abs(alone[0]["loss"])
    log.row("loss beside another against alone", error, most=LOSS if setup.cuda else 0.0)


def _processes(
    setup: Setup, name: str, replicates: list[list[int]], *, half: bool = False
) -> list[list[dict[str, float]]]:
    """Numbers of trials by process; the processes start together."""
    context = get_context("fork")
    gate = context.Barrier(len(replicates))
    files = [setup.scratch / f"{name}-{i}.json" for i in range(len(replicates))]
    started = [
        context.Process(target=_child, args=(setup, numbers, file, gate, half))
        for numbers, file in zip(replicates, files, strict=True)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(max(0.0, setup.left))
    late = [process for process in started if process.exitcode is None]
    for process in late:
        process.kill()
        process.join()
    if late:
        raise TimeoutError(f"{len(late)} of the processes of {name!r} did not end in time")
    ends = [process.exitcode for process in started]
    if any(ends):
        raise RuntimeError(f"processes of {name!r} ended with {ends}; see above")
    return [json.loads(file.read_text()) for file in files]


def _child(setup: Setup, replicates: list[int], file: Any, gate: Any, half: bool) -> None:
    if half and setup.cuda:
        torch.cuda.set_per_process_memory_fraction(0.5)
    found = []
    for replicate in replicates:
        setup.fresh_peak()
        found.append(_trial(setup, replicate, gate))
        setup.fresh_peak()
        found[-1]["held"] = setup.held
    file.write_text(json.dumps(found))


def _trial(setup: Setup, replicate: int, gate: Any) -> dict[str, float]:
    """Some cycles of a network of real width; the first one is not timed."""
    kind, _ = FAMILIES["qwen-image"]
    pixels = 32 if setup.tiny else PIXELS
    config = config_of("qwen-image", tiny=setup.tiny, layers=2 if setup.tiny else LAYERS)
    dtype = torch.bfloat16 if setup.cuda else torch.float32
    family = kind(config, pixels, dtype, setup.device)
    recipe = recipe_of(pixels=pixels, task="t2i", rows=1, tiny=setup.tiny)
    draws = Draws(recipe, DrawnConditions(family), family.latent_shape, stream_for(replicate))
    trial = Distillation(recipe, family, draws)
    trial.cycle()
    setup.synchronize()
    gate.wait(max(1.0, min(30.0, setup.left)))  # the other may have died on its way here
    cycles = 1 if setup.tiny else CYCLES
    began = time.perf_counter()
    for _ in range(cycles):
        logs = trial.cycle()
    setup.synchronize()
    seconds = (time.perf_counter() - began) / cycles
    return {"seconds": seconds, "loss": logs["loss_fake"], "peak": setup.peak}
