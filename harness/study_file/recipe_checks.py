"""Checks of the base recipe and of `set`, with mistakes placed in the file they are in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.contract import Subject
from harness.errors import HarnessError, Problem
from harness.study_file.document import Document, is_file, read
from harness.study_file.nearest import nearest
from harness.study_file.recipe_model import Fault
from harness.study_file.resolve import RecipeError, Resolver, nested, resolver_of
from harness.study_file.shape import Shape
from harness.subjects import model_of


class RecipeChecks:
    """Reads the base recipe and applies `set`; problems go to the study's document."""

    def __init__(self, file: Path, document: Document, shape: Shape) -> None:
        self.file = file
        self.document = document
        self.shape = shape
        self.base: dict[str, Any] = {}
        """The base recipe's data as written."""
        self._recipe: Document | None = None

    def run(self, subject: Subject) -> Resolver | None:
        """A resolver on base and `set`, without their faulty parts; None if that cannot be made."""
        found = self._read()
        if found is None:
            return None
        self.base, place = found
        try:
            model = model_of(subject, self.base)
        except HarnessError as error:  # only a schema that a command names can be at fault
            self.document.fail(str(error), "subject", "recipe_schema")
            return None
        if getattr(model, "only_shown", False):
            self.document.refuse_words("recipe", "set", "factors")
            if self._recipe is not None:
                told = len(self._recipe.problems)
                self._recipe.refuse_words()
                self.document.problems += self._recipe.problems[told:]
        resolver, faults = resolver_of(model, self.base)
        self.document.problems += [place(fault) for fault in faults]
        return self._with_set(resolver) if resolver is not None else None

    def _read(self) -> tuple[dict[str, Any], Callable[[Fault], Problem]] | None:
        """The base recipe's data, and how to place a fault of it; None if it cannot be read."""
        given = self.shape.study.recipe
        if "recipe" in self.shape.lost:
            return None
        if isinstance(given, dict):
            return given, lambda fault: self.document.problem(
                fault.message, ("recipe", *fault.path)
            )
        path = self.file.parent / given
        if not is_file(path):
            try:
                beside = [p.name for p in path.parent.glob("*.y*ml")]
            except OSError:  # a name that no folder can have
                beside = []
            others = [name for name in beside if name != self.file.name]
            self.document.fail(f"no recipe file {given!r}{nearest(path.name, others)}", "recipe")
            return None
        recipe = self._recipe = read(path)
        if not recipe.problems and not isinstance(recipe.data, dict):
            recipe.fail("a recipe must be a mapping")
        self.document.problems += recipe.problems
        if not isinstance(recipe.data, dict):
            return None
        return recipe.data, lambda fault: recipe.problem(fault.message, fault.path)

    def _with_set(self, resolver: Resolver) -> Resolver:
        good: dict[str, Any] = {}
        for path, value in self.shape.study.set.items():
            unknown = resolver.unknown(path)
            other = next((p for p in good if nested(p, path)), None)
            if unknown is not None:
                self.document.fail(unknown, "set", path, key=True)
            elif other is not None:
                said = f"{path!r} is already assigned by {other!r}"
                self.document.fail(said, "set", path, key=True)
            elif self._fits(resolver, path, value):
                good[path] = value
        try:
            return resolver.after(good)
        except RecipeError as error:
            for fault in error.faults:
                said = f"{'.'.join(fault.path) or 'recipe'}: {fault.message}"
                self.document.fail(said, "set", key=True)
            return resolver

    def _fits(self, resolver: Resolver, path: str, value: Any) -> bool:
        try:
            resolver.after({path: value})
        except RecipeError as error:
            under = [f for f in error.faults if (".".join(f.path) + ".").startswith(path + ".")]
            for fault in under:
                self.document.fail(fault.message, "set", path)
            return not under  # a fault of the whole may go once all of `set` is applied
        return True
