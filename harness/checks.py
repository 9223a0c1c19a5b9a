"""Every check of a study file that needs more than its shape; all mistakes are found in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from harness import subjects
from harness.contract import Subject
from harness.design import ArmsError, layout
from harness.document import Document, read
from harness.errors import Problem, StudyError, SubjectError
from harness.factor_checks import FactorChecks, nested
from harness.levels import Level, find
from harness.matching import match, sides
from harness.nearest import nearest
from harness.resolve import Fault, RecipeError, Resolver
from harness.shape import Shape, shape_of
from harness.study import Study
from harness.where import Where, WhereError
from harness.workspace import project_of


def checked_study(file: Path) -> Study:
    """Read a study file and check everything in it.

    Raises:
        StudyError: with every mistake found.
    """
    document = read(file)
    shape = shape_of(document)
    if shape is None:
        raise StudyError(file, document.problems)
    study = _Checks(file, document, shape).run()
    if document.problems:
        raise StudyError(file, document.problems)
    return study


class _Checks:
    """One pass over one study; problems are collected in the document."""

    def __init__(self, file: Path, document: Document, shape: Shape) -> None:
        self.file = file
        self.document = document
        self.shape = shape
        self.written = shape.study
        self.study = Study(**dict(shape.study), file=file)
        self.levels: dict[str, dict[str, Level]] = {}

    def run(self) -> Study:
        subject = self._subject()
        resolver = self._resolver(subject) if subject else None
        if self.shape.has_factors:
            checks = FactorChecks(self.document, self.study, resolver, self._fail)
            self.levels = checks.run(self.shape.broken)
            self._baseline()
            self._arms_listed()
            self._where()
            self._contrasts()
        if subject is not None:
            self.study = self._with_defaults(subject)
            self._measured(subject)
        if not self.document.problems and subject is not None:
            self._resolved(subject)
        return self.study

    def _fail(self, message: str, *loc: str | int, key: bool = False) -> None:
        self.document.problems.append(self.document.problem(message, loc, key=key))

    def _subject(self) -> Subject | None:
        try:
            return subjects.load(self.written.subject, project=project_of(self.file))
        except SubjectError as error:
            self._fail(str(error), "subject")
            return None

    # the recipe -----------------------------------------------------------------------------------

    def _resolver(self, subject: Subject) -> Resolver | None:
        base = self._base()
        if base is None:
            return None
        data, place = base
        self.study = self.study.model_copy(update={"base": data})
        try:
            resolver = Resolver(subject.Recipe, data)
        except RecipeError as error:
            self.document.problems += [place(fault) for fault in error.faults]
            return None
        return self._with_set(resolver)

    def _base(self) -> tuple[dict[str, Any], Callable[[Fault], Problem]] | None:
        """The base recipe's data, and how to place a fault of it; None if it cannot be read."""
        given = self.written.recipe
        if "recipe" in self.shape.broken:
            return None
        if isinstance(given, dict):
            return given, lambda fault: self.document.problem(
                fault.message, ("recipe", *fault.path)
            )
        path = self.file.parent / given
        if not path.is_file():
            beside = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
            self._fail(f"no recipe file {given!r}{nearest(path.name, beside)}", "recipe")
            return None
        recipe = read(path)
        if not recipe.problems and not isinstance(recipe.data, dict):
            recipe.problems.append(recipe.problem("a recipe must be a mapping"))
        if recipe.problems:
            self.document.problems += recipe.problems
            return None
        return recipe.data, lambda fault: recipe.problem(fault.message, fault.path)

    def _with_set(self, resolver: Resolver) -> Resolver:
        good: dict[str, Any] = {}
        for path, value in self.written.set.items():
            unknown = resolver.unknown(path)
            if unknown is not None:
                self._fail(unknown, "set", path, key=True)
                continue
            other = next((p for p in good if nested(p, path)), None)
            if other is not None:
                self._fail(f"{path!r} is already assigned by {other!r}", "set", path, key=True)
                continue
            try:
                resolver.after({path: value})
            except RecipeError as error:
                under = [f for f in error.faults if nested(".".join(f.path), path)]
                for fault in under:
                    self._fail(fault.message, "set", path)
                if under:
                    continue
            good[path] = value
        try:
            return resolver.after(good)
        except RecipeError as error:
            for fault in error.faults:
                self._fail(f"{'.'.join(fault.path) or 'recipe'}: {fault.message}", "set")
            return resolver

    # levels named elsewhere -----------------------------------------------------------------------

    def _named(self, given: Mapping[str, Any], *loc: str | int) -> bool:
        """Check `factor: level` pairs; true if all are known."""
        good = True
        for factor, value in given.items():
            if factor in self.shape.broken:
                good = False
            elif factor not in self.levels:
                known = set(self.levels) | self.shape.broken - {"recipe"}
                self._fail(f"no factor {factor!r}{nearest(factor, known)}", *loc, factor, key=True)
                good = False
            elif find(self.levels[factor], value) is None:
                shown = nearest(value, self.levels[factor])
                self._fail(f"{value!r} is not a level of {factor!r}{shown}", *loc, factor)
                good = False
        return good

    def _baseline(self) -> None:
        if not self.written.baseline:
            if self.written.design == "one_factor":
                self._fail("design one_factor needs a `baseline`: factor -> level", "design")
            return
        self._named(self.written.baseline, "baseline")
        missing = [f for f in self.levels if f not in self.written.baseline]
        if missing:
            self._fail(f"the baseline names no level of {', '.join(missing)}", "baseline", key=True)

    def _arms_listed(self) -> None:
        explicit = self.written.design == "explicit"
        if explicit and not self.written.arms and "arms" not in self.shape.broken:
            self._fail("design explicit needs `arms`: a list of factor -> level", "design")
        if self.written.arms and not explicit:
            self._fail(
                f"`arms` belongs to design explicit; this is design {self.written.design}",
                "arms",
                key=True,
            )
            return
        for index, arm in zip(self.shape.origin["arms"], self.written.arms, strict=True):
            self._named(arm, "arms", index)
            missing = [f for f in self.levels if f not in arm and f not in self.written.baseline]
            if missing:
                self._fail(
                    f"names no level of {', '.join(missing)}, and no baseline does", "arms", index
                )

    def _where(self) -> None:
        known = set(self.levels) | self.shape.broken - {"recipe"}
        for index, text in zip(self.shape.origin["where"], self.written.where, strict=True):
            try:
                expression = Where(text, frozenset(known))
            except WhereError as error:
                self._fail(f"{error} (column {error.column} of {text!r})", "where", index)
                continue
            for name, value, column in expression.literals:
                if name in self.levels and find(self.levels[name], value) is None:
                    shown = nearest(value, self.levels[name])
                    self._fail(
                        f"{value!r} is not a level of {name!r}{shown} "
                        f"(column {column} of {text!r})",
                        "where",
                        index,
                    )
            self._evaluable(expression, index)

    def _evaluable(self, expression: Where, index: int) -> None:
        """Comparisons that cannot be made fail for the first level or for none of its type."""
        if not expression.used <= set(self.levels):
            return
        values = {f: [level.value for level in own.values()] for f, own in self.levels.items()}
        first = {factor: own[0] for factor, own in values.items()}
        for factor in sorted(expression.used):
            for value in values[factor]:
                try:
                    expression({**first, factor: value})
                except WhereError as error:
                    self._fail(f"{error} ({expression.text!r})", "where", index)
                    return

    def _contrasts(self) -> None:
        seen: dict[str, int] = {}
        for index, contrast in zip(
            self.shape.origin["contrasts"], self.written.contrasts, strict=True
        ):
            if contrast.id in seen:
                self._fail(f"contrast id {contrast.id!r} is taken", "contrasts", index, "id")
            seen.setdefault(contrast.id, index)
            parts = (("a", contrast.a), ("b", contrast.b), ("at", contrast.at))
            good = all([self._named(part, "contrasts", index, name) for name, part in parts])
            for factor in contrast.at:
                if factor in contrast.a or factor in contrast.b:
                    self._fail(
                        f"{factor!r} is already fixed by a side; `at` pins other factors",
                        *("contrasts", index, "at", factor),
                        key=True,
                    )
            if good:
                self._comparable(index)

    def _comparable(self, index: int) -> None:
        contrast = self.written.contrasts[self.shape.origin["contrasts"].index(index)]
        one_sided = set(contrast.a) ^ set(contrast.b)
        unfilled = sorted(one_sided - set(self.written.baseline))
        if unfilled:
            self._fail(
                f"only one side names {', '.join(unfilled)}; name it on both, or give a baseline",
                *("contrasts", index),
            )
        elif not one_sided and all(
            find(self.levels[f], contrast.a[f]) == find(self.levels[f], contrast.b[f])
            for f in contrast.a
        ):
            self._fail("sides a and b are the same", "contrasts", index, "b")

    # what is measured -----------------------------------------------------------------------------

    def _with_defaults(self, subject: Subject) -> Study:
        headline = [name for name, spec in subject.metrics.items() if spec.headline]
        primary = self.written.primary or next(iter(headline or subject.metrics), "")
        protocols = list(getattr(subject, "protocols", ()))
        default = getattr(subject, "default_protocol", "") or next(iter(protocols), "default")
        contrasts = [
            c if c.metric else c.model_copy(update={"metric": primary})
            for c in self.written.contrasts
        ]
        return self.study.model_copy(
            update={
                "primary": primary,
                "protocol": self.written.protocol or default,
                "contrasts": contrasts,
            }
        )

    def _measured(self, subject: Subject) -> None:
        known = list(subject.metrics)
        if self.study.primary not in known:
            self._fail(
                f"no metric {self.study.primary!r}{nearest(self.study.primary, known)}", "primary"
            )
        for index, contrast in zip(
            self.shape.origin["contrasts"], self.written.contrasts, strict=True
        ):
            if contrast.metric and contrast.metric not in known:
                self._fail(
                    f"no metric {contrast.metric!r}{nearest(contrast.metric, known)}",
                    *("contrasts", index, "metric"),
                )
        protocols = list(getattr(subject, "protocols", ()))
        name = self.study.protocol
        if protocols and name not in protocols and not Path(name).is_file():
            self._fail(f"no protocol {name!r}{nearest(name, protocols)}", "protocol")
            return
        if not self.document.problems:
            resolved = layout_or_none(self.study, subject)
            try:
                if resolved is not None:
                    subject.fingerprints(resolved, name)
            except (ValueError, OSError) as error:
                self._fail(f"protocol {name!r} cannot be used: {error}", "protocol")

    def _resolved(self, subject: Subject) -> None:
        """Checks that need the arms themselves: only reached when all else is right."""
        try:
            made = layout(self.study, subject)
        except ArmsError as error:
            for text in _grouped(error):
                self._fail(text, "factors", key=True)
            return
        if not made.arms:
            self._fail("`where` leaves no arm", "where", key=True)
            return
        if self.study.baseline and not any(arm.baseline for arm in made.arms):
            self._fail(
                "the baseline is not among the arms: `where` or `arms` leaves it out", "baseline"
            )
        for index, contrast in enumerate(self.study.contrasts):
            matched = match(self.study, made, contrast)
            if not matched.pairs:
                a, b = sides(self.study, contrast)
                self._fail(
                    f"contrast {contrast.id} matches no pair of arms: a {_shown(a)}, b {_shown(b)}; "
                    "no planned arms have these levels and agree on all other factors",
                    *("contrasts", index),
                )


def layout_or_none(study: Study, subject: Subject) -> dict[str, Any] | None:
    """The first arm's recipe, or None where the arms cannot be resolved (reported elsewhere)."""
    try:
        arms = layout(study, subject).arms
    except ArmsError:
        return None
    return arms[0].recipe if arms else None


def _grouped(error: ArmsError) -> Iterable[str]:
    """One text per message, with how many arms it concerns and the first of them."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for combination, fault in error.faults:
        groups.setdefault((".".join(fault.path), fault.message), []).append(combination)
    for (path, message), found in groups.items():
        yield (
            f"{len(found)} arm(s) have a recipe that is refused, e.g. {_shown(found[0])}: "
            f"{path or 'recipe'}: {message}"
        )


def _shown(levels: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{k}: {v}" for k, v in levels.items()) + "}"
