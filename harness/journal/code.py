"""Source files and definitions of trials: what changed, and where the code of two arms conflicts.

A listing maps names to digests: of a file, or of a definition in it as `path#definition`. Behind a
hyphen a digest may have a second part, of what a definition uses: where that part alone differs,
something it uses is another, which is named instead wherever it is listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MOST = 3
"""Files named in one sentence, and definitions of each."""


def differing(listings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Names that stand in two or more listings and are not the same in all of them.

    An arm may run files that another does not, such as another objective's: that is the factor.
    Two digests conflict only where a name of both differs.
    """
    first: dict[str, Any] = {}
    names, themselves = set(), set()
    for listing in listings:
        for name, digest in listing.items():
            if first.setdefault(name, digest) != digest:
                names.add(name)
                if _own(first[name]) != _own(digest):
                    themselves.add(name)
    return sorted(themselves or names)


def conflict(listings: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether code digests (to the listing of each) are of code that conflicts.

    A digest without a listing conflicts with every other: nothing says that it agrees.
    """
    if len(listings) < 2:
        return False
    return not all(listings.values()) or bool(differing(listings.values()))


def changed(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names that are new, gone or not the same; what only moved to another file is none of them."""
    both = differing([then, now])
    removed = {name: _moving(name, then[name]) for name in then.keys() - now.keys()}
    added = {name: _moving(name, now[name]) for name in now.keys() - then.keys()}
    moved = {*removed.values()} & {*added.values()}
    one_sided = [name for name, moving in (removed | added).items() if moving not in moved]
    themselves = [name for name in both if _own(then[name]) != _own(now[name])]
    return sorted([*themselves, *one_sided]) or both


def names_in_words(names: Iterable[str], most: int = MOST) -> str:
    """Names for a sentence: `evaluation/edit.py: following, EditScores; recipes/flow.py`."""
    files: dict[str, list[str]] = {}
    for name in names:
        file, _, definition = name.partition("#")
        files.setdefault(file, []).extend([definition] if definition else [])
    parts = [f"{file}: {_few(inside, most)}" if inside else file for file, inside in files.items()]
    return _few(parts, most, "; " if any(files.values()) else ", ")


def _few(names: list[str], most: int, between: str = ", ") -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return between.join(names[:most]) + more


def _own(digest: Any) -> Any:
    """The part of a digest, or of several, that is of the text itself."""
    if isinstance(digest, str):
        return digest.partition("-")[0]
    return frozenset(map(_own, digest))


def _moving(name: str, digest: str) -> tuple[str, str]:
    """What stays of a definition that moves; a file that is renamed stays nothing."""
    definition = name.partition("#")[2]
    return (definition or name, _own(digest))


def changed_files(then: Mapping[str, str], today: Mapping[str, str]) -> list[str]:
    """Source files and definitions that are others, with what happened to them."""
    if not then or not today:
        return []
    what = {name: "gone" for name in then if name not in today}
    what |= {name: "new" for name in today if name not in then}
    return [f"{name} ({what.get(name, 'changed')})" for name in changed(then, today)]
