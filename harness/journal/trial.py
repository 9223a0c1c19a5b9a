"""Trials and their keys: arm x replicate, named by a hash of canonical JSON (RFC 8785).

What names a result, and why, is in docs/decisions/2026-11-27-what-a-result-is.md.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import rfc8785
from pydantic import Field, PrivateAttr

from harness.frozen_model import FrozenModel
from harness.text.identifiers import Name

KEY_SCHEMA = 2
"""Raised when the meaning of the key changes; old records are still read (tests/compat).

Keys of schema 1 were 16 hex digits and did not name the subject, so two programs with the same
recipe shared them. A key starts with a letter that is no hex digit since: spreadsheets and readers
of CSV take digits around an `e` for a number (`12e34567` becomes infinity).
"""

# 60 bits: among a million trials two share a key with a probability of 4e-7.
DIGITS = 15
"""Hex digits of a key behind its letter."""

OLD_DIGITS = 16

SHORT = 9
"""Characters of a key in a trial's readable name."""

MAX_INTEGER = 2**53
"""JSON numbers are doubles: larger integers are not exact."""

Kind = Literal["trial", "reference", "rerun"]


class Arm(FrozenModel):
    """One combination of levels: a fully resolved recipe."""

    name: str = Field(description="Readable, unique in the study, e.g. `portrait-e0.5-g2`.")
    levels: dict[str, str] = Field(description="Factor name to level label.")
    recipe: dict[str, Any] = Field(description="Resolved recipe, defaults included.")
    baseline: bool = Field(False, description="True for the study's baseline arm.")
    _canonical: bytes | None = PrivateAttr(None)

    def canonical_recipe(self) -> bytes:
        """The recipe's canonical JSON, worked out once: large plans need it several times."""
        if self._canonical is None:
            self._canonical = canonical(self.recipe)
        return self._canonical


class Trial(FrozenModel):
    """The unit that is scheduled, recorded and reproduced."""

    key: Name = Field(description="`k` and 15 hex digits; identity for life.")
    kind: Kind = Field(
        "trial",
        description="`trial`; `reference` for reference rows; `rerun` for a trial run once more "
        "with the same seeds, which no table counts.",
    )
    arm: str = Field(description="Arm name, or reference name.")
    levels: dict[str, str] = Field(default_factory=dict, description="Factor to level label.")
    replicate: int = Field(ge=0, description="Replicate index, from 0; a rerun has its trial's.")
    rerun: int = Field(0, ge=0, description="For kind `rerun`: which repetition, from 1.")
    recipe: dict[str, Any] = Field(description="Resolved recipe, or reference settings.")
    data: str = Field(description="Data fingerprint.")
    subject: str = Field(
        "",
        description="Identity of what runs it (harness/subjects/identity.py); of a reference row, "
        "of what makes it. Empty in records of key schema 1.",
    )

    def identity(self) -> dict[str, Any]:
        """The JSON object that the key is the hash of."""
        return identity(
            self.recipe, self.replicate, self.data, self.kind, self.rerun, subject=self.subject
        )

    def expected_key(self) -> str:
        """The hash of that; another than the key where a record was changed."""
        return _hashed(self.identity())

    @property
    def short(self) -> str:
        """Readable form, e.g. `portrait-e0.5-g2-r3-k1f9c2a7b`."""
        again = f"-rerun{self.rerun}" if self.rerun else ""
        return f"{self.arm}-r{self.replicate}{again}-{self.key[:SHORT]}"


def canonical(value: Any) -> bytes:
    """RFC 8785 canonical JSON: 1.0 and 1 are the same number, key order does not matter.

    Raises:
        ValueError: for NaN, infinities, integers beyond 2**53 and values that are not JSON.
    """
    try:
        text = json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    except _NotPlainError:
        return bytes(rfc8785.dumps(value))
    return text.encode()


class _NotPlainError(Exception):
    """A value whose canonical form differs from what `json` writes."""


def _plain(value: Any) -> Any:
    """Data whose sorted, compact `json` text is its RFC 8785 form already; 8 times as fast.

    Whole numbers lose their `.0`; other floats from 1e-4 up read alike in Python and ECMAScript.
    Everything else, whole numbers from 2**53 on among them, is left to rfc8785.
    """
    kind = type(value)
    if kind is str:
        if not value.isascii():
            raise _NotPlainError
        return value
    if kind is float:
        if -MAX_INTEGER < value < MAX_INTEGER and value.is_integer():
            return int(value)
        # Below 1e-4 Python writes an exponent, ECMAScript only below 1e-6.
        if 1e-4 <= abs(value) < MAX_INTEGER:
            return value
        raise _NotPlainError
    if kind is dict:
        # RFC 8785 sorts members by UTF-16 units, Python by code points: one order for ASCII only.
        if not all(type(key) is str and key.isascii() for key in value):
            raise _NotPlainError
        return {key: _plain(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_plain(item) for item in value]
    if value is None or kind is bool or (kind is int and -MAX_INTEGER < value < MAX_INTEGER):
        return value
    raise _NotPlainError


def identity(
    recipe: Mapping[str, Any],
    replicate: int,
    data: str,
    kind: Kind = "trial",
    rerun: int = 0,
    *,
    subject: str,
) -> dict[str, Any]:
    """The JSON object that a key is the hash of; stored once for every trial.

    Only reruns name the repetition. Without a subject it is that of key schema 1.
    """
    # What is not in here may change without making another trial: protocol, code, GPUs, paths,
    # tracking address. Measured otherwise, or by other code, it is another result of the same
    # trial. A rerun is a trial of its own: a further attempt would supersede the result it is
    # compared with. Its identity has one member more, so no other key moved when reruns came.
    members: dict[str, Any] = {"rerun": rerun} if kind == "rerun" else {}
    if subject:
        members["subject"] = subject
    return members | {
        "key_schema": KEY_SCHEMA if subject else 1,
        "kind": kind,
        "recipe": dict(recipe),
        "replicate": replicate,
        "data": data,
    }


def key_of(
    recipe: Mapping[str, Any],
    replicate: int,
    data: str,
    kind: Kind = "trial",
    rerun: int = 0,
    *,
    subject: str,
) -> str:
    """Trial key: a letter and the first hex digits of sha256 over the canonical identity."""
    return _hashed(identity(recipe, replicate, data, kind, rerun, subject=subject))


def _hashed(of: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(canonical(of)).hexdigest()
    return f"k{digest[:DIGITS]}" if "subject" in of else digest[:OLD_DIGITS]


def is_of_schema_1(key: str) -> bool:
    """Whether an earlier version made a key: 16 hex digits."""
    return len(key) == OLD_DIGITS and not key.startswith("k")


def keys_of(
    recipe: bytes, replicates: Iterable[int], data: str, kind: Kind = "trial", *, subject: str
) -> dict[int, str]:
    """Replicate -> trial key, exactly `key_of` for each; large plans have many of them.

    Args:
        recipe: the recipe's canonical JSON. Canonical JSON sorts the members of the identity, so
            the recipe can be put in as it is; only the replicate and what follows it differ.
        replicates: replicate indices.
        data: data fingerprint.
        kind: kind of the trials.
        subject: identity of what runs them.
    """
    # `recipe` and `replicate` are neighbours in the sorted identity, so what all replicates of an
    # arm share is hashed once.
    shell = canonical(identity({}, 0, data, kind, subject=subject))
    head, recipe_to_end = shell.split(b'"recipe":{},"replicate":0', 1)
    start = hashlib.sha256(head + b'"recipe":' + recipe + b',"replicate":')
    keys = {}
    for replicate in replicates:
        digest = start.copy()
        digest.update(str(replicate).encode() + recipe_to_end)
        keys[replicate] = f"k{digest.hexdigest()[:DIGITS]}"
    return keys
