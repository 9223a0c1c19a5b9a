"""Studies that run until decided: error and trials, by the benchmark that records its table."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "adaptive.py"


def _benchmark() -> ModuleType:
    found = importlib.util.spec_from_file_location("benchmark_adaptive", SCRIPT)
    assert found is not None
    assert found.loader is not None
    made = importlib.util.module_from_spec(found)
    sys.modules["benchmark_adaptive"] = made  # its dataclasses look themselves up there
    found.loader.exec_module(made)
    return made


BENCHMARK = _benchmark()
ROWS = {(row.name, row.at_most): row for row in BENCHMARK.rows()}
FIXED = 10.39
"""Replicates of the fixed design with the power of at most 12 looked at (2,000 studies)."""


@pytest.mark.parametrize("name", ["nothing differs", "5 5 3 3 1 times"])
def test_looking_saves_trials_without_more_errors(name: str):
    """100 studies: errors within 4 Monte-Carlo errors of the limit, trials within the goal's."""
    made = BENCHMARK.simulate(ROWS[name, 12], 100, 3, FIXED)
    assert made["familywise"] <= 0.05 + 4 * made["familywise_se"]
    assert made["trials"] <= made["trials_goal"] + 0.03


def test_looking_without_levels_would_err(monkeypatch: pytest.MonkeyPatch):
    """The same looks, each at the whole error rate: what the levels are there for."""
    monkeypatch.setattr(BENCHMARK.Spending, "level", lambda self, replicates, alpha: alpha)
    row = ROWS["nothing differs, going on when futile", 12]
    made = BENCHMARK.simulate(row, 100, 3, FIXED)
    assert made["familywise"] > 0.1


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("row", BENCHMARK.rows(), ids=lambda row: f"{row.name}, {row.at_most}")
def test_every_row_keeps_its_error_and_its_goal(row):
    made = BENCHMARK.simulate(row, 500, 7, {10: 8.69, 12: FIXED}[row.at_most])
    limit = 0.08 if row.noise is BENCHMARK.skewed else 0.05
    assert made["familywise"] <= limit + 3 * made["familywise_se"]
    assert made["trials_goal"] is None or made["trials"] <= made["trials_goal"] + 0.02
