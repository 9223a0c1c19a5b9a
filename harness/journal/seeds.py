"""Named seed streams: every consumer of randomness has its own, hashed and never added up.

Additive seeds overlap between replicates (seed + rank + step); hashing (replicate, stream, index)
does not, and lets the number of updates or a task share change without shifting other streams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

SEED_SCHEMA = "stillhouse-seed-1"


def seed(replicate: int, stream: str, *index: int) -> int:
    """Seed in [0, 2**63) for a replicate, a stream name and any number of indices.

    Raises:
        ValueError: if the stream name is empty or holds the separator `|`.
    """
    if not stream or "|" in stream:
        raise ValueError(f"stream name {stream!r} must be non-empty and free of '|'")
    text = "|".join((SEED_SCHEMA, str(int(replicate)), stream, *map(str, map(int, index))))
    # 63 bits: every generator takes a seed that is a signed 64-bit integer and not negative.
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def stream_for(replicate: int) -> Callable[..., int]:
    """The `seed(stream, *index)` callable a `Context` carries for one replicate."""

    def seeded(stream: str, *index: int) -> int:
        return seed(replicate, stream, *index)

    return seeded
