"""A stub that keeps two checkpoints and a student, can measure it again, and fails in further ways.

`score = 1 + x + a sum of one random number a step`, so that a lost or doubled step shows.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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

KEPT_CHECKPOINTS = 2


class Recipe(BaseModel):
    """What the keeper can vary."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    x: float = Field(0.0, description="Added to the score.")
    cycles: int = Field(4, ge=1, description="Steps to report.")
    fault: str = Field(
        "",
        description="corrupt: dies once, its last checkpoint torn; measured-nan; full: no space "
        "left; exit: sys.exit; chatty: prints; memory: out of GPU memory once.",
    )


metrics: Mapping[str, MetricSpec] = {
    "score": MetricSpec(higher_is_better=True, headline=True, description="The keeper's score."),
}


def fingerprints(recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
    """Constant digests, except for the protocol's name."""
    return Fingerprints(data="keeper-data", protocol=f"keeper-{protocol}", code="keeper-code")


def run(recipe: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """Add one random number a step; a numbered checkpoint after each, the last two kept."""
    made = Recipe.model_validate(dict(recipe))
    step, total = _load(context.resume_from)
    _fail_early(made.fault, context)
    while step < made.cycles:
        step += 1
        total += random.Random(context.seed("train", step)).gauss(0, 1)
        name = _save(context.folder, step, total)
        yield Report(
            step=step,
            total=made.cycles,
            metrics={"train/sum": total},
            artifacts=(Artifact(kind="checkpoint", path=name, step=step),),
        )
        if made.fault == "corrupt" and step == 3 and _first_time(context, "corrupted"):
            (context.folder / name).write_text("{torn")
            os.kill(os.getpid(), signal.SIGKILL)
    student = context.folder / "student"
    student.mkdir(exist_ok=True)
    (student / "weights.json").write_text(json.dumps({"score": 1 + made.x + total}))
    score = float("nan") if made.fault == "measured-nan" else 1 + made.x + total
    yield Report(
        step=made.cycles,
        total=made.cycles,
        measured=True,
        metrics={"score": score},
        artifacts=(Artifact(kind="student", path="student", step=made.cycles),),
        info={"weights": "kept", "pid": str(os.getpid())},
        outcome=Outcome(state="done"),
    )


def measure(student: Path, protocol: str, context: Context) -> Iterator[Report]:
    """Read the kept score again."""
    content = json.loads((student / "weights.json").read_text())
    yield Report(
        step=4,
        measured=True,
        metrics={"score": content["score"]},
        outcome=Outcome(state="done"),
    )


def _load(checkpoint: Path | None) -> tuple[int, float]:
    if checkpoint is None:
        return 0, 0.0
    try:
        content = json.loads(checkpoint.read_text())
    except json.JSONDecodeError as error:
        raise CorruptCheckpoint(f"{checkpoint.name} is not whole: {error}") from error
    return int(content["step"]), float(content["total"])


def _save(folder: Path, step: int, total: float) -> str:
    name = f"checkpoint-{step}.json"
    temporary = folder / f".{name}"
    temporary.write_text(json.dumps({"step": step, "total": total}))
    temporary.replace(folder / name)
    (folder / f"checkpoint-{step - KEPT_CHECKPOINTS}.json").unlink(missing_ok=True)
    return name


def _first_time(context: Context, name: str) -> bool:
    marker = context.folder.parent / name
    if marker.exists():
        return False
    marker.touch()
    return True


def _fail_early(fault: str, context: Context) -> None:
    if fault == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if fault == "exit":
        sys.exit(3)
    if fault == "memory" and _first_time(context, "out-of-memory"):
        raise OutOfMemoryError("GPU has 0 bytes free")
    if fault == "chatty":
        sys.stdout.write("to stdout\n")
        sys.stderr.write("to stderr\n")


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own."""
