"""Prompts, edit cases and tokens."""

import itertools
import subprocess
import sys
from collections import Counter

import pytest

from recipes.toyworld.prompts import (
    ATTRIBUTES,
    CATEGORIES,
    EDIT_TYPES,
    LETTERS,
    TOKENS,
    VOCABULARY,
    WORDS,
    edit_cases,
    encode,
    parse,
    prompts,
)


def test_captions_parse_back_and_are_unique() -> None:
    everything = [p for category in CATEGORIES for p in prompts(category)]
    assert [parse(p.caption) for p in everything] == everything


def test_words_use_only_the_ten_letters() -> None:
    assert len(set(WORDS)) == len(WORDS) >= 20
    assert set("".join(WORDS)) == set(LETTERS)


@pytest.mark.parametrize("category", CATEGORIES)
def test_parts_divide_the_prompts_about_one_in_seven(category: str) -> None:
    train, heldout = prompts(category, "train"), prompts(category, "heldout")
    assert set(train) | set(heldout) == set(prompts(category))
    assert not set(train) & set(heldout)
    assert 6 <= len(prompts(category)) / len(heldout) <= 8.5


@pytest.mark.parametrize("category", CATEGORIES)
def test_no_attribute_is_predictable_from_the_others(category: str) -> None:
    """Given all other attributes, nearly all values remain in training, for every attribute."""
    train = set(prompts(category, "train"))
    for name, values in ATTRIBUTES[category].items():
        for prompt in prompts(category):
            remaining = sum(prompt.with_value(name, value) in train for value in values)
            assert remaining >= len(values) - max(1, -(-len(values) // 6))


@pytest.mark.parametrize("category", CATEGORIES)
def test_no_pair_of_values_points_at_the_held_out(category: str) -> None:
    """No value pair is held out so often that it would tell one value from the other."""
    names = tuple(ATTRIBUTES[category])
    for a, b in itertools.combinations(names, 2):
        total = Counter((p.value(a), p.value(b)) for p in prompts(category))
        held = Counter((p.value(a), p.value(b)) for p in prompts(category, "heldout"))
        assert all(held[pair] <= max(1, 0.45 * count) for pair, count in total.items())
    for name, values in ATTRIBUTES[category].items():
        counts = Counter(p.value(name) for p in prompts(category, "heldout"))
        assert max(counts.values()) - min(counts[v] for v in values) <= 3


def test_every_edit_changes_what_its_type_allows_and_nothing_else() -> None:
    for edit_type in EDIT_TYPES:
        for case in edit_cases(edit_type):
            pairs = zip(case.source.attributes, case.target.attributes, strict=True)
            assert sum(old != new for old, new in pairs) == (case.operation is None)
            assert case.edit_type == edit_type


@pytest.mark.parametrize("edit_type", EDIT_TYPES)
def test_training_edits_never_show_a_held_out_prompt(edit_type: str) -> None:
    held = {p for category in CATEGORIES for p in prompts(category, "heldout")}
    assert all(
        c.source not in held and c.target not in held for c in edit_cases(edit_type, "train")
    )
    assert all(c.target in held for c in edit_cases(edit_type, "heldout"))
    assert edit_cases(edit_type, "heldout")


def test_encoding_is_injective_fixed_length_and_shares_slots() -> None:
    captions = [p.caption for category in CATEGORIES for p in prompts(category)]
    instructions = sorted({c.instruction for e in EDIT_TYPES for c in edit_cases(e)})
    ids = encode([*captions, *instructions, ""])
    assert len({tuple(row) for row in ids}) == len(ids)
    assert all(len(row) == TOKENS and max(row) < len(VOCABULARY) for row in ids)
    assert ids[-1] == [0] * TOKENS
    caption, instruction = encode(['a red sign that says "TEA"', 'change the word to "TEA"'])
    assert caption[2:] == instruction[2:]


def test_unknown_text_names_the_nearest() -> None:
    with pytest.raises(ValueError, match='nearest known one is \'a red sign that says "TEA"'):
        encode(['a red sign that says "TEE"'])
    with pytest.raises(ValueError, match="choose one of landscape, portrait, text"):
        prompts("portraits")
    with pytest.raises(ValueError, match="unknown part"):
        edit_cases("scene", "test")  # type: ignore[arg-type]


def test_importing_prompts_imports_no_torch() -> None:
    code = "import sys, recipes.toyworld.prompts; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
