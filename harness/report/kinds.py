"""How a verdict of each kind is shown: its words beside numbers and drawings, and what is drawn.

Drawings of its own are in `kind_plots.py`, the words of its sentence in `analysis/kind_words.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.analysis.model import Verdict
from harness.study.kinds import ContrastKind


@dataclass(frozen=True)
class ShownKind:
    """What the report knows of a kind."""

    short: Callable[[Verdict], str]
    """What is compared, short."""
    drawn: Callable[[Verdict], str]
    """What its drawing is of."""
    claim: Callable[[Verdict], str] | None = None
    """Above a verdict without a claim; None: as `short`."""
    better: bool = False
    """Whether its drawing has a better side."""
    margin: str = "\u00b1"
    """Before the margin in its words; empty where it lies on the side above 0 alone."""
    band: bool = True
    """Whether its margin is a band of its drawing."""
    replicates: bool = True
    """Whether replicates have values of what its interval is of."""
    badge: bool = False
    """Whether the page names it beside the verdict, whose word does not tell it."""


KINDS: dict[ContrastKind, ShownKind] = {
    "difference": ShownKind(
        short=lambda v: f"{v.a} - {v.b}",
        drawn=lambda v: f"{v.metric}, a \u2212 b",
        claim=lambda v: f"{v.a} against {v.b}",
        better=True,
    ),
    "trend": ShownKind(
        short=lambda v: f"slope over {v.a}",
        drawn=lambda v: f"slope of {v.metric} over {v.a}",
        better=True,
        badge=True,
    ),
    "interaction": ShownKind(
        short=lambda v: f"interaction of {v.a}",
        drawn=lambda v: f"{v.metric}, difference of differences",
        badge=True,
    ),
    "more": ShownKind(
        short=lambda v: f"{v.a} moves it more than {v.b}",
        drawn=lambda v: f"{v.metric}, what {v.a} moves less what {v.b} moves",
        replicates=False,
    ),
    "best": ShownKind(
        short=lambda v: f"best {v.a}",
        drawn=lambda v: f"{v.metric} by level",
        better=True,
        band=False,
        replicates=False,
    ),
    "collapse": ShownKind(
        short=lambda v: f"loss of {v.a}",
        drawn=lambda v: f"{v.metric}, lost since cycle {v.step}",
        margin="",
    ),
    "sooner": ShownKind(
        short=lambda v: f"time of {v.a} - {v.b}",
        drawn=lambda v: "cycles of a \u2212 cycles of b",
    ),
}
