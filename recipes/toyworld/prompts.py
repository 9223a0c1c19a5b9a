"""Prompts, edit cases and tokens of the toy world: everything that can be said about a picture.

Imports no torch. A prompt is a category and one value per attribute; its caption is readable and
parses back. An edit case is a source prompt, an instruction and the prompt after the edit.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeVar

from recipes.toyworld.attributes import (
    ATTRIBUTES,
    BLANK,
    CAPTIONS,
    CATEGORIES,
    EDIT_TYPES,
    INSTRUCTIONS,
    LETTER_SLOTS,
    LETTERS,
    OPERATIONS,
    TOKENS,
    VOCABULARY,
    WORDS,
)

__all__ = [
    "ATTRIBUTES",
    "BLANK",
    "CATEGORIES",
    "EDIT_TYPES",
    "LETTERS",
    "LETTER_SLOTS",
    "OPERATIONS",
    "TOKENS",
    "VOCABULARY",
    "WORDS",
    "EditCase",
    "Part",
    "Prompt",
    "can_encode",
    "edit_cases",
    "encode",
    "parse",
    "prompts",
    "word_letters",
]

_Row = TypeVar("_Row")
Part = Literal["train", "heldout", "all"]

_TOKEN_ID = {token: index for index, token in enumerate(VOCABULARY)}

# Which attributes an edit type may change; the category follows from the attribute.
_CHANGES = {
    "scene": ("landscape", ("time",)),
    "object": ("landscape", ("object",)),
    "identity": ("portrait", ("hair", "expression", "accessory")),
    "text": ("text", ("word",)),
}


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a picture must show; everything else in it is free.

    Attributes:
        category: one of `CATEGORIES`.
        attributes: one value per attribute of the category, in the order of `ATTRIBUTES`.
    """

    category: str
    attributes: tuple[str, ...]

    @property
    def caption(self) -> str:
        """The prompt in words; `parse` turns it back."""
        return CAPTIONS[self.category].format(*self.attributes)

    def value(self, name: str) -> str:
        """Value of one attribute by name, such as `time`."""
        return self.attributes[tuple(ATTRIBUTES[self.category]).index(name)]

    def with_value(self, name: str, value: str) -> Prompt:
        """The same prompt with one attribute changed."""
        names = tuple(ATTRIBUTES[self.category])
        pairs = zip(names, self.attributes, strict=True)
        return Prompt(self.category, tuple(value if n == name else old for n, old in pairs))


@dataclass(frozen=True, slots=True)
class EditCase:
    """One edit: what the source shows, what is asked, and what the result must show.

    Attributes:
        edit_type: one of `EDIT_TYPES`.
        source: prompt of the picture before the edit.
        instruction: the request in words.
        target: prompt of the picture after the edit; equals `source` for enhance and style.
        operation: the pixel operation of enhance (what is to be undone) and style, else None.
    """

    edit_type: str
    source: Prompt
    instruction: str
    target: Prompt
    operation: str | None

    @property
    def changed(self) -> str | None:
        """Name of the attribute the edit changes, or None for enhance and style."""
        names = ATTRIBUTES[self.source.category]
        rows = zip(names, self.source.attributes, self.target.attributes, strict=True)
        return next((name for name, old, new in rows if old != new), None)


@cache
def _held_out(category: str) -> frozenset[Prompt]:
    """About one combination in seven, in hash order, balanced over values.

    Among combinations that agree in all attributes but one, at most one in six (and one at least
    where there are fewer) is held out, so that the others never say which value is missing (a rule
    such as `index * 5 mod 7` does).
    """
    everything = [Prompt(category, c) for c in itertools.product(*ATTRIBUTES[category].values())]
    order = sorted(everything, key=lambda p: hashlib.sha256(p.caption.encode()).digest())
    wanted = round(len(everything) / 7)
    names = tuple(ATTRIBUTES[category])
    limits = {name: -(-wanted // len(ATTRIBUTES[category][name])) for name in names}
    used: dict[tuple[str, str], int] = {}
    lines: dict[tuple[str, tuple[str, ...]], int] = {}
    chosen: list[Prompt] = []
    for prompt in order:
        own_lines = [(n, prompt.with_value(n, "").attributes) for n in names]
        full = any(
            used.get((line[0], prompt.value(line[0])), 0) >= limits[line[0]]
            or lines.get(line, 0) >= -(-len(ATTRIBUTES[category][line[0]]) // 6)
            for line in own_lines
        )
        if len(chosen) == wanted or full:
            continue
        chosen.append(prompt)
        for name, line in zip(names, own_lines, strict=True):
            lines[line] = lines.get(line, 0) + 1
            used[name, prompt.value(name)] = used.get((name, prompt.value(name)), 0) + 1
    return frozenset(chosen)


@cache
def prompts(category: str, part: Part = "all") -> tuple[Prompt, ...]:
    """All prompts of a category, in a fixed order.

    Args:
        category: one of `CATEGORIES`.
        part: `train`, `heldout` (about one in seven, never seen by a generator) or `all`.

    Raises:
        ValueError: unknown category or part.
    """
    _check("category", category, CATEGORIES)
    _check("part", part, ("train", "heldout", "all"))
    everything = (Prompt(category, c) for c in itertools.product(*ATTRIBUTES[category].values()))
    held_out = _held_out(category)
    return tuple(p for p in everything if part == "all" or (p in held_out) == (part == "heldout"))


@cache
def edit_cases(edit_type: str, part: Part = "all") -> tuple[EditCase, ...]:
    """All edit cases of a type, in a fixed order.

    Args:
        edit_type: one of `EDIT_TYPES`.
        part: `train` (source and target both among the training prompts), `heldout` (the target
            is a held-out prompt) or `all`.

    Raises:
        ValueError: unknown edit type or part.
    """
    _check("edit type", edit_type, EDIT_TYPES)
    _check("part", part, ("train", "heldout", "all"))
    cases = tuple(_all_cases(edit_type))
    if part == "all":
        return cases
    held_out = frozenset().union(*(_held_out(category) for category in CATEGORIES))
    if part == "heldout":
        return tuple(c for c in cases if c.target in held_out)
    return tuple(c for c in cases if c.target not in held_out and c.source not in held_out)


def _all_cases(edit_type: str) -> list[EditCase]:
    if edit_type in OPERATIONS:
        return [
            EditCase(edit_type, prompt, INSTRUCTIONS[operation], prompt, operation)
            for category in CATEGORIES
            for prompt in prompts(category)
            for operation in OPERATIONS[edit_type]
        ]
    category, names = _CHANGES[edit_type]
    return [
        EditCase(
            edit_type,
            prompt,
            INSTRUCTIONS[name].format(value),
            prompt.with_value(name, value),
            None,
        )
        for prompt in prompts(category)
        for name in names
        for value in ATTRIBUTES[category][name]
        if value != prompt.value(name)
    ]


def parse(caption: str) -> Prompt:
    """The prompt a caption was written from.

    Raises:
        ValueError: no prompt has this caption; the nearest is named.
    """
    return _lookup("caption", caption, _by_caption())


def encode(captions_or_instructions: Sequence[str]) -> list[list[int]]:
    """Token ids of captions and instructions, `TOKENS` each, ids into `VOCABULARY`.

    A value keeps its slot in captions and instructions, so both share what is learnt about it.
    The empty string (all padding) is the unconditional prompt.

    Raises:
        ValueError: a text that is neither a caption, an instruction nor empty.
    """
    table = _token_table()
    return [
        list(_lookup("caption or instruction", text, table)) for text in captions_or_instructions
    ]


def can_encode(text: str) -> bool:
    """Whether `encode` accepts a text."""
    return text in _token_table()


def word_letters(word: str) -> tuple[int, ...]:
    """Index into `LETTERS + BLANK` of each of the four letter slots of a word."""
    return tuple((LETTERS + BLANK).index(letter) for letter in word.ljust(LETTER_SLOTS, BLANK))


@cache
def _by_caption() -> dict[str, Prompt]:
    return {prompt.caption: prompt for category in CATEGORIES for prompt in prompts(category)}


@cache
def _token_table() -> dict[str, tuple[int, ...]]:
    table = {"": (0,) * TOKENS}
    for caption, prompt in _by_caption().items():
        table[caption] = _ids(
            prompt.category, dict(zip(ATTRIBUTES[prompt.category], prompt.attributes, strict=True))
        )
    for edit_type in EDIT_TYPES:
        for case in edit_cases(edit_type):
            name = case.changed or "operation"
            value = case.target.value(name) if case.changed else str(case.operation)
            table.setdefault(case.instruction, _ids(f"edit:{edit_type}", {name: value}))
    return table


def _ids(head: str, values: dict[str, str]) -> tuple[int, ...]:
    row = [head, *["<pad>"] * (TOKENS - 1)]
    for name, value in values.items():
        if name == "word":
            row[2:] = [f"letter:{letter}" for letter in value.ljust(LETTER_SLOTS, BLANK)]
        else:
            row[_slot(name)] = f"{name}:{value}"
    return tuple(_TOKEN_ID[token] for token in row)


@cache
def _slot(name: str) -> int:
    if name == "operation":
        return 1
    return next(1 + tuple(a).index(name) for a in ATTRIBUTES.values() if name in a)


def _lookup(what: str, text: str, table: dict[str, _Row]) -> _Row:
    if text in table:
        return table[text]
    near = difflib.get_close_matches(text, table, n=1, cutoff=0.0)
    raise ValueError(f"unknown {what} {text!r}; the nearest known one is {near[0]!r}")


def _check(what: str, given: str, allowed: Sequence[str]) -> None:
    if given not in allowed:
        raise ValueError(f"unknown {what} {given!r}; choose one of {', '.join(allowed)}")
