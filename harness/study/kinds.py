"""The kinds of contrasts: the key of the study file that makes each, and what it may be given.

What a kind does is told once in every room that does something by kind: its arms and its words in
`study/contrasts.py`, its checks in `study/contrast_checks.py`, what it tests in
`planning/kinds.py`, how it is estimated in `analysis/estimated_contrasts.py` and told in
`analysis/kind_words.py`, how it is shown in `report/kinds.py`; and by a verifier that shares no
code with these, in `bundle/verify/readings.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

ContrastKind = Literal["difference", "trend", "interaction", "more", "best", "collapse", "sooner"]


@dataclass(frozen=True)
class Traits:
    """What holds of every contrast of a kind."""

    key: str
    """Key of a contrast that makes it one of this kind; a contrast has exactly one of them."""
    needs: str = ""
    """What planned arms have to be, in words; empty for a difference, which names its sides."""
    sides: bool = False
    """It compares a side `a` with a side `b`, each of them levels."""
    factors: bool = False
    """It is about whole factors, not about levels."""
    linear: bool = False
    """It is one weighted sum of arms, whose direction may be expected."""
    margin: bool = False
    """It may have a margin."""
    levels: bool = False
    """It may pick two levels of a factor."""
    directed: bool = False
    """It asks what is better, so that the metric must say."""
    unsigned: bool = False
    """Its sign follows the order of the levels, and is none of what is compared."""
    unit: str = ""
    """Of its number, where it is not the metric's."""
    over_training: bool = False
    """It looks along training: at the measured cycles, not at the end alone."""


KINDS: dict[ContrastKind, Traits] = {
    "difference": Traits("a", sides=True, linear=True, margin=True),
    "trend": Traits(
        "trend",
        "at least three of its levels, with all other factors alike",
        factors=True,
        linear=True,
        margin=True,
    ),
    "interaction": Traits(
        "interaction",
        "both factors changed together, with all other factors alike",
        factors=True,
        linear=True,
        margin=True,
        levels=True,
        unsigned=True,
    ),
    "more": Traits(
        "more",
        "the ends of each factor, with all other factors alike",
        factors=True,
        levels=True,
        unsigned=True,
    ),
    "best": Traits(
        "best",
        "at least two of its levels, with all other factors alike",
        factors=True,
        directed=True,
    ),
    "collapse": Traits(
        "collapse", "an arm with these levels", margin=True, directed=True, over_training=True
    ),
    "sooner": Traits(
        "sooner",
        "two arms with the levels of its sides that agree on all other factors",
        sides=True,
        directed=True,
        unit="cycles",
        over_training=True,
    ),
}
"""In the order in which the kinds are told."""

KEYS: dict[str, ContrastKind] = {traits.key: kind for kind, traits in KINDS.items()}
"""Key of a contrast -> the kind it makes it."""


def kinds_with(trait: Callable[[Traits], bool]) -> tuple[ContrastKind, ...]:
    """The kinds of which something holds."""
    return tuple(kind for kind, traits in KINDS.items() if trait(traits))
