"""Source files of different arms: where the code of two trials conflicts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def differing(listings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Files that stand in two or more listings and are not the same in all of them.

    An arm may run files that another does not, such as another objective's: that is the factor.
    Two digests conflict only where a file of both differs.
    """
    first: dict[str, Any] = {}
    found = set()
    for listing in listings:
        for name, digest in listing.items():
            if first.setdefault(name, digest) != digest:
                found.add(name)
    return sorted(found)


def conflict(listings: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether code digests (to the listing of each) are of code that conflicts.

    A digest without a listing conflicts with every other: nothing says that it agrees.
    """
    if len(listings) < 2:
        return False
    return not all(listings.values()) or bool(differing(listings.values()))
