"""What subjects have in common whose students another subject measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.contract import Context, Fingerprints, MetricSpec, Report, Subject


class MeasuredElsewhere:
    """Protocols and reference rows are those of the measuring subject."""

    measuring: Any
    metrics: Mapping[str, MetricSpec]
    protocols: tuple[str, ...]
    default_protocol: str

    def take(self, measuring: Subject) -> None:
        """Measure by that subject."""
        self.measuring = measuring
        self.metrics = measuring.metrics
        self.protocols = tuple(getattr(measuring, "protocols", ()))
        first = next(iter(self.protocols), "default")
        self.default_protocol = getattr(measuring, "default_protocol", "") or first

    def references(
        self, recipe: Mapping[str, Any], protocol: str
    ) -> Mapping[str, Mapping[str, Any]]:
        """Reference rows beside the measuring subject's own default recipe; none if it has none."""
        offered = getattr(self.measuring, "references", None)
        usual = self._usual_recipe()
        if offered is None or usual is None or not hasattr(self.measuring, "reference"):
            return {}
        rows: Mapping[str, Mapping[str, Any]] = offered(usual, protocol)
        return rows

    def reference(self, settings: Mapping[str, Any], context: Context) -> Iterator[Report]:
        """One reference row."""
        return iter(self.measuring.reference(settings, context))

    def reference_fingerprints(self, settings: Mapping[str, Any], protocol: str) -> Fingerprints:
        """Digests of a reference row: the measuring subject makes it, for every trainer alike."""
        found: Fingerprints = self.measuring.fingerprints(settings, protocol)
        return found

    def measuring_fingerprints(self, protocol: str, *, earlier: bool = False) -> Fingerprints:
        """Digests of measuring alone: those of a reference row, which nothing is trained for.

        Without reference rows, those of the measuring subject's own default recipe.

        Args:
            protocol: name or path.
            earlier: as the previous version made them, where the subject knows how.
        """
        settings = next(iter(self.references({}, protocol).values()), None)
        if settings is None:
            settings = self._usual_recipe() or {}
        prints = self.measuring.fingerprints
        if earlier:
            prints = getattr(self.measuring, "earlier_fingerprints", prints)
        found: Fingerprints = prints(settings, protocol)
        return found

    def _usual_recipe(self) -> dict[str, Any] | None:
        try:
            recipe: dict[str, Any] = self.measuring.Recipe().model_dump(mode="json")
        except ValueError:
            return None
        return recipe
