"""Other designs that a study file has all the settings for, on all levels and on the named ones."""

from __future__ import annotations

from collections.abc import Iterator

from harness.planning.enumeration import everything_on
from harness.study import DESIGNS, Study
from harness.study_file.levels import find


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
    for side in (study.baseline, *(s for c in study.contrasts for s in (c.a, c.b, c.at))):
        for name, value in side.items():
            level = find(study.levels()[name], value)
            named[name] |= {level.label} if level else set()
    factors = {}
    for name, factor in study.factors.items():
        own = study.levels()[name]
        judged = any(name in side for c in study.contrasts for side in (c.a, c.b, c.at))
        kept = [v.index for label, v in own.items() if label in named[name] or not judged]
        written = factor.levels
        levels = (
            {k: v for k, v in written.items() if k in kept}
            if isinstance(written, dict)
            else [v for i, v in enumerate(written) if i in kept]
        )
        factors[name] = factor.model_copy(update={"levels": levels})
    if all(len(factors[f].levels) == len(study.factors[f].levels) for f in factors):
        return None
    return study.model_copy(update={"factors": factors})
