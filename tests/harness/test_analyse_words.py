"""Numbers and p values as printed."""

from __future__ import annotations

import pytest

from harness.analysis.sentences import decimals, expectation, number, p_value, side


@pytest.mark.parametrize(
    ("width", "value", "places"),
    [(0.0086, 0.5, 4), (0.5, 3, 2), (12.0, 100, 0), (None, 0.5, 4), (0.0, 1234.5, 0), (None, 0, 1)],
)
def test_decimals_show_two_digits_of_the_uncertainty(width, value, places):
    assert decimals(width, value) == places


def test_numbers_have_signs_where_asked_and_no_negative_zero():
    assert number(0.1234, 2) == "0.12"
    assert number(0.1234, 2, signed=True) == "+0.12"
    assert number(-0.001, 2) == "0.00"
    assert number(-0.001, 2, signed=True) == "+0.00"
    assert number(None) == "-"


def test_p_values_and_sides():
    assert p_value(0.0004) == "p < 0.001"
    assert p_value(0.0316) == "p = 0.032"
    assert p_value(None) == "no p"
    assert side({"edit_share": 0.5, "guidance.scale": 2}) == "edit_share=0.5, guidance.scale=2"


@pytest.mark.parametrize(
    ("expect", "verdict", "difference", "words"),
    [
        ("higher", "improves", 0.1, "as expected"),
        ("lower", "improves", 0.1, "contrary to expectation"),
        ("lower", "harms (below margin)", -0.1, "as expected"),
        ("higher", "equivalent", 0.1, ""),
        ("higher", "undecided", 0.1, ""),
        ("", "improves", 0.1, ""),
    ],
)
def test_expectation_speaks_only_of_decided_directions(expect, verdict, difference, words):
    assert expectation(expect, verdict, difference) == words
