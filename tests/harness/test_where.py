"""`where` expressions: what they say, and what they may not."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.study.where_expression import MAX_LENGTH, Where, WhereError
from tests.harness.quick import QUICK

NAMES = frozenset({"edit_share", "composition", "guidance.scale", "ema"})
VALUES = {"edit_share": 0.5, "composition": "portrait", "guidance.scale": 2.0, "ema": True}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("edit_share == 0.5", True),
        ("not (edit_share == 0.5 and composition == 'portrait')", False),
        ("edit_share < 0.7 < 1", True),
        ("0.1 < edit_share < 0.4", False),
        ("guidance.scale in (1.0, 2.0)", True),
        ("guidance.scale not in [1.0, 2]", False),
        ("composition != 'text' or guidance.scale > 3", True),
        ("ema", True),
        ("not ema and edit_share >= -1", False),
        (" guidance.scale == 2 ", True),
        ("composition in ('text',)", False),
        ("edit_share is 0.5 if ema else 1", None),
    ],
)
def test_values(text: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(WhereError):
            Where(text, NAMES)
        return
    assert Where(text, NAMES)(VALUES) is expected


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("edit_share + 1 > 2", 1, "binop is not allowed"),
        ("1 < len(composition)", 5, "call is not allowed"),
        ("composition[0] == 'p'", 1, "subscript is not allowed"),
        ("__import__('os')", 1, "call is not allowed"),
        ("().__class__", 1, "no factor"),
        ("ema and (lambda: 1)", 10, "lambda is not allowed"),
        ("ema and [x for x in (1,)]", 9, "listcomp is not allowed"),
        ("f'{ema}' == 'x'", 1, "joinedstr is not allowed"),
        ("edit_shar == 0.5", 1, "did you mean 'edit_share'"),
        ("ema and guidance.scal > 1", 9, "did you mean 'guidance.scale'"),
        ("scale > 1", 1, "did you mean 'guidance.scale'"),
        ("ema is True", 1, "only =="),
        ("-ema == 1", 1, "unaryop is not allowed"),
        ("edit_share in (1, ema)", 15, "tuple is not allowed"),
        ("b'x' == composition", 1, "constant is not allowed"),
        ("edit_share == ", None, "not an expression"),
        ("ema; ema", None, "not an expression"),
        ("x = 1", None, "not an expression"),
        ("", None, "not an expression"),
        ("(" * 100 + "ema" + ")" * 100, None, ""),
        ("not " * 100 + "ema", None, "nested more than"),
        ("ema and " * 100 + "ema", 1, f"at most {MAX_LENGTH}"),
        ("ema == 10 ** 10 ** 10", 8, "binop"),
        ("(ema := 3)", 2, "namedexpr"),
    ],
)
def test_refused(text: str, column: int | None, said: str) -> None:
    if text.startswith("(((("):
        assert Where(text, NAMES)(VALUES)  # parentheses alone are no depth
        return
    with pytest.raises(WhereError, match=said) as error:
        Where(text, NAMES)
    if column is not None:
        assert error.value.column == column


@QUICK
@given(
    st.lists(
        st.sampled_from([*NAMES, "and", "or", "not", "in", "(", ")", "[", "]", ",", "==", "<", "1",
                         "'x'", "-", "+", ".", "f()", "\x00", ":=", "if", "lambda:", "\n"])
    )
)  # fmt: skip
def test_any_text_is_an_expression_or_a_typed_error(words: list[str]) -> None:
    with contextlib.suppress(WhereError):
        assert isinstance(Where(" ".join(words), NAMES)(VALUES), bool)


def test_values_that_do_not_compare_are_an_error_not_a_crash() -> None:
    with pytest.raises(WhereError, match="cannot be evaluated"):
        Where("composition < 3", NAMES)(VALUES)


def test_short_circuit_spares_the_second_half() -> None:
    assert Where("edit_share == 0.5 or composition < 3", NAMES)(VALUES)


def test_literals_are_noted_for_the_spelling_check() -> None:
    where = Where("composition == 'text' and 2.0 != guidance.scale or ema in (1, 'x')", NAMES)
    assert where.literals == [
        ("composition", "text", 16),
        ("guidance.scale", 2.0, 27),
        ("ema", 1, 59),
        ("ema", "x", 59),
    ]
    assert where.used == {"composition", "guidance.scale", "ema"}
