"""What a source file defines: of each definition a digest of its text, and the names left open.

A unit is a top-level function or class (whole), or all that is assigned to a top-level name, in
order. What a file does beside defining and importing is one more unit: its statements. A compound
statement at the top (`if`, `try`, `with`, a loop) is a statement and, whole, part of every name
that is bound in it; below `if TYPE_CHECKING` and `if __name__ == "__main__"` nothing counts.

The text is the syntax tree, written plainly, because `ast.dump` differs between versions of Python:
without comments, formatting, docstrings, `pass`, imports, and annotations outside the bodies of
classes, where pydantic and dataclasses read them. An import string of ours counts without its
module. Imports are kept beside the text, to find what an open name stands for; `reached.py` does.

Only the standard library is imported, and equal files give equal units in every Python from 3.11.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypedDict

IMPORT_STRING = re.compile(r"(recipes|evaluation)(\.[A-Za-z_]\w*)*:([A-Za-z_][\w.]*)")
"""`module:name` in our packages."""
# What follows from where a node stands (`ctx`), how its text was written, and annotations.
IGNORED = {"ctx", "kind", "type_comment", "returns"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_LOOPED = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_COMPOUND = (
    ast.If, ast.Try, ast.TryStar, ast.With, ast.AsyncWith, ast.For, ast.AsyncFor, ast.While,
    ast.Match,
)  # fmt: skip


class Unit(TypedDict):
    """A definition, or the statements of a file."""

    kind: str
    """class, function, constant or statements; of a name bound in several ways, the last."""
    own: str
    """Digest of the text alone."""
    names: list[str]
    """Names that it does not bind itself, each with the attributes asked of it: `flow.step`."""
    imports: list[tuple[str, str, str]]
    """(bound name, module, name or "" for the module itself) of imports inside."""
    calls: list[str]
    """Of `names`, what is called as the file is imported: by a constant's value, as a decorator."""


class SourceFile(TypedDict):
    """What is kept of a file."""

    units: dict[str, Unit]
    """By name; statements under the empty one."""
    bound: dict[str, list[tuple[str, str]]]
    """Names that imports at the top bind: (module, name or "")."""
    imports: list[tuple[str, str]]
    """What is imported as the file is."""


def source_file(content: bytes, package: str) -> SourceFile:
    """Read a file.

    Args:
        content: of the file.
        package: dotted name that its relative imports start from.

    Raises:
        ValueError: it imports `*`.
    """
    bound: dict[str, list[tuple[str, str]]] = {}
    imports: list[tuple[str, str]] = []
    defined: dict[str, list[ast.stmt]] = {}
    for statement in _running(ast.parse(content).body):
        if isinstance(statement, (*_IMPORTS, *_COMPOUND)):
            for name, module, attribute in _imported(statement, package):
                bound.setdefault(name, []).append((module, attribute))
                imports.append((module, attribute))
        if isinstance(statement, _IMPORTS):
            continue
        names = sorted(set(_bound([statement])))
        for name in names:
            defined.setdefault(name, []).append(statement)
        if not names or isinstance(statement, _COMPOUND) or _sets_parts(statement):
            defined.setdefault("", []).append(statement)
    return SourceFile(
        units={name: _unit(name, statements, package) for name, statements in defined.items()},
        bound=bound,
        imports=sorted(set(imports)),
    )


def _unit(name: str, statements: list[ast.stmt], package: str) -> Unit:
    last = statements[-1]
    kind = "class" if isinstance(last, ast.ClassDef) else "constant"
    kind = "function" if isinstance(last, _FUNCTIONS) else kind
    text = "\n".join(_plain(statement, "") for statement in statements)
    found = _Open(package)
    found._each(statements)
    return Unit(
        kind=kind if name else "statements",
        own=hashlib.sha256(text.encode()).hexdigest()[:24],
        names=sorted(found.names),
        imports=sorted(found.imports),
        calls=sorted(set().union(*map(_called, statements))) if name else [],
    )


def _running(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run on import and say something."""
    for statement in body:
        if isinstance(statement, ast.If) and (
            _for_types(statement.test) or _as_program(statement.test)
        ):
            yield from _running(statement.orelse)
        elif isinstance(statement, _IMPORTS) or not _says_nothing(statement, "module"):
            yield statement


def _for_types(test: ast.expr) -> bool:
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"


def _as_program(test: ast.expr) -> bool:
    return isinstance(test, ast.Compare) and getattr(test.left, "id", "") == "__name__"


def _says_nothing(node: object, scope: str) -> bool:
    """Whether a statement is a docstring or another bare constant, or an annotation alone."""
    if isinstance(node, ast.AnnAssign):
        return node.value is None and scope != "class"
    bare = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return bare or isinstance(node, (ast.Pass, *_IMPORTS))


def _sets_parts(statement: ast.stmt) -> bool:
    """Whether an assignment also changes what another name holds: `a = b[0] = 1`."""
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    return any(
        isinstance(t, ast.Attribute | ast.Subscript) for target in targets for t in ast.walk(target)
    )


# --- the text


def _plain(node: object, scope: str) -> str:
    """A syntax tree as text; `scope` is what it stands in: class, function, or neither."""
    if isinstance(node, list):
        return f"[{','.join([_plain(item, scope) for item in _said(node, scope)])}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    special = _SPECIAL.get(type(node))
    told = special(node, scope) if special else None
    if told is not None:
        return told
    below = _SCOPES.get(type(node), scope)
    parts = []
    for name in node._fields:
        value = getattr(node, name, None)
        if name not in IGNORED and value is not None and value != []:
            parts.append(f"{name}={_plain(value, below if name == 'body' else scope)}")
    return f"{type(node).__name__}({','.join(parts)})"


def _plain_annotated(node: ast.AnnAssign, scope: str) -> str | None:
    if scope == "class":
        return None
    return f"Assign(targets=[{_plain(node.target, scope)}],value={_plain(node.value, scope)})"


def _plain_constant(node: ast.Constant, scope: str) -> str:
    ours = isinstance(node.value, str) and IMPORT_STRING.fullmatch(node.value)
    return f"Constant(value={':' + ours[3] if ours else repr(node.value)})"


def _plain_formatted(node: ast.JoinedStr, scope: str) -> str:
    """An f-string; versions of Python split its constant text differently."""
    parts, held = [], ""
    for value in node.values:
        if isinstance(value, ast.Constant):
            held += value.value
            continue
        assert isinstance(value, ast.FormattedValue)
        spec = "" if value.format_spec is None else _plain(value.format_spec, scope)
        spec = "" if spec == "JoinedStr()" else spec
        parts += [repr(held)] * bool(held)
        parts.append(f"({_plain(value.value, scope)},{value.conversion},{spec})")
        held = ""
    return f"JoinedStr({','.join([*parts, *[repr(held)] * bool(held)])})"


_SPECIAL: dict[type, Callable[[Any, str], str | None]] = {
    ast.AnnAssign: _plain_annotated,
    ast.Constant: _plain_constant,
    ast.JoinedStr: _plain_formatted,
    ast.Name: lambda node, _: f"Name({node.id})",
    ast.arg: lambda node, _: f"arg({node.arg})",
}
_SCOPES = {
    ast.ClassDef: "class",
    ast.FunctionDef: "function",
    ast.AsyncFunctionDef: "function",
    ast.Lambda: "function",
}


def _said(nodes: Iterable[object], scope: str) -> Iterator[object]:
    for node in nodes:
        if isinstance(node, ast.If) and _for_types(node.test):
            yield from _said(node.orelse, scope)
        elif not _says_nothing(node, scope):
            yield node


# --- the names

_CLASS: frozenset[str] = frozenset()
"""The scope of a class body: functions in it do not see what it binds, so it hides nothing."""


class _Open(ast.NodeVisitor):
    """Names that statements read and no function around the name binds, and imports inside."""

    def __init__(self, package: str) -> None:
        self.names: set[str] = set()
        self.imports: set[tuple[str, str, str]] = set()
        self._package = package
        self._scopes: tuple[frozenset[str], ...] = ()

    def visit_Name(self, node: ast.Name) -> None:
        self._named(node, [])

    def visit_Attribute(self, node: ast.Attribute) -> None:
        attributes: list[str] = []
        base: ast.expr = node
        while isinstance(base, ast.Attribute):
            attributes.append(base.attr)
            base = base.value
        if isinstance(base, ast.Name):
            self._named(base, attributes[::-1])
        else:
            self.visit(base)

    def _named(self, base: ast.Name, attributes: list[str]) -> None:
        if any(base.id in scope for scope in self._scopes):
            return
        # A name that is set is open in a function that says `global`, and bound anywhere else.
        told_global = self._scopes and self._scopes[-1] is not _CLASS
        if attributes or told_global or isinstance(base.ctx, ast.Load):
            self.names.add(".".join([base.id, *attributes]))

    def _each(self, nodes: Iterable[ast.AST | None], scope: frozenset[str] | None = None) -> None:
        """Read nodes, those of a scope of their own inside it."""
        around = self._scopes
        if scope is not None:
            self._scopes = (*around, scope)
        for node in nodes:
            if node is not None:
                self.visit(node)
        self._scopes = around

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        given = node.args
        body = node.body if isinstance(node.body, list) else [node.body]
        # Decorators and defaults are evaluated outside the function, where its own names hide
        # nothing.
        self._each([*getattr(node, "decorator_list", ()), *given.defaults, *given.kw_defaults])
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        bound = {argument.arg for argument in named if argument is not None} | set(_bound(body))
        self._each(body, frozenset(bound.difference(*map(_told_global, body))))

    visit_AsyncFunctionDef = visit_FunctionDef
    visit_Lambda = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._each([*node.decorator_list, *node.bases, *node.keywords])
        self._each(node.body, _CLASS)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> None:
        self._looped(node.generators, node.elt)

    visit_SetComp = visit_ListComp
    visit_GeneratorExp = visit_ListComp

    def visit_DictComp(self, node: ast.DictComp) -> None:
        self._looped(node.generators, node.key, node.value)

    def _looped(self, generators: list[ast.comprehension], *made: ast.expr) -> None:
        # As Python does: the first iterable is evaluated outside the comprehension.
        self._each([generators[0].iter])
        parts = [part for g in generators for part in (g.iter, *g.ifs)][1:]
        targets = [g.target for g in generators]
        self._each([*parts, *targets, *made], frozenset(_bound(targets)))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        in_class = self._scopes and self._scopes[-1] is _CLASS
        self._each([node.target, node.value, node.annotation if in_class else None])

    def visit_If(self, node: ast.If) -> None:
        if _for_types(node.test):
            self._each(node.orelse)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        self.imports.update(_imported(node, self._package))

    visit_ImportFrom = visit_Import


def _told_global(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Global):
        return set(node.names)
    if isinstance(node, (*_FUNCTIONS, ast.Lambda, ast.ClassDef, ast.expr)):
        return set()
    return set().union(*map(_told_global, ast.iter_child_nodes(node)))


def _bound(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names that some statements bind where they stand, imports apart."""
    for node in nodes:
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Lambda):
            continue
        elif isinstance(node, _LOOPED):
            for part in ast.walk(node):
                if isinstance(part, ast.NamedExpr):
                    yield part.target.id
        elif isinstance(node, ast.AnnAssign) and node.value is None:
            continue
        elif isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                yield node.id
        else:
            caught = isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name
            rest = isinstance(node, ast.MatchMapping) and node.rest
            yield from (name for name in (caught, rest) if name)
            yield from _bound(ast.iter_child_nodes(node))


def _called(statement: ast.stmt) -> set[str]:
    """Names that a top-level definition calls as it is made: see `Unit.calls`."""
    found = _Open("")
    if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
        found._each(statement.decorator_list)
        return found.names
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call):
            found.visit(node.func)
        if not isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))
    return found.names


# --- imports


def _imported(node: ast.AST, package: str) -> Iterator[tuple[str, str, str]]:
    """(bound name, module, name or "") of the imports in a statement, those in functions apart."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            head = alias.name.split(".")[0]
            yield (alias.asname, alias.name, "") if alias.asname else (head, head, "")
            if head != alias.name:  # `import a.b` binds a, and imports b as well
                yield "", alias.name, ""
    elif isinstance(node, ast.ImportFrom):
        where = package.split(".")[: 1 - node.level or None] if node.level else []
        module = ".".join([*where, *([node.module] if node.module else [])])
        for alias in node.names:
            if alias.name == "*":
                raise ValueError(
                    f"line {node.lineno}: from {module} import * hides what is used from code "
                    "digests; write the names"
                )
            yield alias.asname or alias.name, module, alias.name
    elif isinstance(node, ast.If) and _for_types(node.test):
        for part in node.orelse:
            yield from _imported(part, package)
    elif not isinstance(node, (*_FUNCTIONS, ast.Lambda)):
        for part in ast.iter_child_nodes(node):
            yield from _imported(part, package)
