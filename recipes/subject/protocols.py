"""Protocols by name, loaded and fingerprinted once a process."""

from __future__ import annotations

from functools import cache

from evaluation.protocol import Protocol, load_protocol
from recipes.source_files import modules_named


@cache
def protocol_named(name: str) -> Protocol:
    """The protocol of a name or path."""
    return load_protocol(name)


@cache
def protocol_fingerprint(name: str) -> str:
    """Fingerprint of `protocol_named`."""
    return protocol_named(name).fingerprint()


@cache
def protocol_modules(name: str) -> tuple[str, ...]:
    """Modules that `protocol_named` names: its items, extractors, references."""
    return tuple(sorted(set(modules_named(protocol_named(name).model_dump(mode="json")))))
