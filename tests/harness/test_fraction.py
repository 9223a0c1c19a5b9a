"""Fractions of two-level designs against hand-derived alias tables and against pyDOE3."""

from __future__ import annotations

import itertools

import numpy as np
import pyDOE3
import pytest

from harness.study.fractions import FractionalDesign, NoFractionError, smallest_fraction

NAMES = "ABCDEFGHJKLMNOP"


def table(factors: int, resolution: int) -> dict[str, list[str]]:
    return smallest_fraction(factors, resolution).aliases(NAMES[:factors])


# Worked out by hand from the defining relation that each test names. ------------------------


def test_half_of_four_factors():
    # D = ABC, so I = ABCD: multiplying any word by ABCD gives its alias.
    found = smallest_fraction(4, 4)
    assert (found.runs, found.resolution) == (8, 4)
    assert found.generators("ABCD") == {"D": "A*B*C"}
    assert found.aliases("ABCD") == {
        "A": [], "B": [], "C": [], "D": [],
        "A*B": ["C*D"], "A*C": ["B*D"], "A*D": ["B*C"],
    }  # fmt: skip


def test_quarter_of_five_factors():
    # D = AB and E = AC, so I = ABD = ACE = BCDE.
    found = smallest_fraction(5, 3)
    assert (found.runs, found.resolution) == (8, 3)
    assert found.generators("ABCDE") == {"D": "A*B", "E": "A*C"}
    assert found.aliases("ABCDE") == {
        "A": ["B*D", "C*E"], "B": ["A*D"], "C": ["A*E"], "D": ["A*B"], "E": ["A*C"],
        "B*C": ["D*E"], "B*E": ["C*D"],
    }  # fmt: skip


def test_sixteenth_of_seven_factors():
    # D = AB, E = AC, F = BC, G = ABC: saturated, every main effect has three interactions.
    found = smallest_fraction(7, 3)
    assert (found.runs, found.resolution) == (8, 3)
    assert found.aliases("ABCDEFG") == {
        "A": ["B*D", "C*E", "F*G"], "B": ["A*D", "C*F", "E*G"], "C": ["A*E", "B*F", "D*G"],
        "D": ["A*B", "C*G", "E*F"], "E": ["A*C", "B*G", "D*F"], "F": ["A*G", "B*C", "D*E"],
        "G": ["A*F", "B*E", "C*D"],
    }  # fmt: skip


def test_another_fraction_of_the_family_turns_signs():
    # The half with ABC = -1 holds the run in which all three are low: A = -BC and so on.
    principal = smallest_fraction(3, 3)
    assert (-1, -1, -1) not in set(principal.levels())
    other = principal.through((-1, -1, -1))
    assert set(other.levels()) == set(itertools.product((-1, 1), repeat=3)) - set(
        principal.levels()
    )
    assert other.generators("ABC") == {"C": "-A*B"}
    assert other.aliases("ABC") == {"A": ["-B*C"], "B": ["-A*C"], "C": ["-A*B"]}


# Against the columns themselves and against pyDOE3. -----------------------------------------

SIZES = [(3, 3), (4, 4), (5, 3), (5, 5), (6, 3), (6, 4), (7, 3), (7, 4), (8, 4), (9, 3), (11, 4)]


@pytest.mark.parametrize(("factors", "resolution"), SIZES)
def test_the_alias_table_is_what_the_columns_say(factors: int, resolution: int):
    made = smallest_fraction(factors, resolution)
    runs = np.array(list(made.levels()))
    assert runs.shape == (made.runs, factors)
    assert len({tuple(row) for row in runs}) == made.runs
    column = {NAMES[i]: runs[:, i] for i in range(factors)}
    pairs = itertools.combinations(NAMES[:factors], 2)
    column |= {f"{a}*{b}": column[a] * column[b] for a, b in pairs}
    told = made.aliases(NAMES[:factors])
    seen = set()
    for effect, others in told.items():
        same = {n: int(np.sign(column[n] @ column[effect])) for n in column if n != effect}
        aliased = {n for n in same if abs(column[n] @ column[effect]) == made.runs}
        assert {o.lstrip("-") for o in others} == aliased
        assert all(same[o.lstrip("-")] == (-1 if o.startswith("-") else 1) for o in others)
        seen |= {effect, *aliased}
    assert seen == set(column), "every effect is in the table once"


@pytest.mark.parametrize(("factors", "resolution"), SIZES)
def test_runs_and_resolution_are_those_of_pydoe(factors: int, resolution: int):
    made = smallest_fraction(factors, resolution)
    generators = made.generators(NAMES[:factors])
    words = [generators.get(n, n).replace("*", "") for n in NAMES[:factors]]
    text = " ".join(word.lower() for word in words)
    expected = pyDOE3.fracfact(text)
    assert {tuple(row) for row in expected.astype(int)} == set(made.levels())
    assert made.resolution >= resolution
    assert made.resolution == min(
        n
        for n in range(3, factors + 1)
        if any(abs(expected[:, c].prod(1).sum()) == made.runs for c in map(list, _sets(factors, n)))
    )


def _sets(factors: int, size: int):
    return itertools.combinations(range(factors), size)


@pytest.mark.parametrize(
    ("factors", "resolution", "runs", "shortest"),
    # Fewest words of length four, from Fries and Hunter's and Chen, Sun and Wu's tables.
    [(6, 4, 16, 3), (7, 4, 16, 7), (8, 4, 16, 14), (9, 4, 32, 6), (10, 4, 32, 10)],
)
def test_aberration_is_least(factors: int, resolution: int, runs: int, shortest: int):
    made = smallest_fraction(factors, resolution)
    columns = np.array(list(made.levels()))
    words = sum(abs(columns[:, list(c)].prod(1).sum()) == runs for c in _sets(factors, 4))
    assert (made.runs, words) == (runs, shortest)


@pytest.mark.parametrize(("factors", "resolution"), [(2, 3), (3, 4), (4, 5), (6, 7)])
def test_some_fractions_do_not_exist(factors: int, resolution: int):
    with pytest.raises(NoFractionError, match=f"{factors} factors has resolution {resolution}"):
        smallest_fraction(factors, resolution)


def test_no_smaller_fraction_has_the_resolution():
    """Brute force over every set of generators of every smaller size."""
    for factors, resolution in ((5, 3), (5, 5), (6, 4), (7, 3), (7, 4)):
        base = smallest_fraction(factors, resolution).base
        for smaller in range(2, base):
            units = [1 << i for i in range(smaller)]
            rest = itertools.combinations(range(1, 1 << smaller), factors - smaller)
            made = (FractionalDesign((*units, *c), (1,) * factors, smaller) for c in rest)
            assert not any(
                f.resolution >= resolution for f in made if len(set(f.columns)) == factors
            )
