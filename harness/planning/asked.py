"""What a contrast of another kind than a difference asks, in plain words: one phrase each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from harness.design import named_levels
from harness.planning.cells import steps_of
from harness.study import Contrast, Study
from harness.study_file.scores import scores_of, unit_of

SHOWN = 8
"""Levels and cycles shown before the rest is only counted."""


def asked(study: Study, contrast: Contrast) -> str:
    """E.g. `slope over edit_share 0, 0.1, 0.5, per unit of edit_share`; empty for sides.

    Args:
        study: the study, checked.
        contrast: one of its contrasts.
    """
    if contrast.kind == "difference":
        return ""
    phrase = _PHRASES[contrast.kind](study, contrast)
    pins = named_levels(study, contrast.at)
    return f"{phrase}, at {_levels(pins)}" if pins else phrase


def _trend(study: Study, contrast: Contrast) -> str:
    name = contrast.trend
    factor = study.factors[name]
    labels = scores_of(factor, study.levels()[name])
    return f"slope over {name} {_listed(labels)}, per {unit_of(factor, name)}"


def _interaction(study: Study, contrast: Contrast) -> str:
    """Of two levels each a difference of differences; of slopes their product."""
    one, other = (_range(study, contrast, name) for name in contrast.interaction)
    return f"whether {one} acts otherwise along {other}"


def _more(study: Study, contrast: Contrast) -> str:
    one, other = (_range(study, contrast, name) for name in contrast.more)
    return f"whether {one} moves it more than {other}"


def _best(study: Study, contrast: Contrast) -> str:
    labels = study.levels()[contrast.best]
    return f"which of {contrast.best} {_listed(labels)} is best"


def _collapse(study: Study, contrast: Contrast) -> str:
    arm = _levels(named_levels(study, contrast.collapse))
    cycles = [str(cycle) for cycle in sorted(set(study.measure_at))]
    along = f"cycles {_listed(cycles)}" if cycles else "the measured cycles"
    return f"whether {arm} loses more than {contrast.margin:g} along {along}"


def _sooner(study: Study, contrast: Contrast) -> str:
    given = contrast.sooner
    assert given is not None, "checked"
    a, b = (_levels(named_levels(study, side)) for side in contrast.sides)
    does = "loses" if given.falls else "reaches"
    return f"which {does} {given.threshold:g} sooner, {a} or {b or 'the baseline'}"


_PHRASES = {
    "trend": _trend,
    "interaction": _interaction,
    "more": _more,
    "best": _best,
    "collapse": _collapse,
    "sooner": _sooner,
}


def _range(study: Study, contrast: Contrast, factor: str) -> str:
    low, high = steps_of(study, contrast, factor).ends
    return f"{factor} ({low} to {high})"


def _levels(levels: Mapping[str, str]) -> str:
    return ", ".join(f"{factor}={label}" for factor, label in levels.items())


def _listed(labels: Iterable[str]) -> str:
    shown = list(labels)
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return ", ".join(shown[:SHOWN]) + more
