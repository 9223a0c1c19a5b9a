"""Study -> arms: which combinations of levels are run, each as a fully resolved recipe."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.contract import Subject
from harness.errors import HarnessError
from harness.planning.enumeration import Combination, enumerated, everything_on
from harness.study import Study
from harness.study_file.levels import Level, find, label_of
from harness.study_file.recipe_model import Fault
from harness.study_file.resolve import RecipeError, Resolver, nested, shares_of
from harness.study_file.where import Where
from harness.subjects import model_of
from harness.trial import Arm, canonical

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
            faults += [(combination, fault) for fault in error.faults]
            continue
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
