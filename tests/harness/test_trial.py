"""Keys: canonical JSON, and what is and is not part of a trial's identity."""

import json
import math

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from harness.journal.trial import Arm, Trial, canonical, identity, key_of, keys_of
from tests.harness.quick import QUICK

RECIPE = {"guidance": {"scale": 2.0}, "tasks": {"t2i": 0.9, "edit": 0.1}, "name": "dmd", "on": None}

scalar = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**60), 2**60),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([1e-4, 9.9e-5, 1e-6, 1e-7, 1e16, 1e21, 1e20, -0.0, 0.1, 1 / 3, 2.0**53]),
    st.text(),
)
values = st.recursive(
    scalar,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner)),
    max_leaves=12,
)


@QUICK
@given(values)
def test_canonical_is_rfc8785(value: object) -> None:
    try:
        expected = rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        with pytest.raises(type(error)):
            canonical(value)
        return
    assert canonical(value) == expected


def test_canonical_refuses_keys_that_are_not_text() -> None:
    with pytest.raises(ValueError, match="key"):
        canonical({1: 2})


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53 + 1])
def test_numbers_json_cannot_hold_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"domain|NaN|nan|inf"):
        canonical({"x": value})


def test_key_is_stable() -> None:
    # compatibility: a change here orphans every recorded trial
    assert key_of(RECIPE, 3, "data-1", subject="") == "4e05517d8054d9b3"
    assert canonical(identity(RECIPE, 3, "data-1", subject="")) == (
        b'{"data":"data-1","key_schema":1,"kind":"trial","recipe":{"guidance":{"scale":2},'
        b'"name":"dmd","on":null,"tasks":{"edit":0.1,"t2i":0.9}},"replicate":3}'
    )


def test_order_and_number_type_do_not_matter() -> None:
    other = json.loads(canonical(dict(reversed(RECIPE.items()))))
    assert other["guidance"]["scale"] == 2
    assert key_of(other, 0, "d", subject="s") == key_of(RECIPE, 0, "d", subject="s")


def test_everything_in_the_identity_matters() -> None:
    key = key_of(RECIPE, 0, "d", subject="s")
    changed = {
        key_of({**RECIPE, "name": "other"}, 0, "d", subject="s"),
        key_of(RECIPE, 1, "d", subject="s"),
        key_of(RECIPE, 0, "e", subject="s"),
        key_of(RECIPE, 0, "d", kind="reference", subject="s"),
        key_of(RECIPE, 0, "d", subject="t"),
        key_of(RECIPE, 0, "d", subject=""),
    }
    assert len(changed | {key}) == 7
    assert all(len(k) == 16 and int(k.removeprefix("k"), 16) >= 0 for k in changed)


@QUICK
@given(st.dictionaries(st.text(max_size=3), values, max_size=3), st.text(max_size=5))
def test_keys_of_equals_key_of(recipe: dict[str, object], data: str) -> None:
    try:
        expected = {r: key_of(recipe, r, data, subject="a.b:c") for r in (0, 1, 12)}
    except (ValueError, UnicodeEncodeError):
        return
    assert keys_of(canonical(recipe), (0, 1, 12), data, subject="a.b:c") == expected


def test_short_name() -> None:
    trial = Trial(key="k1f9c2a7b0000000", arm="e0.5-g2", replicate=3, recipe={}, data="d")
    assert trial.short == "e0.5-g2-r3-k1f9c2a7b"


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValueError, match="extra"):
        Arm(name="a", levels={}, recipe={}, seed=3)  # type: ignore[call-arg]
