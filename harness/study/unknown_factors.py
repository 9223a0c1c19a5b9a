"""Names that are no factor: each told once, and not at all where a mistyped factor is meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from harness.study.resolver import Resolver
from harness.study.yaml_file import Document, Loc
from harness.text.spelling import nearest


class UnknownFactors:
    """Collects unknown factor names while the rest of the file is checked; `tell` reports them."""

    def __init__(
        self,
        document: Document,
        known: Iterable[str],
        named_by_path: Iterable[str],
        resolver: Resolver | None,
    ) -> None:
        self.document = document
        self.known = set(known)
        self._resolver = resolver
        self._mistyped = [name for name in named_by_path if resolver and resolver.unknown(name)]
        self._found: dict[str, list[tuple[Loc, bool, str]]] = {}

    def add(self, name: str, loc: Loc, *, key: bool = False, where: str = "") -> None:
        """Note an unknown name at a place of the file; `where` says more about the place."""
        if not self._means_a_mistyped_factor(name):
            self._found.setdefault(name, []).append((loc, key, where))

    def tell(self) -> None:
        """One problem a name, at its first place, with the lines of the others."""
        for name, places in self._found.items():
            places.sort(key=lambda place: self.document.position(place[0], key=place[1]))
            (loc, key, where), *others = places
            lines = {self.document.position(at, key=k)[0]: None for at, k, _ in others}
            also = f"; also on line {', '.join(map(str, lines))}" if lines else ""
            said = f"no factor {name!r}{nearest(name, self.known)}"
            self.document.fail(f"{said}{where}{also}", *loc, key=key)

    def _means_a_mistyped_factor(self, name: str) -> bool:
        """A recipe path close to a factor that is none: the factor's own message is enough."""
        close = difflib.get_close_matches(name, self._mistyped, n=1)
        # The price: a second, real mistake close to such a name shows once the first is mended.
        return bool(close) and self._resolver is not None and self._resolver.unknown(name) is None
