"""Study -> arms: which combinations of levels a design runs, each as a fully resolved recipe."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.contract import Subject
from harness.errors import HarnessError
from harness.journal.labels import label_of
from harness.journal.trial import Arm, canonical
from harness.study.fractions import FractionalDesign, smallest_fraction
from harness.study.model import Level, Study, find
from harness.study.resolver import Fault, RecipeError, Resolver, nested, shares_of
from harness.study.where_expression import Where
from harness.subjects.load import model_of

if TYPE_CHECKING:
    from harness.study.model import Factor


MAX_NAME = 100


class ArmsError(HarnessError):
    """Arms whose recipe the subject refuses, though each level alone may be right."""

    def __init__(self, faults: list[tuple[Combination, Fault]]) -> None:
        self.faults = faults
        arm, fault = faults[0]
        shown = ", ".join(f"{k}={v}" for k, v in arm.items())
        super().__init__(
            f"{len(faults)} arm(s) have a recipe that the subject refuses; the first, {shown}: "
            f"{'.'.join(fault.path) or 'recipe'}: {fault.message}"
        )


@dataclass(frozen=True)
class Layout:
    """The arms of a study and the combinations they stand for."""

    arms: list[Arm]
    """Distinct resolved recipes; the baseline first, then the order of the file."""
    cells: list[tuple[Combination, str]]
    """Every combination with the name of its arm; two of them may share an arm."""

    @property
    def shared(self) -> dict[str, list[Combination]]:
        """Arms that more than one combination resolves to."""
        found: dict[str, list[Combination]] = {}
        for combination, arm in self.cells:
            found.setdefault(arm, []).append(combination)
        return {arm: made for arm, made in found.items() if len(made) > 1}


def arms(study: Study, subject: Subject) -> list[Arm]:
    """All arms, the baseline first; the order depends on the study file alone.

    Raises:
        ArmsError: if the subject's model refuses a combination.
    """
    return layout(study, subject).arms


def layout(study: Study, subject: Subject) -> Layout:
    """Arms and the combinations behind them; computed once per study object."""
    known = study._cache.get("layout")
    # A recorded study is laid out again with a subject that gives the digests of the record.
    if known is None or known[0] is not subject:
        study._cache["layout"] = known = (subject, _layout(study, subject))
    made: Layout = known[1]
    return made


def mixtures(study: Study, subject: Subject) -> dict[str, dict[str, dict[str, float]]]:
    """Mixture path -> arm -> resolved shares, for the mixtures that the factors change."""
    made = layout(study, subject)
    touched = {
        path
        for own in study.levels().values()
        for level in own.values()
        for path in level.assignments
    }
    found: dict[str, dict[str, dict[str, float]]] = {}
    for arm in made.arms:
        for path, shares in shares_of(subject.Recipe, arm.recipe).items():
            if any(nested(path, other) for other in touched):
                found.setdefault(path, {})[arm.name] = shares
    return found


def baseline_of(study: Study) -> Combination | None:
    """The baseline as labels, or None where there is none.

    Where the study names none, that of design `leave_one_out` is everything on.
    """
    if study.baseline:
        return named_levels(study, study.baseline)
    if study.design == "leave_one_out":
        return everything_on(study.factors, study.levels())
    return None


def named_levels(study: Study, side: Mapping[str, Any]) -> Combination:
    """Factor -> label for levels written as values or labels; the study is already checked."""
    levels = study.levels()
    found = {factor: find(levels[factor], value) for factor, value in side.items()}
    missing = [factor for factor, level in found.items() if level is None]
    assert not missing, f"unchecked levels of {missing}"
    return {factor: level.label for factor, level in found.items() if level is not None}


def combinations(study: Study) -> list[Combination]:
    """The combinations that `where` keeps, without duplicates; the baseline first."""
    levels = study.levels()
    baseline = baseline_of(study)
    conditions = [Where(text, levels) for text in study.where]
    seen: set[tuple[str, ...]] = set()
    kept: list[Combination] = []
    for combination in enumerated(study, baseline):
        labels = tuple(combination.values())
        if labels in seen:
            continue
        seen.add(labels)
        values = {factor: levels[factor][label].value for factor, label in combination.items()}
        if all(condition(values) for condition in conditions):
            kept.append(combination)
    # A stable sort: all others keep the order of the file.
    return sorted(kept, key=lambda combination: combination != baseline)


def _layout(study: Study, subject: Subject) -> Layout:
    levels = study.levels()
    resolver = Resolver(model_of(subject, study.base), study.base).after(study.set)
    fragments = {
        factor: {label: _fragment(subject, level) for label, level in own.items()}
        for factor, own in levels.items()
    }
    baseline = baseline_of(study)
    found: dict[bytes, Arm] = {}
    names: set[str] = set()
    cells, faults = [], []
    for combination in combinations(study):
        assignments: dict[str, Any] = {}
        for factor, label in combination.items():
            assignments |= levels[factor][label].assignments
        try:
            recipe = resolver.resolve(assignments)
        except RecipeError as error:
            # All of them in one error, so that the file is mended once.
            faults += [(combination, fault) for fault in error.faults]
            continue
        # Combinations that resolve to one recipe are one arm, which runs once.
        identity = canonical(recipe)
        if identity not in found:
            parts = [fragments[factor][label] for factor, label in combination.items()]
            name = _unique("-".join(p for p in parts if p), identity, names)
            made = Arm(
                name=name, levels=combination, recipe=recipe, baseline=combination == baseline
            )
            made._canonical = identity
            found[identity] = made
        cells.append((combination, found[identity].name))
    if faults:
        raise ArmsError(faults)
    return Layout(list(found.values()), cells)


def _fragment(subject: Subject, level: Level) -> str:
    """A level's part of the arm's name: the subject's own label, else `scale2`, `portrait`."""
    if level.named or len(level.assignments) != 1:
        return _clean(level.label)
    ((path, value),) = level.assignments.items()
    labelled = getattr(subject, "arm_label", None)
    if labelled is not None and not isinstance(value, Mapping | list):
        return _clean(str(labelled(path, value)))
    bare = isinstance(value, str | Mapping) and not level.label[:1].isdigit()
    return _clean(level.label if bare else path.split(".")[-1] + label_of(value))


def _clean(text: str) -> str:
    return re.sub(r"[^\w.:+-]+", "_", text)


def _unique(name: str, identity: bytes, names: set[str]) -> str:
    """`name`, with a digest of the recipe where it is too long or taken."""
    if len(name) > MAX_NAME or name in names or not name:
        digest = hashlib.sha256(identity).hexdigest()[:6]
        name = f"{name[: MAX_NAME - 7]}-{digest}".lstrip("-")
    names.add(name)
    return name


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


def fraction_of(study: Study) -> FractionalDesign:
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
    made: FractionalDesign = known
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
