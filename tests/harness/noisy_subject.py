"""A subject that trains nothing: `score = x + spread * noise`, each arm's noise of its own."""

import os
import random
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from harness.contract import Context, Fingerprints, MetricSpec, Outcome, Report


class Recipe(BaseModel):
    """What can be varied."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    x: float = Field(0.0, description="The score.")
    spread: float = Field(0.1, description="SD of the noise.")
    salt: int = Field(0, description="Another one gives other noise.")
    fault: bool = Field(False, description="Raise in replicate 1.")


metrics: Mapping[str, MetricSpec] = {
    "score": MetricSpec(higher_is_better=True, headline=True, description="The score.")
}


def fingerprints(recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
    """Constant ones."""
    return Fingerprints(data="noise", protocol="noise", code="noise")


def run(recipe: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """One measured step."""
    noise = random.Random(f"{recipe['x']} {context.replicate} {recipe['salt']}").gauss(0, 1)
    if recipe["fault"] and context.replicate == 1:
        raise RuntimeError("asked to")
    if os.environ.get("NOISY_FAILS") == f"{recipe['x']} {context.replicate}":
        raise RuntimeError("out of memory, for now")
    score = recipe["x"] + recipe["spread"] * noise
    yield Report(
        step=1, total=1, measured=True, metrics={"score": score}, outcome=Outcome(state="done")
    )
