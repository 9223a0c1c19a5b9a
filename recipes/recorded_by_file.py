"""The code digest by file, to compare what was recorded with it. Delete with the next release.

Results recorded before digests were by definition (`source_files.py`) say which files they ran, and
whether those changed is told by the old method for one release. It makes no digest of anything
new, and no digest covers it. The same file is found changed where any of its text is: syntax trees
without docstrings and comments, of all files that are reached by imports.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from recipes.families.registry import module_of
from recipes.fingerprints import used_files
from recipes.kept import user_cache, write_whole
from recipes.objectives.settings import OBJECTIVES

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


def code_by_file(recipe: Mapping[str, Any], protocol: Mapping[str, Any]) -> Code:
    """The source files that a recipe or reference row runs.

    Args:
        recipe: resolved, or the settings of a reference row.
        protocol: what it is measured under, as plain data.
    """
    measured_by = tuple(sorted(set(_modules_named(protocol))))
    if "row" in recipe:
        family = module_of(recipe.get("family", "toyworld"))
        return _code((MEASURING, family, *measured_by), "")
    settings = OBJECTIVES[recipe["objective"]["name"]]
    chosen = CHOSEN if used_files(recipe) else ()
    family = module_of(recipe["family"])
    modules = (TRAINING, settings.trained_by.split(":")[0], family, *chosen, *measured_by)
    return _code(modules, settings.__name__)


def _modules_named(value: Any) -> Iterator[str]:
    """Modules of the import strings in plain data, such as a protocol's."""
    if isinstance(value, str):
        found = IMPORT_STRING.match(value)
        if found and found[0].split(".")[0] in PACKAGES:
            yield found[0]
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _modules_named(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _modules_named(item)


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


def _reached(modules: tuple[str, ...], texts: Mapping[str, _SourceText]) -> set[str]:
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


def _parts(reached: Iterable[str], settings: str, texts: Mapping[str, _SourceText]) -> set[str]:
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
def _texts() -> dict[str, _SourceText]:
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
            now[name] = found[module] = held.get(name) or _source_text(content, place)
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


_IGNORED = {"ctx", "kind", "type_comment"}


class _Part(TypedDict):
    """A top-level definition."""

    digest: str
    """Of the definition, with the imports it uses."""
    names: list[str]
    """Names that stand in it."""


class _SourceText(TypedDict):
    """What is kept of a file."""

    digest: str
    imports: list[tuple[str, str, bool]]
    """(module, name or "" for the module itself, inside a function); for types only left out."""
    parts: dict[str, _Part]
    rest: str
    """Digest of what neither defines nor imports anything."""


def _source_text(content: bytes, package: str) -> _SourceText:
    """Read a file.

    Args:
        content: of the file.
        package: dotted name that its relative imports start from.
    """
    tree = ast.parse(content)
    imported = {name: text for statement in tree.body for name, text in _bound(statement)}
    parts: dict[str, _Part] = {}
    rest = []
    for statement in tree.body:
        names = _defined(statement)
        if not names:
            if not isinstance(statement, ast.Import | ast.ImportFrom) and not _says_nothing(
                statement
            ):
                rest.append(_plain(statement))
            continue
        used = sorted({n.id for n in ast.walk(statement) if isinstance(n, ast.Name)})
        text = [_plain(statement), *(imported[name] for name in used if name in imported)]
        for name in names:
            parts[name] = _Part(digest=_digest(text), names=used)
    return _SourceText(
        digest=_digest([_plain(tree)]),
        imports=sorted(set(_imports(tree.body, package, inside=False))),
        parts=parts,
        rest=_digest(rest),
    )


def _digest(texts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _plain(node: object) -> str:
    """A syntax tree as text, without docstrings, positions and empty fields."""
    if isinstance(node, ast.AST):
        fields = (
            f"{name}={_plain(value)}"
            for name, value in ast.iter_fields(node)
            if name not in _IGNORED and value is not None and value != []
        )
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(_plain(item) for item in node if not _says_nothing(item))}]"
    return repr(node)


def _says_nothing(node: object) -> bool:
    """Whether a statement is a bare string: a docstring, of whatever it stands in or below."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _defined(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return [statement.name]
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _bound(statement: ast.stmt) -> Iterator[tuple[str, str]]:
    """(name, what it is imported from) of an import."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        where = getattr(statement, "module", None) or ""
        for alias in statement.names:
            yield (alias.asname or alias.name).split(".")[0], f"{where}:{alias.name}"


def _imports(
    nodes: Iterable[ast.AST], package: str, *, inside: bool
) -> Iterator[tuple[str, str, bool]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, "", inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            where = package.split(".")[: 1 - node.level or None] if node.level else []
            module = ".".join([*where, *([node.module] if node.module else [])])
            yield from ((module, alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.If) and _for_types(node.test):
            yield from _imports(node.orelse, package, inside=inside)
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            below = ast.iter_child_nodes(node)
            yield from _imports(below, package, inside=inside or function)


def _for_types(test: ast.expr) -> bool:
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"
