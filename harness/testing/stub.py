"""A ten-line subject that trains nothing: keeps the harness honest and its tests fast.

`score = 1 + 0.5 x - 0.1 y + noise`, noise shared by the arms of a replicate: their differences have
no spread, and nothing is decided by them.
Faults are asked for in the recipe: `fault: raise | nan | nothing | kill | slow | diverge`.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.contract import Artifact, Context, Estimate, Fingerprints, MetricSpec, Outcome, Report


class Nested(BaseModel):
    """A nested part, to have dotted paths."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    x: float = Field(0.0, ge=-10, le=10, description="Helps the score by 0.5 per unit.")
    y: int = Field(0, ge=0, description="Harms the score by 0.1 per unit.")


class Recipe(BaseModel):
    """What the stub can vary."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    part: Nested = Field(default_factory=Nested, description="Nested settings.")
    colour: Literal["red", "green", "blue"] = Field("red", description="Has no effect.")
    mixture: dict[str, float] = Field(
        default_factory=lambda: {"a": 1.0},
        description="Shares.",
        json_schema_extra={"simplex": True},
    )
    cycles: int = Field(3, ge=1, le=100_000, description="Steps to report.")
    seconds: float = Field(0.0, ge=0, description="Sleep per step, seconds.")
    fault: str = Field("", description="raise, nan, nothing, kill, slow, diverge; empty for none.")
    fault_replicate: int = Field(
        -1, description="Replicate in which the fault happens; -1 for all."
    )


own_code_digest = True
"""Recorded studies name this stub: its digests say what they said then, whatever its file does."""

metrics: Mapping[str, MetricSpec] = {
    "score": MetricSpec(higher_is_better=True, headline=True, description="The stub's score."),
    "cost": MetricSpec(higher_is_better=False, headline=True, description="The stub's cost."),
}


def fingerprints(recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
    """Constant digests, except for the protocol's name."""
    return Fingerprints(data="stub-data", protocol=f"stub-{protocol}", code="stub-code")


def run(recipe: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """Count to `cycles`, adding one random number a step; resumable from its JSON checkpoint."""
    made = Recipe.model_validate(dict(recipe))
    faulty = made.fault if made.fault_replicate in (-1, context.replicate) else ""
    if faulty == "nothing":
        return
    state = {"step": 0, "sum": 0.0}
    if context.resume_from is not None:
        state = json.loads(context.resume_from.read_text())
    for step in range(int(state["step"]) + 1, made.cycles + 1):
        state = {"step": step, "sum": state["sum"] + _draw(context, step)}
        if made.seconds:
            time.sleep(made.seconds)
        checkpoint = context.folder / "checkpoint.json"
        temporary = checkpoint.with_suffix(".tmp")
        temporary.write_text(json.dumps(state))
        temporary.replace(checkpoint)
        if step == made.cycles // 2 + 1:
            _break(faulty, context)
        if faulty == "diverge" and step > 1:
            yield Report(step=step, outcome=Outcome(state="diverged", reason="asked to"))
            return
        yield Report(
            step=step,
            total=made.cycles,
            metrics={"train/loss": float("nan") if faulty == "nan" else 1.0 / step},
            artifacts=(Artifact(kind="checkpoint", path="checkpoint.json", step=step),),
        )
        if context.deadline is not None and time.time() > context.deadline:
            return
    yield from _measured(made, context, state)


def _draw(context: Context, step: int) -> float:
    return random.Random(context.seed("train", step)).gauss(0, 1)


def _break(fault: str, context: Context) -> None:
    marker = context.folder.parent / "broken-once"
    if fault == "raise":
        raise RuntimeError("the stub was asked to raise")
    if fault == "kill" and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "slow":
        time.sleep(3600)


def _measured(made: Recipe, context: Context, state: dict[str, Any]) -> Iterator[Report]:
    shared = random.Random(context.seed("evaluation")).gauss(0, 0.05)
    own = 0.01 * state["sum"] / made.cycles
    score = 1 + 0.5 * made.part.x - 0.1 * made.part.y + shared + own
    cost = 1 + made.part.x**2 + shared
    table = context.folder / "items.csv"
    table.write_text(f"item,score\n0,{score}\n")
    yield Report(
        step=made.cycles,
        total=made.cycles,
        measured=True,
        metrics={"score": score, "cost": cost},
        estimates=(Estimate(name="score", value=score, lo=score - 0.1, hi=score + 0.1, n_items=1),),
        artifacts=(Artifact(kind="items", path="items.csv", step=made.cycles),),
        outcome=Outcome(state="done"),
    )
