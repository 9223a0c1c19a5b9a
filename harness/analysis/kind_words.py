"""How the verdict on a contrast of each kind begins, and what its number is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.study.kinds import ContrastKind


@dataclass(frozen=True)
class Named:
    """What the beginning of a sentence may name."""

    a: str
    b: str
    metric: str
    within: str
    """The margin with its unit; empty without one."""
    step: int | None
    """The cycle from which most is lost."""
    reaches: str
    """What is timed, e.g. `reaches 0.2`."""
    best: Sequence[str]
    """Levels that may be the best."""
    levels: int
    """How many there are in all."""


Openings = Mapping[str, str]
"""Verdict, without what it says of size -> how its sentence begins."""


def _difference(of: Named) -> Openings:
    a, b, metric = of.a, of.b, of.metric
    return {
        "improves": f"{a} improves {metric} over {b}",
        "harms": f"{a} harms {metric} against {b}",
        "equivalent": f"{a} and {b} are equivalent on {metric} within the margin of {of.within}",
        "undecided": f"Undecided on {metric} between {a} and {b}",
    }


def _trend(of: Named) -> Openings:
    a, metric = of.a, of.metric
    return {
        "improves": f"{metric} improves as {a} rises",
        "harms": f"{metric} gets worse as {a} rises",
        "equivalent": f"{metric} does not move with {a} by more than {of.within} a unit",
        "undecided": f"Undecided whether {metric} moves with {a}",
    }


def _interaction(of: Named) -> Openings:
    a, metric = of.a, of.metric
    return {
        "improves": f"{a} together do more for {metric} than the sum of each alone",
        "harms": f"{a} together do less for {metric} than the sum of each alone",
        "equivalent": f"{a} together do what each does alone to {metric}, within {of.within}",
        "undecided": f"Undecided on {metric} whether {a} together do what each does alone",
    }


def _more(of: Named) -> Openings:
    a, b, metric = of.a, of.b, of.metric
    return {
        "more": f"{a} moves {metric} more than {b} does",
        "less": f"{a} moves {metric} less than {b} does",
        "undecided": f"Undecided whether {a} or {b} moves {metric} more",
    }


def _best(of: Named) -> Openings:
    a, metric = of.a, of.metric
    several = f"{listed(of.best)} may each be the best of {of.levels} levels of {a} on {metric}"
    return {
        "best": f"Best {a} on {metric} is {of.best[0]}" if len(of.best) == 1 else several,
        "undecided": f"No level of {a} can be told from the best on {metric}",
    }


def _collapse(of: Named) -> Openings:
    a, metric, within = of.a, of.metric, of.within
    return {
        "collapses": f"{a} collapses: it loses more than {within} of {metric} from cycle "
        f"{of.step} to its last",
        "holds": f"{a} holds: it loses no more than {within} of {metric} to its last cycle",
        "undecided": f"Undecided whether {a} loses more than {within} of {metric}",
    }


def _sooner(of: Named) -> Openings:
    a, b, metric, reaches = of.a, of.b, of.metric, of.reaches
    return {
        "sooner": f"{a} {reaches} on {metric} sooner than {b}",
        "later": f"{a} {reaches} on {metric} later than {b}",
        "undecided": f"Undecided whether {a} or {b} {reaches} on {metric} sooner",
    }


@dataclass(frozen=True)
class KindWords:
    """The words of a kind."""

    openings: Callable[[Named], Openings]
    number: str = "difference"
    """What its number is called; empty where it has none."""


WORDS: dict[ContrastKind, KindWords] = {
    "difference": KindWords(_difference),
    "trend": KindWords(_trend, "slope"),
    "interaction": KindWords(_interaction, "difference of differences"),
    "more": KindWords(_more, "difference of effects"),
    "best": KindWords(_best, ""),
    "collapse": KindWords(_collapse, "loss"),
    "sooner": KindWords(_sooner, "time"),
}


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else "".join(names)
