"""Which source files a recipe runs, by following imports, and a digest of each. Imports no torch.

Every import that a file makes is followed, also inside functions. What only some recipes run is
reached by name alone: the class that trains an objective (`trained_by` of its settings), the model
family, the protocol's factories; and file sources, whose modules are `CHOSEN`. So a new objective
or family leaves the digests of recipes without it alone. `objectives/settings.py` holds the
settings of all objectives and counts by its definitions: those that this recipe needs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from recipes.families.registry import module_of
from recipes.kept import user_cache, write_whole
from recipes.objectives.settings import OBJECTIVES
from recipes.source_text import SourceText, source_text

ROOT = Path(__file__).parent.parent
PACKAGES = ("recipes", "evaluation")
ENTRANCE = "recipes.subject"
"""Its imports inside functions are where training and measuring begin; they are named below."""
TRAINING, MEASURING = f"{ENTRANCE}.training", f"{ENTRANCE}.measuring"
CHOSEN = ("recipes.data.files", "recipes.data.rows")
"""Run only by recipes whose data are files."""
IN_PARTS = "recipes.objectives.settings"
LISTS = ("AnyObjective", "DEFAULT", "OBJECTIVES")
"""Its definitions that name every objective; a resolved recipe has chosen among them."""
IMPORT_STRING = re.compile(r"[A-Za-z_][\w.]*(?=:[A-Za-z_][\w.]*$)")
FORMAT = 1


class Code(NamedTuple):
    """Source files and one digest over all of them."""

    digest: str
    files: dict[str, str]
    """Digest of each by path from the root, and of definitions by `path#name`."""


def code_of(recipe: Mapping[str, Any], measured_by: tuple[str, ...]) -> Code:
    """The source files that a recipe or reference row runs.

    Args:
        recipe: resolved, or the settings of a reference row.
        measured_by: modules that its protocol names.
    """
    if "row" in recipe:
        family = module_of(recipe.get("family", "toyworld"))
        return _code((MEASURING, family, *measured_by), "")
    settings = OBJECTIVES[recipe["objective"]["name"]]
    chosen = CHOSEN if used_files(recipe) else ()
    family = module_of(recipe["family"])
    modules = (TRAINING, settings.trained_by.split(":")[0], family, *chosen, *measured_by)
    return _code(modules, settings.__name__)


def code_below(*modules: str) -> Code:
    """Some modules and all they import."""
    return _code((*modules, *CHOSEN), "")


def used_files(recipe: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Sources that take part and are files, by name."""
    data = recipe.get("data", {})
    return {
        name: source
        for name, source in data.get("sources", {}).items()
        if source["kind"] == "files" and (name in data["composition"] or name in data["edit_types"])
    }


def modules_named(value: Any) -> Iterator[str]:
    """Modules of the import strings in plain data, such as a protocol's."""
    if isinstance(value, str):
        found = IMPORT_STRING.match(value)
        if found and found[0].split(".")[0] in PACKAGES:
            yield found[0]
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from modules_named(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from modules_named(item)


@cache
def _code(modules: tuple[str, ...], settings: str) -> Code:
    texts = _texts()
    reached = _reached((ENTRANCE, *modules), texts)
    found = {_path(module): texts[module]["digest"] for module in reached}
    if IN_PARTS in reached:
        path = _path(IN_PARTS)
        found[path] = texts[IN_PARTS]["rest"]
        for name in _parts(reached, settings, texts):
            found[f"{path}#{name}"] = texts[IN_PARTS]["parts"][name]["digest"]
    found = dict(sorted(found.items()))
    return Code(hashlib.sha256(json.dumps(found).encode()).hexdigest()[:32], found)


def _reached(modules: tuple[str, ...], texts: Mapping[str, SourceText]) -> set[str]:
    """Modules run by some modules: they, the packages they lie in, and what all these import."""
    reached: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in reached or module not in texts:
            continue
        reached.add(module)
        waiting.extend(module[: end.start()] for end in re.finditer(r"\.", module))
        for imported, name, inside in texts[module]["imports"]:
            if inside and module == ENTRANCE:
                continue
            below = (imported, f"{imported}.{name}")
            waiting.extend(m for m in below if m not in CHOSEN or m in modules)
    return reached


def _parts(reached: Iterable[str], settings: str, texts: Mapping[str, SourceText]) -> set[str]:
    """Definitions that a recipe needs: its settings, what its files import, what those name."""
    parts = texts[IN_PARTS]["parts"]
    package, _, last = IN_PARTS.rpartition(".")
    asked = {settings}
    for module in reached:
        for imported, name, _ in texts[module]["imports"]:
            if imported == IN_PARTS:
                asked.add(name)
                whole = not name
            else:
                whole = (imported, name) == (package, last)
            asked |= parts.keys() if whole else set()
    waiting, found = [name for name in asked if name not in LISTS], set()
    while waiting:
        name = waiting.pop()
        if name in parts and name not in found:
            found.add(name)
            waiting.extend(parts[name]["names"])
    return found


@cache
def _texts() -> dict[str, SourceText]:
    """Every file of the packages by module; what was read once is kept by content."""
    kept = user_cache() / "source-files.json"
    try:
        held = json.loads(kept.read_text())
        held = held["texts"] if held["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        held = {}  # not there yet, or not ours: read the files
    found, now = {}, {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            content = path.read_bytes()
            module = _module(path)
            place = module if path.name == "__init__.py" else module.rpartition(".")[0]
            name = f"{place} {hashlib.sha256(content).hexdigest()}"
            now[name] = found[module] = held.get(name) or source_text(content, place)
    if now.keys() - held.keys():
        write_whole(kept, {"format": FORMAT, "texts": now})
    return found


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _path(module: str) -> str:
    path = ROOT.joinpath(*module.split("."))
    file = path.with_suffix(".py")  # a folder of weights may bear a module's name
    path = file if file.is_file() else path / "__init__.py"
    return path.relative_to(ROOT).as_posix()
