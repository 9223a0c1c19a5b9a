"""Which definitions are reached from some, by following what their names stand for.

From a definition: what each of its open names resolves to, through imports, re-exports, renamings
and attributes of modules; and its module, which is imported with all that this imports. Of a
module that is imported count its statements, and definitions that run one of ours in being made (a
constant that calls it, what it decorates); others count only where something reached names them.

A definition's digest is its text and, for each open name, what this stands for: the text of ours,
the dotted name of what is not ours. Where the name is found does not matter, so definitions may
move and files be renamed; two helpers that change places by an import do not stay unseen. Only a
definition that names `__file__` counts with the folder it lies in.

Methods are not looked up by name: a class counts whole, an object's class is named where the object
is made, and what is found by a string is a root (`code_roots.py`). Only the standard library is
imported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from recipes.definitions import SourceFile, Unit

DEPTH = 2
"""How far names are followed to tell apart what names stand for: definitions may have one text."""
PLACES = ("__file__", "__package__", "__path__", "__spec__")
"""Names by which a module knows where it lies."""


class Target(NamedTuple):
    """What a name stands for: a unit, a module of ours (no name), or something else (no module)."""

    module: str
    name: str


class Limits(NamedTuple):
    """Where following ends."""

    closed: frozenset[str] = frozenset()
    """Modules that are not entered: what is taken from them counts by its name."""
    fronts: frozenset[str] = frozenset()
    """Modules of which only what is named counts, not that they are imported."""
    choices: frozenset[Target] = frozenset()
    """Lists of alternatives: the text does not count, nor the classes it names; a recipe has
    chosen among them."""


class Reached(NamedTuple):
    """What is run."""

    digest: str
    listing: dict[str, str]
    """`module#name`, or `module` for its statements, to the digest of the text and, behind a
    hyphen, of what its names stand for."""


class Tree:
    """Source files of some packages, by module.

    Args:
        files: of every module.
        limits: where following ends.
    """

    def __init__(self, files: Mapping[str, SourceFile], limits: Limits | None = None) -> None:
        self.files = files
        self.limits = limits or Limits()
        self._found: dict[tuple[str, str], tuple[tuple[str, Target], ...]] = {}
        self._ids: dict[tuple[Target, int], str] = {}

    def reached(self, roots: Collection[Target]) -> Reached:
        """All that runs with some definitions; a root without a name is a module, whole.

        Raises:
            ValueError: a root is not there.
        """
        found: set[Target] = set()
        imported: set[str] = set()
        waiting: list[Target] = []
        for root in roots:
            if not self.has(root):
                raise ValueError(f"{root.module} has no {root.name or 'file'}, where code begins")
            waiting += self._looked_up(*root) if root.name else self._whole(root.module)
            waiting += self._import(root.module, imported)
        while waiting:
            unit = waiting.pop()
            if unit in found:
                continue
            found.add(unit)
            waiting += self._import(unit.module, imported)
            for _, module, name in self.files[unit.module]["units"][unit.name]["imports"]:
                waiting += self._import(module, imported)
                waiting += self._import(f"{module}.{name}", imported)
            for _, target in self._targets(unit):
                if target.module in self.files and not self._barred(unit, target):
                    waiting += [target] if target.name else self._whole(target.module)
        return self._digested(found)

    def has(self, root: Target) -> bool:
        """Whether a definition or module is there."""
        known = root.module in self.files
        return known and not (root.name and not self._looked_up(*root))

    def _digested(self, found: Collection[Target]) -> Reached:
        whole, listing = set(), {}
        for unit in sorted(found):
            if unit in self.limits.choices:
                continue
            own = self.files[unit.module]["units"][unit.name]["own"]
            links = self._links(unit)
            # A set of texts, without places: what moves, or stands twice, changes nothing.
            whole.add(f"{own} {links}")
            name = f"{unit.module}#{unit.name}" if unit.name else unit.module
            listing[name] = f"{own[:12]}-{links[:8]}" if links else own[:12]
        return Reached(_hash("\n".join(sorted(whole)))[:32], listing)

    def _barred(self, unit: Target, target: Target) -> bool:
        """Whether it is an alternative that a list only offers."""
        kind = self.files[target.module]["units"][target.name]["kind"] if target.name else ""
        return unit in self.limits.choices and kind == "class"

    def _import(self, module: str, imported: set[str]) -> list[Target]:
        """What runs as a module, and the packages it lies in, are imported for the first time."""
        waiting, units = [module], []
        while waiting:
            module = waiting.pop()
            if module in imported or module not in self.files or module in self.limits.closed:
                continue
            imported.add(module)
            # Importing `a.b.c` runs `a` and `a.b` first.
            waiting.append(module.rpartition(".")[0])
            if module in self.limits.fronts:
                continue
            file = self.files[module]
            for below, name in file["imports"]:
                # `from package import name` may mean a module of the package.
                waiting += (below, f"{below}.{name}")
            for name, unit in file["units"].items():
                here = Target(module, name)
                if not name or (here not in self.limits.choices and self._runs_ours(here, unit)):
                    units.append(here)
        return units

    def _runs_ours(self, unit: Target, text: Unit) -> bool:
        called = (target for name in text["calls"] for _, target in self._resolved(unit, name))
        return any(target.module in self.files for target in called)

    def _whole(self, module: str) -> list[Target]:
        return [Target(module, name) for name in self.files[module]["units"]]

    # --- what names stand for

    def _targets(self, unit: Target) -> Iterator[tuple[str, Target]]:
        for name in self.files[unit.module]["units"][unit.name]["names"]:
            yield from self._resolved(unit, name)

    def _resolved(self, unit: Target, chain: str) -> tuple[tuple[str, Target], ...]:
        """(part of the chain that was used, what it stands for); nothing for builtins."""
        head, *more = chain.split(".")
        inside = self.files[unit.module]["units"][unit.name]["imports"]
        # What a function imports itself hides what its module binds under that name.
        local = [t for b, m, n in inside if b == head for t in self._of_import(m, n, frozenset())]
        if local:
            return tuple(self._followed(head, more, local))
        key = (unit.module, chain)
        if key not in self._found:
            top = self._looked_up(unit.module, head)
            self._found[key] = tuple(self._followed(head, more, top))
        return self._found[key]

    def _followed(
        self, used: str, more: list[str], targets: list[Target]
    ) -> Iterator[tuple[str, Target]]:
        for target in targets:
            if not target.module or target.name or not more:
                yield used, target
                continue
            below = self._of_import(target.module, more[0], frozenset())
            yield from self._followed(f"{used}.{more[0]}", more[1:], below)

    def _looked_up(
        self, module: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()
    ) -> list[Target]:
        """What a name of a module stands for: its own, imported, a module in it, or nothing."""
        if (module, name) in seen:
            return []
        file = self.files[module]
        found = [Target(module, name)] if name in file["units"] else []
        for imported, attribute in file["bound"].get(name, ()):
            found += self._of_import(imported, attribute, seen | {(module, name)})
        if not found and name in PLACES:
            return [Target("", f"in {module.rpartition('.')[0]}")]
        if not found and f"{module}.{name}" in self.files:
            return [Target(f"{module}.{name}", "")]
        return found

    def _of_import(self, module: str, name: str, seen: frozenset[tuple[str, str]]) -> list[Target]:
        """What `from module import name` gives; without a name the module."""
        if not name:
            known = module in self.files and module not in self.limits.closed
            return [Target(module, "") if known else Target("", module)]
        if module in self.limits.closed or f"{module}.{name}" in self.limits.closed:
            return [Target("", name)]
        if module not in self.files:
            return [Target("", f"{module}.{name}")]
        found = self._looked_up(module, name, seen)
        if not found and "__getattr__" in self.files[module]["units"]:
            return [Target(module, "__getattr__")]
        return found or [Target("", f"{module}.{name}")]

    # --- digests

    def _links(self, unit: Target) -> str:
        """Digest of what the names of a unit stand for; empty where they stand for nothing."""
        links = sorted({f"{name} {self._id(target)}" for name, target in self._targets(unit)})
        return _hash("\n".join(links))[:24] if links else ""

    def _id(self, target: Target, depth: int = DEPTH) -> str:
        """What tells one target from another, wherever it lies."""
        if not target.module:
            return target.name
        if not target.name:
            owns = sorted(unit["own"] for unit in self.files[target.module]["units"].values())
            return _hash(" ".join(owns))
        if target in self.limits.choices:
            return target.name
        own = self.files[target.module]["units"][target.name]["own"]
        if not depth:
            return own
        if (target, depth) not in self._ids:
            below = {f"{n} {self._id(t, depth - 1)}" for n, t in self._targets(target)}
            self._ids[target, depth] = _hash("\n".join([own, *sorted(below)]))
        return self._ids[target, depth]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
