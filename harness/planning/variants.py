"""Other designs that a study file has all the settings for, on all levels and on the named ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.planning.enumeration import everything_on
from harness.study import DESIGNS, Factor, Scores, Study
from harness.study_file.levels import Level, find


def variants(study: Study) -> Iterator[tuple[Study, str]]:
    """The study's own design, then the others it has the settings for; all levels, then named."""
    for levels, base in (("all", study), ("named", _thinned(study))):
        if base is None:
            continue
        yield base, levels
        for design in DESIGNS:
            if design in ("zip", "explicit") or not _settled(base, design):
                continue
            for resolution in (3, 4, 5) if design == "fractional" else (None,):
                made = {"design": design, "resolution": resolution}
                if made != {"design": study.design, "resolution": study.resolution}:
                    yield base.model_copy(update=made), levels


def _settled(study: Study, design: str) -> bool:
    """Whether the file says all that a design needs."""
    levels = study.levels()
    if design in ("one_factor", "pairs"):
        return bool(study.baseline)
    if design == "leave_one_out":
        if not all(factor.has_off for factor in study.factors.values()):
            return False
        return bool(study.baseline) or everything_on(study.factors, levels).keys() == levels.keys()
    return design != "fractional" or all(len(own) == 2 for own in levels.values())


def _thinned(study: Study) -> Study | None:
    """The study with the levels that contrasts and baseline name; None if those are all.

    A factor that no contrast names keeps all of its levels: contrasts are averaged over them.
    """
    if not study.contrasts or study.design in ("zip", "explicit"):
        return None
    named: dict[str, set[str]] = {factor: set() for factor in study.factors}
    levels = study.levels()
    for contrast in study.contrasts:
        for name, picked in contrast.levels.items():
            named[name] |= _labels(levels[name], picked)
        for name in contrast.factors:  # trend, best and slopes are over all levels
            by_side = any(name in s for s in (*contrast.sides, contrast.collapse, contrast.levels))
            named[name] |= set() if by_side else set(levels[name])
    sides = [s for c in study.contrasts for s in (*c.sides, c.collapse, c.at)]
    for side in (study.baseline, *sides):
        for name, value in side.items():
            named[name] |= _labels(levels[name], [value])
    factors = {}
    for name, factor in study.factors.items():
        own = levels[name]
        judged = any(name in c.at or name in c.factors for c in study.contrasts)
        kept = [v.index for label, v in own.items() if label in named[name] or not judged]
        written = factor.levels
        left = (
            {k: v for k, v in written.items() if k in kept}
            if isinstance(written, dict)
            else [v for i, v in enumerate(written) if i in kept]
        )
        update = {"levels": left, "ordered": _order_of(factor, own, kept)}
        factors[name] = factor.model_copy(update=update)
    if all(len(factors[f].levels) == len(study.factors[f].levels) for f in factors):
        return None
    return study.model_copy(update={"factors": factors})


def _labels(levels: Mapping[str, Level], values: Iterable[Any]) -> set[str]:
    found = (find(levels, value) for value in values)
    return {level.label for level in found if level is not None}


def _order_of(factor: Factor, own: Mapping[str, Level], kept: Sequence[int | str]) -> Any:
    """How the levels that are kept are ordered: listed scores are those of all levels."""
    if not isinstance(factor.ordered, Scores):
        return factor.ordered
    pairs = zip(own.values(), factor.ordered.scores, strict=True)
    return Scores(scores=[score for level, score in pairs if level.index in kept])
