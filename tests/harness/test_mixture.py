"""Mixtures: normalising, setting components, ratios."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.journal.trial import canonical
from harness.study.simplex import MixtureError, normalise, with_components, without_zeros
from tests.harness.quick import QUICK

weight = st.one_of(
    st.integers(0, 10_000),
    st.floats(0, 1e6, allow_nan=False).map(lambda x: round(x, 6)),
)
mixtures = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), weight, min_size=1).filter(
    lambda m: any(m.values())
)
share = st.floats(0, 1, allow_nan=False)


@QUICK
@given(mixtures)
def test_shares_sum_to_one_and_keep_names_and_order(mixture: dict[str, float]) -> None:
    shares = normalise(mixture, ())
    assert list(shares) == list(mixture)
    assert math.isclose(math.fsum(shares.values()), 1, abs_tol=2e-9)
    assert all(0 <= s <= 1 + 1e-9 for s in shares.values())


@QUICK
@given(mixtures)
def test_normalising_twice_changes_no_bit(mixture: dict[str, float]) -> None:
    once = normalise(mixture, ())
    assert canonical(normalise(once, ())) == canonical(once)


@QUICK
@given(st.lists(st.integers(0, 1000), min_size=2, max_size=5).filter(any), st.integers(2, 99))
def test_scale_does_not_matter(weights: list[int], scale: int) -> None:
    names = "abcde"[: len(weights)]
    plain = normalise(dict(zip(names, weights, strict=True)), ())
    scaled = normalise({n: w * scale for n, w in zip(names, weights, strict=True)}, ())
    tenths = normalise({n: float(f"{w}e-1") for n, w in zip(names, weights, strict=True)}, ())
    ratio = normalise(":".join(str(w) for w in weights), names)
    assert plain == scaled == ratio
    if abs(sum(weights) - 10) > 1e-9:  # already a mixture: left as written
        assert plain == tenths


@QUICK
@given(mixtures, share, st.data())
def test_setting_one_component_rescales_the_others(
    mixture: dict[str, float], value: float, data: st.DataObject
) -> None:
    base = normalise(mixture, ())
    name = data.draw(st.sampled_from(sorted(base)))
    others = {k: v for k, v in base.items() if k != name}
    try:
        made = with_components(base, {name: value})
    except MixtureError:
        # no way to divide the rest: nobody to take it, or several that are all zero
        assert value < 1
        assert not any(others.values())
        assert len(others) != 1
        return
    assert made[name] == value
    assert math.isclose(math.fsum(made.values()), 1, abs_tol=2e-9)
    total = math.fsum(others.values())
    if total > 1e-3:
        for other in others:
            assert math.isclose(made[other], others[other] / total * (1 - value), abs_tol=1e-9)


@QUICK
@given(st.permutations(["a", "b", "c"]))
def test_order_of_components_does_not_matter(order: list[str]) -> None:
    base = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    values = {"a": 0.2, "b": 0.1, "c": 0.25}
    assert with_components(base, {k: values[k] for k in order}) == with_components(base, values)


def test_nine_to_one() -> None:
    assert normalise("9:1", ("t2i", "edit")) == {"t2i": 0.9, "edit": 0.1}
    assert normalise({"t2i": 0.9, "edit": 0.1}, ()) == {"t2i": 0.9, "edit": 0.1}


def test_the_only_other_component_takes_the_rest_even_from_zero() -> None:
    assert with_components({"t2i": 0.0, "edit": 1.0}, {"edit": 0.3}) == {"t2i": 0.7, "edit": 0.3}
    assert with_components({"t2i": 0.5, "edit": 0.5}, {"edit": 1.0}) == {"t2i": 0.0, "edit": 1.0}


def test_zeros_are_dropped() -> None:
    assert without_zeros({"a": 0.0, "b": 1.0}) == {"b": 1.0}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"a": 0, "b": 0.0}, "all zero"),
        ({}, "all zero"),
        ({"a": -1, "b": 2}, "weight a: -1"),
        ({"a": math.nan}, "finite"),
        ({"a": math.inf}, "finite"),
        ({"a": True}, "True"),
        ({"a": "1"}, "'1'"),
        ("9:1:3", "3 numbers for 2 components"),
        ("9", "1 numbers for 2"),
        ("a:b", "separated by ':'"),
        ("0:0", "all zero"),
        ("-1:2", "0 or more"),
        (3, "not a mixture"),
        (None, "not a mixture"),
    ],
)
def test_what_is_no_mixture_is_refused(value: object, said: str) -> None:
    with pytest.raises(MixtureError, match=said):
        normalise(value, ("a", "b"))


def test_closed_mixtures_refuse_other_names() -> None:
    with pytest.raises(MixtureError, match="did you mean 'portrait'"):
        normalise({"portrat": 1}, ("portrait", "text"), closed=True)


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({"z": 0.5}, "no component 'z'"),
        ({"a": 1.5}, "from 0 to 1"),
        ({"a": -0.1}, "from 0 to 1"),
        ({"a": math.nan}, "from 0 to 1"),
        ({"a": "half"}, "from 0 to 1"),
        ({"a": True}, "from 0 to 1"),
        ({"a": 0.6, "b": 0.6}, "more than 1"),
        ({"a": 0.1, "b": 0.1, "c": 0.1}, "sum to 0.3, not 1"),
        ({"a": 0.5}, "all zero"),
    ],
)
def test_components_that_cannot_be_set_are_refused(given_: dict[str, object], said: str) -> None:
    with pytest.raises(MixtureError, match=said):
        with_components({"a": 1.0, "b": 0.0, "c": 0.0}, given_)
