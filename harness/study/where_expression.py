"""`where` expressions: which combinations of levels a study keeps.

A whitelist over Python's own grammar: and/or/not, comparisons, `in`, literals, (dotted) factor
names. No calls, no arithmetic, no subscripts: nothing that could run or grow.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from harness.text.spelling import nearest

MAX_LENGTH = 500
MAX_DEPTH = 30

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_Value = Callable[[Mapping[str, Any]], Any]


class WhereError(ValueError):
    """An expression that is not allowed, or that cannot be evaluated.

    `column` is 1-based; `stranger` is a name that is no factor, where that is the reason;
    `expression` is the text that could not be evaluated.
    """

    def __init__(
        self, message: str, column: int = 1, stranger: str = "", expression: str = ""
    ) -> None:
        self.column = column
        self.expression = expression
        self.stranger = stranger
        super().__init__(message)


class Where:
    """A checked expression over factor names.

    Args:
        text: e.g. `not (edit_share == 1.0 and composition == 'all-three')`.
        names: the factors that may be named; dots are part of a name.

    Raises:
        WhereError: for anything outside the whitelist, with the column in `text`.
    """

    def __init__(self, text: str, names: Mapping[str, Any] | frozenset[str]) -> None:
        # Before it is parsed: deep nesting exhausts the parser's stack.
        if len(text) > MAX_LENGTH:
            raise WhereError(f"expression of {len(text)} characters; at most {MAX_LENGTH}")
        self.text = text
        self._indent = len(text) - len(text.lstrip())
        self.names = frozenset(names)
        self.used: set[str] = set()
        """Factors the expression names."""
        self.literals: list[tuple[str, Any, int]] = []
        """(factor, value it is compared with for equality, column): each should be a level."""
        try:
            # Parsed and never evaluated: a closure is made of each node that is allowed.
            tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            column = getattr(error, "offset", None) or 1
            said = getattr(error, "msg", None) or "nested too deeply"
            raise WhereError(f"not an expression: {said}", column) from None
        self._value = self._compile(tree.body, 0)

    def __call__(self, values: Mapping[str, Any]) -> bool:
        """Evaluate for one combination: factor name to level value.

        Raises:
            WhereError: if values cannot be compared, e.g. a number with a word.
        """
        try:
            return bool(self._value(values))
        except TypeError as error:
            raise WhereError(f"cannot be evaluated: {error}", expression=self.text) from None

    def _fail(self, node: ast.AST, message: str) -> WhereError:
        return WhereError(message, self._at(node))

    def _compile(self, node: ast.expr, depth: int) -> _Value:
        if depth > MAX_DEPTH:
            raise self._fail(node, f"nested more than {MAX_DEPTH} deep")
        if isinstance(node, ast.BoolOp):
            parts = [self._compile(part, depth + 1) for part in node.values]
            every = isinstance(node.op, ast.And)
            return lambda v: all(p(v) for p in parts) if every else any(p(v) for p in parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self._compile(node.operand, depth + 1)
            return lambda v: not inner(v)
        if isinstance(node, ast.Compare):
            return self._comparison(node, depth)
        if isinstance(node, ast.Name | ast.Attribute):
            name = self._name(node)
            return lambda v: v[name]
        value = self._literal(node)
        return lambda v: value

    def _comparison(self, node: ast.Compare, depth: int) -> _Value:
        sides = [self._compile(side, depth + 1) for side in (node.left, *node.comparators)]
        operators = []
        for op in node.ops:
            if type(op) not in _COMPARE:
                raise self._fail(node, "only ==, !=, <, <=, >, >=, in, not in are allowed")
            operators.append(_COMPARE[type(op)])
        self._note_literals(node)

        def chain(values: Mapping[str, Any]) -> bool:
            found = [side(values) for side in sides]
            return all(op(a, b) for op, a, b in zip(operators, found[:-1], found[1:], strict=True))

        return chain

    def _note_literals(self, node: ast.Compare) -> None:
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            for name, value in ((left, right), (right, left)):
                if not isinstance(name, ast.Name | ast.Attribute) or not _is_literal(value):
                    continue
                given = ast.literal_eval(value)
                if isinstance(op, ast.In | ast.NotIn) and isinstance(given, tuple | list):
                    self.literals += [(self._name(name), v, self._at(value)) for v in given]
                elif isinstance(op, ast.Eq | ast.NotEq):
                    self.literals.append((self._name(name), given, self._at(value)))
            left = right

    def _at(self, node: ast.AST) -> int:
        return int(getattr(node, "col_offset", 0)) + 1 + self._indent

    def _name(self, node: ast.expr) -> str:
        name = ast.unparse(node)
        if name not in self.names:
            said = f"no factor {name!r}{nearest(name, self.names)}"
            raise WhereError(said, self._at(node), name)
        self.used.add(name)
        return name

    def _literal(self, node: ast.expr) -> Any:
        if not _is_literal(node):
            what = type(node).__name__.lower()
            raise self._fail(
                node,
                f"{what} is not allowed; use and, or, not, comparisons, in, literals and factor "
                "names",
            )
        return ast.literal_eval(node)


def _is_literal(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple | ast.List):
        return all(_is_literal(item) for item in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
        return isinstance(node, ast.Constant) and type(node.value) in (int, float)
    return isinstance(node, ast.Constant) and (
        node.value is None or isinstance(node.value, bool | int | float | str)
    )
