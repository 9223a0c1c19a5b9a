"""The stub with noise of a trial's own, so that differences have a spread to be judged by."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

from harness.contract import Context, Report
from harness.testing import stub
from harness.testing.stub import Recipe, fingerprints, metrics

__all__ = ["Recipe", "fingerprints", "metrics", "run"]

own_code_digest = True
OWN = 1e-10
"""Standard deviation: too little for a test that knows what x and y do."""


def run(recipe: Mapping[str, Any], context: Context) -> Iterator[Report]:
    """As the stub runs."""
    drawn = random.Random(context.key).gauss(0, OWN)
    for report in stub.run(recipe, context):
        moved = {name: value + drawn for name, value in report.metrics.items()}
        yield report.model_copy(update={"metrics": moved}) if report.measured else report
