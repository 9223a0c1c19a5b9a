"""Checks of every place that names levels: baseline, arms, where and the sides of contrasts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.study_file.contrast_checks import ContrastChecks
from harness.study_file.document import Document
from harness.study_file.levels import Level, find
from harness.study_file.nearest import nearest
from harness.study_file.resolve import Resolver
from harness.study_file.shape import Shape
from harness.study_file.strangers import Strangers
from harness.study_file.where import Where, WhereError

Levels = Mapping[str, Mapping[str, Level]]


class LevelChecks:
    """Checks levels named outside `factors`; problems go to the document.

    Factors that are themselves wrong (`shape.broken`) are known names whose levels are not judged.
    """

    def __init__(
        self, document: Document, shape: Shape, levels: Levels, resolver: Resolver | None
    ) -> None:
        self.document = document
        self.fail = document.fail
        self.shape = shape
        self.written = shape.study
        self.levels = levels
        self.known = set(levels) | shape.broken
        named_by_path = [
            name
            for name, factor in shape.study.factors.items()
            if factor.path is None and not isinstance(factor.levels, dict)
        ]
        self.strangers = Strangers(document, self.known, named_by_path, resolver)

    def run(self) -> list[int]:
        """Check all; returns the positions of the contrasts that are right."""
        self._baseline()
        self._arms_listed()
        for index, text in self.shape.numbered("where", self.written.where):
            self._where(index, text)
        contrasts = ContrastChecks(
            self.document, self.shape, self.levels, self._named, self.strangers
        )
        seen: set[str] = set()
        good = []
        for index, contrast in self.shape.numbered("contrasts", self.written.contrasts):
            if contrast.id in seen:
                self.fail(f"contrast id {contrast.id!r} is taken", "contrasts", index, "id")
            seen.add(contrast.id)
            if contrasts.run(index, contrast):
                good.append(index)
        self.strangers.tell()
        return good

    def _named(self, given: Mapping[str, Any], *loc: str | int) -> bool:
        """Check `factor: level` pairs; true if all are known."""
        good = True
        for factor, value in given.items():
            if factor not in self.known:
                self.strangers.add(factor, (*loc, factor), key=True)
                good = False
            elif factor not in self.levels:
                good = False
            elif find(self.levels[factor], value) is None:
                allowed = nearest(value, self.levels[factor])
                self.fail(f"{value!r} is not a level of {factor!r}{allowed}", *loc, factor)
                good = False
        return good

    def _baseline(self) -> None:
        given = self.written.baseline
        if not given:
            return
        self._named(given, "baseline")
        missing = self._missing(given)
        if missing:
            self.fail(f"the baseline names no level of {', '.join(missing)}", "baseline", key=True)

    def _missing(self, given: Mapping[str, Any]) -> list[str]:
        """Factors that are not named; none where a name that is no factor may stand for each."""
        missing = sorted(self.known - set(given))
        return missing if len(missing) > len(set(given) - self.known) else []

    def _arms_listed(self) -> None:
        explicit = self.written.design == "explicit"
        if explicit and not self.written.arms and "arms" not in self.shape.lost:
            self.fail("design explicit needs `arms`: a list of factor -> level", "design")
        if "design" in self.shape.lost:
            return
        if self.written.arms and not explicit:
            said = f"`arms` belongs to design explicit; this is design {self.written.design}"
            self.fail(said, "arms", key=True)
            return
        for index, arm in self.shape.numbered("arms", self.written.arms):
            self._named(arm, "arms", index)
            missing = self._missing({**self.written.baseline, **arm})
            if missing and "baseline" not in self.shape.lost:
                said = f"names no level of {', '.join(missing)}, and no baseline does"
                self.fail(said, "arms", index)

    def _where(self, index: int, text: str) -> None:
        try:
            expression = Where(text, frozenset(self.known))
        except WhereError as error:
            place = f" (column {error.column} of {text!r})"
            if error.stranger:
                self.strangers.add(error.stranger, ("where", index), where=place)
            else:
                self.fail(f"{error}{place}", "where", index)
            return
        for factor, value, column in expression.literals:
            if factor in self.levels and find(self.levels[factor], value) is None:
                allowed = nearest(value, self.levels[factor])
                said = f"{value!r} is not a level of {factor!r}{allowed}"
                self.fail(f"{said} (column {column} of {text!r})", "where", index)
        if expression.used <= set(self.levels):
            self._evaluable(expression, index)

    def _evaluable(self, expression: Where, index: int) -> None:
        """Values that cannot be compared show for one level of each factor at a time."""
        values = {f: [level.value for level in own.values()] for f, own in self.levels.items()}
        first = {factor: own[0] for factor, own in values.items()}
        for factor in sorted(expression.used):
            for value in values[factor]:
                try:
                    expression({**first, factor: value})
                except WhereError as error:
                    self.fail(f"{error} ({expression.text!r})", "where", index)
                    return
