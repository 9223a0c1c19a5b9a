"""Part 5: a trial killed between two checkpoints and continued, against one left alone."""

from __future__ import annotations

import json
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from gpu_parts.setup import Log, Setup
from gpu_parts.toyworld import numbers_of, recipe, run
from recipes import checkpoint

PASSED_OVER = ("skipped", "x0_mean")
"""Counts, and a mean near zero, whose relative distance says nothing."""
MOST = 1e-3
"""Largest relative distance of a training number that passes; on the CPU nothing may differ."""


def measure(setup: Setup, log: Log) -> None:
    """Three processes: uninterrupted; killed by SIGKILL after a checkpoint; continued from it."""
    whole = _finished(setup, setup.scratch / "whole", None)
    killed = setup.scratch / "killed"
    process = _started(setup, killed, None)
    file = killed / checkpoint.name_of(2)
    while not file.exists() and process.is_alive() and setup.left > 0:
        time.sleep(0.01)
    process.kill()
    process.join()
    if not file.exists():
        raise RuntimeError(f"no checkpoint appeared in {killed} before the process ended")
    done = _last_cycle(killed)
    log.row("cycle whose checkpoint a killed trial left", 2.0, note=f"killed after cycle {done:g}")
    continued = _finished(setup, setup.scratch / "continued", file)
    worst = max(
        (abs(continued[name] - value) / max(abs(value), 1e-12), name)
        for name, value in whole.items()
        if name in continued
        and name.startswith("train/")
        and not any(w in name for w in PASSED_OVER)
    )
    most = MOST if setup.cuda else 0.0
    log.row("training numbers, continued against uninterrupted", worst[0], most=most, note=worst[1])
    measured = max(
        (abs(continued[name] - value), name)
        for name, value in whole.items()
        if name in continued and not name.startswith(("train/", "cost/"))
    )
    log.row("measured numbers, largest difference", measured[0], note=measured[1])


def _started(setup: Setup, folder: Path, resume: Path | None) -> Any:
    folder.mkdir()
    process = get_context("fork").Process(target=_child, args=(setup, folder, resume))
    process.start()
    return process


def _finished(setup: Setup, folder: Path, resume: Path | None) -> dict[str, float]:
    process = _started(setup, folder, resume)
    process.join(max(0.0, setup.left))
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"the trial in {folder.name} did not end in its time")
    if process.exitcode:
        raise RuntimeError(f"the trial in {folder.name} ended with {process.exitcode}; see above")
    found: dict[str, float] = json.loads((folder / "numbers.json").read_text())
    return found


def _child(setup: Setup, folder: Path, resume: Path | None) -> None:
    """One trial in a process of its own: the parent never touches the card."""
    fields = recipe(setup, cycles=4, checkpoint_every=1)
    reports = run(setup, fields, setup.device, folder, resume)
    seen = []
    for report in reports:
        seen.append(report)
        with (folder / "cycles").open("a", encoding="utf-8") as out:
            out.write(f"{report.step}\n")
    (folder / "numbers.json").write_text(json.dumps(numbers_of(seen)))


def _last_cycle(folder: Path) -> float:
    whole = (folder / "cycles").read_text(encoding="utf-8").rpartition("\n")[0]
    return float(whole.split("\n")[-1])  # the last line may have been cut by the kill
