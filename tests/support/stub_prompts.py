"""The stub measured over prompts: a mean of items with unequal prompts, and a distance.

`score` is the mean over two strata of the means of their items, `cost` the squared distance of a
mean to a fixed one, told by pseudo-values. Prompts are the same in every trial; a trial, a prompt
and an item have effects of their own. `tables` asks for what is wrong in the files.
"""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from harness.contract import Artifact, Context, Fingerprints, MetricSpec, Outcome, Report
from harness.testing import stub

__all__ = ["Recipe", "fingerprints", "measure", "metrics", "prompt_tables", "run"]

own_code_digest = True
metrics: Mapping[str, MetricSpec] = {
    **stub.metrics,
    "cost": stub.metrics["cost"].model_copy(update={"low": 0.0}),
}
STRATA = {"hills": 3.0, "signs": 1.0}
"""Stratum -> weight in `score`; `cost` weighs them equally."""
TARGET = 2.0


class Recipe(BaseModel):
    """What this stub can vary."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    x: float = Field(0.0, ge=-10, le=10, description="Helps the score by 0.5 per unit.")
    prompts: int = Field(12, ge=1, le=1000, description="Prompts in each stratum.")
    by_prompt: float = Field(
        0.1, ge=0, description="Standard deviation over prompts of what x does."
    )
    steps: int = Field(1, ge=1, le=100, description="Steps, each of which is measured.")
    tables: Literal["whole", "none", "stored", "text", "twice", "mean"] = Field(
        "whole",
        description="Tables it writes; `stored` ones it names none of; or what is wrong in the one "
        "of items.",
    )


def fingerprints(recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
    """The stub's digests."""
    return stub.fingerprints(recipe, protocol)


def run(recipe: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """Measure at every step."""
    made = Recipe.model_validate(dict(recipe))
    for step in range(1, made.steps + 1):
        yield _measured(made, context, step)


def measure(student: Path, protocol: str, context: Context) -> Iterator[Report]:
    """A checkpoint is the recipe that it says it was made by, as `recipe.json`."""
    made = Recipe.model_validate_json((student / "recipe.json").read_bytes())
    yield _measured(made, context, made.steps)


def prompt_tables(
    folder: Path, step: int, recipe: Mapping[str, Any], protocol: str, cache: Path
) -> dict[str, str]:
    """The tables as they lie there, named in the record or not."""
    return {kind: (folder / f"{kind}-{step}.csv").read_text() for kind in ("items", "prompts")}


def _measured(made: Recipe, context: Context, step: int) -> Report:
    rows = list(_items(made, context, step))
    by_stratum = {k: [row for row in rows if row["stratum"] == k] for k in STRATA}
    scores = {k: fmean(row["score"] for row in found) for k, found in by_stratum.items()}
    score = math.fsum(w * scores[k] for k, w in STRATA.items()) / sum(STRATA.values())
    cost = fmean(_cost(found) for found in by_stratum.values())
    artifacts: list[Artifact] = []
    if made.tables != "none":
        wrong = {"text": {**rows[0], "item": "odd", "score": "n/a"}, "twice": rows[0]}
        rows += [wrong[made.tables]] if made.tables in wrong else []
        if made.tables == "mean":
            rows = rows[:-1]
        _write(context.folder / f"items-{step}.csv", rows)
        _write(context.folder / f"prompts-{step}.csv", _pseudo_values(by_stratum))
    if made.tables not in ("none", "stored"):
        artifacts = [
            Artifact(kind="items", path=f"items-{step}.csv", step=step),
            Artifact(kind="prompts", path=f"prompts-{step}.csv", step=step),
        ]
    return Report(
        step=step,
        total=made.steps,
        measured=True,
        metrics={"score": score, "cost": cost},
        artifacts=tuple(artifacts),
        outcome=Outcome(state="done") if step == made.steps else None,
    )


def _items(made: Recipe, context: Context, step: int) -> Iterator[dict[str, Any]]:
    """Of one prompt one item, of the next two, of the third three, and again."""
    trial = random.Random(f"{context.key} {step}").gauss(0, 0.05)
    for stratum, weight in STRATA.items():
        for number in range(made.prompts):
            prompt = f"{stratum} {number}"
            level, effect = (random.Random(f"{prompt} {w}").gauss(0, 1) for w in ("level", "x"))
            for item in range(1 + number % 3):
                noise = random.Random(context.seed(f"{prompt} {item}", step)).gauss(0, 0.02)
                helped = made.x * (0.5 + made.by_prompt * effect)
                yield {
                    "item": f"{prompt} {item}",
                    "prompt": prompt,
                    "stratum": stratum,
                    "stratum_weight": weight,
                    "score": 1 + 0.2 * level + helped + trial + noise,
                }


def _cost(rows: Iterable[Mapping[str, Any]]) -> float:
    return float((fmean(row["score"] for row in rows) - TARGET) ** 2)


def _pseudo_values(by_stratum: Mapping[str, list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for stratum, rows in by_stratum.items():
        prompts = dict.fromkeys(row["prompt"] for row in rows)
        count, whole = len(prompts), _cost(rows)
        for prompt in prompts if count > 1 else ():
            without = _cost(row for row in rows if row["prompt"] != prompt)
            value = count * whole - (count - 1) * without
            yield {"prompt": prompt, "stratum": stratum, "cost": value}


def _write(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    listed = list(rows)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(listed[0]) if listed else ["prompt"])
        writer.writeheader()
        writer.writerows(listed)
