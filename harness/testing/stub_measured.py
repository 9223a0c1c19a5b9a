"""The stub with everything optional: a kept student, `measure`, and two reference rows.

Its code digest is read from the environment variable `STUB_CODE`, so that a test can change "code".
"""

from __future__ import annotations

import csv
import json
import os
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.contract import Artifact, Context, Estimate, Fingerprints, Outcome, Report
from harness.testing import stub
from harness.testing.stub import Recipe, metrics

__all__ = ["Recipe", "fingerprints", "gap", "measure", "metrics", "recompute", "reference"]
__all__ += ["references", "run"]

STUDENT = "student"
own_code_digest = True
"""Its digests are what the environment says: tests change them."""


def fingerprints(recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
    """The stub's digests; data and code may be changed through `STUB_DATA` and `STUB_CODE`."""
    code = os.environ.get("STUB_CODE", "stub-code")
    return stub.fingerprints(recipe, protocol).model_copy(
        update={
            "data": os.environ.get("STUB_DATA", "stub-data"),
            "code": code,
            "code_files": {"stub.py": code, "other.py": "same"},
        }
    )


def run(recipe: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """The stub's run, which also keeps a student: what `measure` needs, as JSON in a folder."""
    for made in stub.run(recipe, context):
        if not made.measured:
            yield made
            continue
        report = _moved(made, context)
        folder = context.folder / STUDENT
        folder.mkdir(exist_ok=True)
        (folder / "weights.json").write_text(json.dumps(report.metrics))
        kept = Artifact(kind="student", path=STUDENT, step=report.step)
        yield report.model_copy(update={"artifacts": (*report.artifacts, kept)})


def _moved(report: Report, context: Context) -> Report:
    """With noise of the trial's own of the standard deviation `STUB_SPREAD`: none by default."""
    spread = float(os.environ.get("STUB_SPREAD", "0"))
    if not spread:
        return report
    drawn = random.Random(context.key).gauss(0, spread)
    metrics = {name: value + drawn for name, value in report.metrics.items()}
    (context.folder / "items.csv").write_text(f"item,score\n0,{metrics['score']}\n")
    return report.model_copy(update={"metrics": metrics})


def measure(student: Path, protocol: str, context: Context) -> Iterator[Report]:
    """Read the student's numbers back; the protocol `noisy` adds evaluation noise of its own."""
    values: dict[str, float] = json.loads((student / "weights.json").read_text())
    if protocol == "noisy":
        noise = random.Random(context.seed("evaluation", 1)).gauss(0, 0.1)
        values = {name: value + noise for name, value in values.items()}
    yield Report(step=0, metrics=values, measured=True, outcome=Outcome(state="done"))


def recompute(
    folder: Path, step: int, recipe: Mapping[str, Any], protocol: str, cache: Path
) -> dict[str, float]:
    """The score as the mean of the stored items."""
    with (folder / "items.csv").open() as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    return {"score": sum(scores) / len(scores)}


def references(recipe: Mapping[str, Any], protocol: str) -> dict[str, dict[str, Any]]:
    """Two rows: the best score there can be, and no training at all."""
    return {"truth": {"row": "truth"}, "untrained": {"row": "untrained"}}


def gap(recipe: Mapping[str, Any], protocol: str) -> tuple[str, str]:
    """From what is not trained to the best there can be."""
    return "untrained", "truth"


def reference(settings: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """A constant row."""
    score = {"truth": 10.0, "untrained": 0.0}[settings["row"]]
    yield Report(
        step=0,
        metrics={"score": score, "cost": 1.0},
        measured=True,
        estimates=(Estimate(name="score", value=score),),
        outcome=Outcome(state="done"),
    )
