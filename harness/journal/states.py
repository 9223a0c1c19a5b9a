"""States of trials and attempts: one vocabulary for journal, executors, plan, status and tables."""

from __future__ import annotations

from typing import Literal

PlanState = Literal["new", "measure", "reuse", "stale", "running"]
"""How a planned trial stands against the history; `running`: claimed by another driver."""

EndState = Literal["done", "failed", "diverged", "killed"]
"""How an attempt ends. A diverged run is a result; a killed one is to be continued."""

State = Literal["pending", "running", "done", "failed", "diverged", "killed"]
"""Of a trial by its records; an attempt without a closing record reads as running."""

StateNow = Literal["pending", "running", "interrupted", "done", "failed", "diverged", "killed"]
"""Of a trial with a look at who lives: `interrupted` was opened by a driver that is gone."""

IN_ORDER: tuple[StateNow, ...] = (
    "done",
    "running",
    "pending",
    "interrupted",
    "failed",
    "diverged",
    "killed",
)
"""As they are counted for people."""

OVER = ("done", "diverged")
"""How an attempt ends that leaves a result: it is not run again."""

ENDED = ("done", "diverged", "failed")
"""A trial that came to an end by itself; of all other states something is still to come."""

ENDED_WITHOUT = ("diverged", "failed")
"""A trial that ended without a value of the metrics that are compared."""
