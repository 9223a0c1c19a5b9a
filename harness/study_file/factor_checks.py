"""Checks of the factors: their levels, the recipe paths they set, and that no two set the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.study import Factor, Scores, Study
from harness.study_file.document import Document
from harness.study_file.levels import Level, label_of, levels_of
from harness.study_file.resolve import RecipeError, Resolver, nested
from harness.study_file.scores import ScoresError, scores_of


class FactorChecks:
    """Checks every factor; problems go to the document."""

    def __init__(self, document: Document, study: Study, resolver: Resolver | None) -> None:
        self.study = study
        self.resolver = resolver
        self.fail = document.fail
        self.owners: dict[str, str] = {path: "`set`" for path in study.set}

    def run(self, broken: set[str]) -> dict[str, dict[str, Level]]:
        """Levels of the factors that are right; the others join `broken`."""
        found: dict[str, dict[str, Level]] = {}
        for name, factor in self.study.factors.items():
            if self._shaped(name, factor):
                self._distinct(name, factor)
                found[name] = levels_of(name, factor)
                self._order(name, factor, found[name])
                self._paths(name, factor, found[name])
            else:
                broken.add(name)
        return found

    def _shaped(self, name: str, factor: Factor) -> bool:
        """Levels that set several fields must be mappings of recipe paths."""
        if not isinstance(factor.levels, dict) or factor.path:
            return True
        good = True
        for label, value in factor.levels.items():
            if not isinstance(value, dict) or not value:
                self.fail(
                    f"level {label!r} must be a mapping of recipe path to value, given {value!r}; "
                    "or give the factor a `path`",
                    *("factors", name, "levels", label),
                )
                good = False
        return good

    def _distinct(self, name: str, factor: Factor) -> None:
        if isinstance(factor.levels, dict) or self.study.design == "zip":
            return  # design zip may repeat a level beside different ones of another factor
        seen: dict[str, Any] = {}
        for index, value in enumerate(factor.levels):
            label = label_of(value)
            if label in seen:
                self.fail(
                    f"level {value!r} is the same as {seen[label]!r}",
                    *("factors", name, "levels", index),
                )
            seen.setdefault(label, value)

    def _order(self, name: str, factor: Factor, levels: Mapping[str, Level]) -> None:
        """Levels in order must have numbers to stand at."""
        try:
            scores_of(factor, levels)
        except ScoresError as error:
            place: tuple[str | int, ...] = ("ordered",)
            if isinstance(factor.ordered, Scores):
                place = ("ordered", "scores", *((error.number,) if error.level else ()))
            elif error.level is not None:
                place = ("levels", error.level.index)
            self.fail(str(error), "factors", name, *place)

    def _paths(self, name: str, factor: Factor, levels: Mapping[str, Level]) -> None:
        mine: dict[str, Level] = {}
        for level in levels.values():
            place = ("factors", name, "levels", level.index)
            for number, path in enumerate(level.assignments):
                inside = (*place, path) if level.named and not factor.path else place
                other = next((p for p in list(level.assignments)[:number] if nested(p, path)), None)
                if other is not None:
                    self.fail(
                        f"{path!r} and {other!r} are assigned by the same level", *inside, key=True
                    )
                if path not in mine:
                    mine[path] = level
                    self._path(name, factor, path, inside)
                if self.resolver is not None and self.resolver.unknown(path) is None:
                    self._value(path, level, inside)
        self.owners |= {path: f"factor {name!r}" for path in mine}

    def _path(self, name: str, factor: Factor, path: str, inside: tuple[str | int, ...]) -> None:
        if not (isinstance(factor.levels, dict) and not factor.path):
            inside = ("factors", name, "path") if factor.path else ("factors", name)
        key = inside[-1] != "path"
        unknown = self.resolver.unknown(path) if self.resolver is not None else None
        if unknown is not None:
            self.fail(unknown, *inside, key=key)
        other = next((p for p in self.owners if nested(p, path)), None)
        if other is not None:
            self.fail(
                f"{path!r} is already assigned by {self.owners[other]}"
                + (f" (as {other!r})" if other != path else ""),
                *inside,
                key=key,
            )

    def _value(self, path: str, level: Level, inside: tuple[str | int, ...]) -> None:
        assert self.resolver is not None
        try:
            self.resolver.resolve({path: level.assignments[path]})
        except RecipeError as error:
            for fault in error.faults:
                dotted = ".".join(fault.path)
                if (dotted + ".").startswith(path + "."):
                    deeper = f" (at {dotted})" if dotted != path else ""
                    self.fail(f"{fault.message}{deeper}", *inside)
