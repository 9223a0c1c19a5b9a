"""Checks of factors, of what the design needs, and of every place that names levels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.journal.labels import label_of
from harness.study.arms import everything_on, most_combinations, rows_of
from harness.study.contrast_checks import ContrastChecks
from harness.study.fractions import NoFractionError, smallest_fraction
from harness.study.model import DESIGNS, Factor, Level, Scores, Study, find, levels_of
from harness.study.resolver import RecipeError, Resolver, nested
from harness.study.scores import ScoresError, scores_of
from harness.study.shape import Shape
from harness.study.unknown_factors import UnknownFactors
from harness.study.where_expression import Where, WhereError
from harness.study.yaml_file import Document
from harness.text.spelling import nearest

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
        self.strangers = UnknownFactors(document, self.known, named_by_path, resolver)

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


MOST_COMBINATIONS = 100_000
"""A study of more cannot be meant: at 6 s an arm that is a week."""
MOST_TRIALS = 300_000
"""Arms times replicates; every one is an object of the plan."""
NEED_BASELINE = ("one_factor", "pairs")


class DesignChecks:
    """Checks one study against its design; problems go to the document."""

    def __init__(self, document: Document, study: Study, levels: Levels, lost: set[str]) -> None:
        self.fail = document.fail
        self.study = study
        self.levels = levels
        self.lost = lost

    def run(self) -> bool:
        """Check all; true if the combinations can be enumerated."""
        study = self.study
        if "design" in self.lost:
            return False
        good = self._belongs()
        if study.design in NEED_BASELINE and not study.baseline and "baseline" not in self.lost:
            self.fail(f"design {study.design} needs a `baseline`: factor -> level", "design")
            good = False
        if study.design == "leave_one_out":
            good = all([self._off(name) for name in self.levels]) and good
        elif study.design == "fractional":
            good = self._fraction() and good
        elif study.design == "zip":
            good = self._lengths() and good
        return good

    def size(self) -> bool:
        """Whether there are few enough combinations to go through; for a study without mistakes."""
        count, replicates = most_combinations(self.study), self.study.replicates
        if count > MOST_COMBINATIONS:
            others = ", ".join(name for name in DESIGNS if name != self.study.design)
            self.fail(
                f"design {self.study.design} has {count} combinations; at most {MOST_COMBINATIONS} "
                f"are enumerated, before `where`. Take fewer levels or another design: {others}",
                "factors",
                key=True,
            )
        elif count * replicates > MOST_TRIALS:
            self.fail(
                f"{count} combinations x {replicates} replicates are {count * replicates} trials; "
                f"at most {MOST_TRIALS} are planned",
                "replicates" if replicates > 1 else "factors",
            )
        return count <= MOST_COMBINATIONS and count * replicates <= MOST_TRIALS

    def _belongs(self) -> bool:
        """Settings that another design reads are a mistake, not a remark."""
        good = True
        design = self.study.design
        if self.study.resolution is not None and design != "fractional":
            said = f"`resolution` belongs to design fractional; this is design {design}"
            self.fail(said, "resolution", key=True)
            good = False
        for name, factor in self.study.factors.items():
            if factor.has_off and design != "leave_one_out":
                said = f"`off` belongs to design leave_one_out; this is design {design}"
                self.fail(said, "factors", name, "off", key=True)
                good = False
        return good

    def _off(self, name: str) -> bool:
        factor, own = self.study.factors[name], self.levels[name]
        place: tuple[Any, ...] = ("factors", name)
        if not factor.has_off:
            said = (
                "design leave_one_out needs an `off` level for every factor: "
                "{levels: [...], off: LEVEL}"
            )
            self.fail(said, *place, key=True)
            return False
        off = find(own, factor.off)
        if off is None:
            said = f"{factor.off!r} is not a level of {name!r}{nearest(factor.off, own)}"
            self.fail(said, *place, "off")
            return False
        start = self.study.baseline.get(name)
        if name in self.study.baseline and find(own, start) == off:
            said = "the baseline of design leave_one_out has everything on; this is the `off` level"
            self.fail(said, "baseline", name)
            return False
        if len(own) < 2:
            self.fail("its only level is its `off` level; give one that is on", *place, key=True)
            return False
        if name not in self.study.baseline and name not in everything_on(
            {name: factor}, {name: own}
        ):
            said = f"{len(own) - 1} levels are on; the `baseline` must say which one is meant"
            self.fail(said, *place, key=True)
            return False
        return True

    def _fraction(self) -> bool:
        good = True
        for name, own in self.levels.items():
            if len(own) != 2:
                said = f"design fractional needs two levels a factor; this one has {len(own)}"
                self.fail(said, "factors", name, key=True)
                good = False
        if self.study.resolution is None:
            if "resolution" not in self.lost:
                said = "design fractional needs a `resolution`: 3, 4 or 5 (see `stillhouse schema`)"
                self.fail(said, "design")
            return False
        try:
            smallest_fraction(len(self.study.factors), self.study.resolution)
        except NoFractionError as error:
            self.fail(f"{error}; ask for a lower resolution, or design full", "resolution")
            return False
        return good

    def _lengths(self) -> bool:
        lengths = {name: len(rows_of(self.study.factors[name])) for name in self.levels}
        first = next(iter(lengths.values()), 0)
        for name, length in lengths.items():
            if length != first:
                told = f"{next(iter(lengths))!r} has {first} levels, this one {length}"
                self.fail(
                    f"factors of design zip advance together and need equal lengths; {told}",
                    *("factors", name),
                    key=True,
                )
        return all(length == first for length in lengths.values())
