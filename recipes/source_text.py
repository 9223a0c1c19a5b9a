"""What a source file says: a digest without comments and docstrings, what it imports, its parts.

The digest is over the syntax tree, written plainly: fields that are empty are left out, because
later versions of Python add fields, and `ast.dump` writes them differently. Formatting, comments
and docstrings are not in it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from typing import TypedDict

IGNORED = {"ctx", "kind", "type_comment"}


class Part(TypedDict):
    """A top-level definition."""

    digest: str
    """Of the definition, with the imports it uses."""
    names: list[str]
    """Names that stand in it."""


class SourceText(TypedDict):
    """What is kept of a file."""

    digest: str
    imports: list[tuple[str, str, bool]]
    """(module, name or "" for the module itself, inside a function); for types only left out."""
    parts: dict[str, Part]
    rest: str
    """Digest of what neither defines nor imports anything."""


def source_text(content: bytes, package: str) -> SourceText:
    """Read a file.

    Args:
        content: of the file.
        package: dotted name that its relative imports start from.
    """
    tree = ast.parse(content)
    imported = {name: text for statement in tree.body for name, text in _bound(statement)}
    parts: dict[str, Part] = {}
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
            parts[name] = Part(digest=_digest(text), names=used)
    return SourceText(
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
            if name not in IGNORED and value is not None and value != []
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
