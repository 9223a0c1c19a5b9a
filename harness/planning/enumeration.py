"""Which combinations of levels a design enumerates, before `where` has its say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from harness.planning.fraction import Fraction, smallest_fraction
from harness.study_file.levels import Level, find, label_of

if TYPE_CHECKING:
    from harness.study import Factor, Study

Combination = dict[str, str]
"""Factor -> level label."""
Levels = Mapping[str, Mapping[str, Level]]
"""Factor -> level label -> level."""


def enumerated(study: Study, start: Combination | None) -> Iterator[Combination]:
    """The combinations of a checked study's design, in the order of the file, duplicates included.

    Args:
        study: the study.
        start: the baseline as labels, where there is one.
    """
    return _ENUMERATED[study.design](study, study.levels(), start or {})


def most_combinations(study: Study) -> int:
    """How many combinations `enumerated` would go through, without making them."""
    counts = [len(own) for own in study.levels().values()]
    singles = [count - 1 for count in counts]
    if study.design in ("one_factor", "leave_one_out"):
        return 1 + sum(singles)
    if study.design == "pairs":
        return 1 + sum(singles) + sum(a * b for a, b in itertools.combinations(singles, 2))
    if study.design == "fractional":
        return fraction_of(study).runs
    if study.design == "zip":
        return len(rows_of(next(iter(study.factors.values()))))
    return len(study.arms) if study.design == "explicit" else math.prod(counts)


def fraction_of(study: Study) -> Fraction:
    """The fraction of a checked `fractional` study; through its baseline, where it names one."""
    known = study._cache.get("fraction")
    if known is None:
        levels = study.levels()
        known = smallest_fraction(len(levels), study.resolution or 3)
        if study.baseline:
            found = {f: find(own, study.baseline.get(f)) for f, own in levels.items()}
            labels = {f: level.label for f, level in found.items() if level is not None}
            if len(labels) == len(levels):
                known = known.through(codes(levels, labels))
        study._cache["fraction"] = known
    made: Fraction = known
    return made


def codes(levels: Levels, combination: Combination) -> tuple[int, ...]:
    """-1 for the first level of each factor, +1 for the second."""
    return tuple(-1 if combination[f] == next(iter(own)) else 1 for f, own in levels.items())


def everything_on(factors: Mapping[str, Factor], levels: Levels) -> Combination:
    """Factor -> the level that is not its `off` level, where there is just one such level."""
    found = {}
    for name, own in levels.items():
        off = find(own, factors[name].off)
        others = [label for label in own if off is not None and label != off.label]
        if len(others) == 1:
            found[name] = others[0]
    return found


def rows_of(factor: Factor) -> list[str]:
    """Labels of a factor's levels as listed: design zip may repeat one."""
    listed = factor.levels
    return list(listed) if isinstance(listed, dict) else [label_of(value) for value in listed]


def _full(study: Study, levels: Levels, start: Combination) -> Iterator[Combination]:
    for labels in itertools.product(*levels.values()):
        yield dict(zip(levels, labels, strict=True))


def _one_factor(study: Study, levels: Levels, start: Combination) -> Iterator[Combination]:
    yield {factor: start[factor] for factor in levels}
    for factor, own in levels.items():
        for label in own:
            yield {f: label if f == factor else start[f] for f in levels}


def _leave_one_out(study: Study, levels: Levels, start: Combination) -> Iterator[Combination]:
    yield {factor: start[factor] for factor in levels}
    for factor, own in levels.items():
        off = find(own, study.factors[factor].off)
        assert off is not None, "checked"
        yield {f: off.label if f == factor else start[f] for f in levels}


def _pairs(study: Study, levels: Levels, start: Combination) -> Iterator[Combination]:
    yield from _one_factor(study, levels, start)
    for one, two in itertools.combinations(levels, 2):
        for first, second in itertools.product(levels[one], levels[two]):
            changed = {one: first, two: second}
            yield {f: changed.get(f, start[f]) for f in levels}


def _fractional(study: Study, levels: Levels, start: Combination) -> Iterator[Combination]:
    sides = {factor: list(own) for factor, own in levels.items()}
    for row in fraction_of(study).levels():
        yield {f: both[code > 0] for (f, both), code in zip(sides.items(), row, strict=True)}


def _zip(study: Study, levels: Levels, start: Combination) -> Iterator[Combination]:
    for labels in zip(*(rows_of(study.factors[f]) for f in levels), strict=True):
        yield dict(zip(levels, labels, strict=True))


def _explicit(study: Study, levels: Levels, start: Combination) -> Iterator[Combination]:
    for arm in study.arms:
        found = {factor: find(levels[factor], value) for factor, value in arm.items()}
        written = start | {f: level.label for f, level in found.items() if level is not None}
        yield {factor: written[factor] for factor in levels}


_ENUMERATED: dict[str, Callable[[Study, Levels, Combination], Iterator[Combination]]] = {
    "full": _full,
    "one_factor": _one_factor,
    "leave_one_out": _leave_one_out,
    "pairs": _pairs,
    "fractional": _fractional,
    "zip": _zip,
    "explicit": _explicit,
}
