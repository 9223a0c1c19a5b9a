"""A subject of many cells whose trials fail and diverge here and there."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from harness.contract import Context, Fingerprints, MetricSpec, Outcome, Report


class Recipe(BaseModel):
    """Three things that vary."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    share: float = Field(0.5, ge=0, le=1)
    scale: float = Field(2.0, ge=0)
    kind: str = Field("a")


metrics = {
    "score": MetricSpec(higher_is_better=True, headline=True),
    "cost": MetricSpec(higher_is_better=False, headline=True),
}


def fingerprints(recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
    """Constant digests."""
    return Fingerprints(data="none", protocol=protocol, code="none")


def run(recipe: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """One report; a fifth of the trials fails, and large scales of kind `c` diverge."""
    made = Recipe.model_validate(dict(recipe))
    own = random.Random(f"{made} {context.replicate}")
    doom = own.random()
    if doom < 0.2:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.50 GiB")
    if made.kind == "c" and made.scale == 8.0:
        yield Report(step=1, outcome=Outcome(state="diverged", reason="loss above 1e4"))
        return
    shared = random.Random(f"r{context.replicate}").gauss(0, 0.1)
    score = 0.3 * made.share + 0.05 * made.scale + shared + own.gauss(0, 0.02)
    yield Report(
        step=1,
        measured=True,
        metrics={"score": score, "cost": made.scale + shared + own.gauss(0, 0.3)},
        outcome=Outcome(state="done"),
    )
