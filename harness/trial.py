"""Trials and their keys: arm x replicate, named by a hash of canonical JSON (RFC 8785)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import rfc8785
from pydantic import BaseModel, ConfigDict, Field

KEY_SCHEMA = 1
"""Raised when the meaning of the key changes; old records are still read (tests/compat)."""

Kind = Literal["trial", "reference"]


class Arm(BaseModel):
    """One combination of levels: a fully resolved recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="Readable, unique in the study, e.g. `portrait-e0.5-g2`.")
    levels: dict[str, str] = Field(description="Factor name to level label.")
    recipe: dict[str, Any] = Field(description="Resolved recipe, defaults included.")
    baseline: bool = Field(False, description="True for the study's baseline arm.")


class Trial(BaseModel):
    """The unit that is scheduled, recorded and reproduced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(description="16 hex digits; identity for life.")
    kind: Kind = Field("trial", description="`trial`, or `reference` for reference rows.")
    arm: str = Field(description="Arm name, or reference name.")
    levels: dict[str, str] = Field(default_factory=dict, description="Factor to level label.")
    replicate: int = Field(ge=0, description="Replicate index, from 0.")
    recipe: dict[str, Any] = Field(description="Resolved recipe, or reference settings.")
    data: str = Field(description="Data fingerprint.")

    @property
    def short(self) -> str:
        """Readable form, e.g. `portrait-e0.5-g2-r3-1f9c2a7b`."""
        return f"{self.arm}-r{self.replicate}-{self.key[:8]}"


def canonical(value: Any) -> bytes:
    """RFC 8785 canonical JSON: 1.0 and 1 are the same number, key order does not matter.

    Raises:
        ValueError: for NaN, infinities, integers beyond 2**53 and values that are not JSON.
    """
    return bytes(rfc8785.dumps(value))


def identity(
    recipe: Mapping[str, Any], replicate: int, data: str, kind: Kind = "trial"
) -> dict[str, Any]:
    """The JSON object that a key is the hash of; stored beside every trial."""
    return {
        "key_schema": KEY_SCHEMA,
        "kind": kind,
        "recipe": dict(recipe),
        "replicate": replicate,
        "data": data,
    }


def key_of(recipe: Mapping[str, Any], replicate: int, data: str, kind: Kind = "trial") -> str:
    """Trial key: the first 16 hex digits of sha256 over the canonical identity."""
    return hashlib.sha256(canonical(identity(recipe, replicate, data, kind))).hexdigest()[:16]
