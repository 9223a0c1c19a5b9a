"""A stub that really trains: gradient steps with momentum on seeded noise, checkpoints of parts.

What it learns depends on every step before, to the last bit, so a lost, doubled or half-restored
step shows in the student. Faults are no part of the recipe: they are read from `faults.json` in the
workspace, so that a disturbed study has the keys of an undisturbed one.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.contract import (
    Artifact,
    Context,
    CorruptCheckpoint,
    Fingerprints,
    MetricSpec,
    Outcome,
    Report,
)

WEIGHTS = 16
PARTS = ("weights.json", "momentum.json")
KEPT_CHECKPOINTS = 2
FAULTS = "faults.json"


class Recipe(BaseModel):
    """What the trainer can vary."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rate: float = Field(0.1, gt=0, lt=1, description="Learning rate.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Share of the last step that is kept.")
    cycles: int = Field(8, ge=1, le=100_000, description="Steps to train.")


class Fault(BaseModel):
    """What goes wrong, as `faults.json` says: read anew at every step."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["", "kill", "memory", "gpu-memory", "hoard"] = Field("", description="What.")
    step: int = Field(0, ge=0, description="Before the report of this step.")
    times: int = Field(1, ge=1, description="How often, in each trial.")
    replicate: int = Field(-1, description="Only in this one; -1 for all.")
    seconds: float = Field(0.0, ge=0, description="Every step takes so long.")


metrics: Mapping[str, MetricSpec] = {
    "score": MetricSpec(higher_is_better=True, headline=True, description="Minus the distance."),
    "reach": MetricSpec(higher_is_better=None, description="Largest weight."),
}


def fingerprints(recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
    """Constant digests, except for the protocol's name."""
    return Fingerprints(data="trainer-data", protocol=f"trainer-{protocol}", code="trainer-code")


def run(recipe: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """Train; measure where asked and at the end; keep two numbered checkpoints and the student."""
    made = Recipe.model_validate(dict(recipe))
    step, weights, momentum = _load(context.resume_from)
    while step < made.cycles:
        step += 1
        draw = random.Random(context.seed("train", step))
        gradient = [w - (i + 1) / WEIGHTS + draw.gauss(0, 1) for i, w in enumerate(weights)]
        momentum = [
            made.momentum * m - made.rate * g for m, g in zip(momentum, gradient, strict=True)
        ]
        weights = [w + m for w, m in zip(weights, momentum, strict=True)]
        _disturb(context, step)
        yield Report(step=step, total=made.cycles, metrics={"train/loss": _distance(weights)})
        if step in context.measurement.at and step < made.cycles:
            yield _measured(context, made, step, weights)
        name = _save(context.folder, step, weights, momentum)
        checkpoint = Artifact(kind="checkpoint", path=name, step=step)
        yield Report(step=step, total=made.cycles, artifacts=(checkpoint,))
        if context.deadline is not None and time.time() > context.deadline:
            return
    yield _measured(context, made, step, weights)


def _measured(context: Context, made: Recipe, step: int, weights: list[float]) -> Report:
    from PIL import Image

    student = context.folder / "student"
    student.mkdir(exist_ok=True)
    (student / "weights.json").write_text(json.dumps(weights))
    picture = Image.new("L", (4, 4))
    picture.putdata([int(abs(w) * 255) % 256 for w in weights])
    picture.save(context.folder / f"panel-{step}.png")
    return Report(
        step=step,
        total=made.cycles,
        measured=True,
        metrics={"score": -_distance(weights), "reach": max(weights)},
        artifacts=(
            Artifact(kind="student", path="student", step=step),
            Artifact(kind="panel", path=f"panel-{step}.png", step=step, item="weights"),
        ),
        info={"pid": str(os.getpid())},
        outcome=Outcome(state="done") if step == made.cycles else None,
    )


def _distance(weights: list[float]) -> float:
    return sum((w - (i + 1) / WEIGHTS) ** 2 for i, w in enumerate(weights))


def _load(checkpoint: Path | None) -> tuple[int, list[float], list[float]]:
    if checkpoint is None:
        return 0, [0.0] * WEIGHTS, [0.0] * WEIGHTS
    try:
        weights, momentum = (json.loads((checkpoint / part).read_text()) for part in PARTS)
    except (OSError, json.JSONDecodeError) as error:
        raise CorruptCheckpoint(f"{checkpoint.name} is not whole: {error}") from error
    if weights["step"] != momentum["step"]:
        raise CorruptCheckpoint(f"{checkpoint.name} holds parts of two steps")
    return weights["step"], weights["values"], momentum["values"]


def _save(folder: Path, step: int, weights: list[float], momentum: list[float]) -> str:
    """A temporary name, then the right one; the one before last goes only afterwards."""
    name = f"checkpoint-{step}"
    temporary = folder / f".{name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for part, values in zip(PARTS, (weights, momentum), strict=True):
        (temporary / part).write_text(json.dumps({"step": step, "values": values}))
    temporary.replace(folder / name)
    shutil.rmtree(folder / f"checkpoint-{step - KEPT_CHECKPOINTS}", ignore_errors=True)
    return name


def _disturb(context: Context, step: int) -> None:
    try:
        fault = Fault.model_validate_json((context.cache.parent / FAULTS).read_text())
    except OSError:
        return
    time.sleep(fault.seconds)
    if not fault.kind or step != fault.step or fault.replicate not in (-1, context.replicate):
        return
    markers = context.folder.parent.parent  # beside the attempts, which are the harness's own
    number = len(list(markers.glob("fault-*")))
    if number >= fault.times:
        return
    (markers / f"fault-{number}").touch()
    if fault.kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault.kind == "gpu-memory":
        raise OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
    if fault.kind == "memory":
        _fill_address_space()
    if fault.kind == "hoard":
        _hoard()


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""


def _fill_address_space() -> None:
    """Let the system refuse memory: a MemoryError that nobody made up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**26, hard))
    held = []
    try:
        while True:
            held.append(bytearray(2**24))
    finally:
        held.clear()
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _hoard(most_bytes: int = 6 * 2**30) -> None:
    """Take memory page by page until somebody ends this process, or `most_bytes` are held."""
    held = []
    for _ in range(most_bytes // 2**28):
        held.append(ctypes.create_string_buffer(2**28))
        ctypes.memset(held[-1], 1, 2**28)
        time.sleep(0.1)
    time.sleep(20)
    raise AssertionError("nobody ended a process that took all memory")
