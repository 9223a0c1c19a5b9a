"""Protocols by name, loaded and fingerprinted once a process."""

from __future__ import annotations

from functools import cache

from evaluation.protocol import Protocol, load_protocol
from recipes.code_roots import named


@cache
def protocol_named(name: str) -> Protocol:
    """The protocol of a name or path."""
    return load_protocol(name)


@cache
def protocol_fingerprint(name: str) -> str:
    """Fingerprint of `protocol_named`."""
    return protocol_named(name).fingerprint()


@cache
def protocol_names(name: str) -> tuple[str, ...]:
    """Import strings of ours in `protocol_named`: its items, extractors, references."""
    return tuple(sorted(set(named(protocol_named(name).model_dump(mode="json")))))
