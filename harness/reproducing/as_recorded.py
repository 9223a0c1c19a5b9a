"""A subject that gives the digests of the record: today's data and protocol may be gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.contract import Fingerprints, Subject
from harness.journal import Attempt, History, Planned
from harness.trial import canonical


class AsRecorded:
    """Everything else is the subject's own; what was never planned it is asked for as well."""

    def __init__(self, subject: Subject, planned: Planned, history: History) -> None:
        """Take the digests of the planned trials from their attempts.

        Args:
            subject: as it stands here today.
            planned: how the study was planned.
            history: the attempts. Trials without any have the protocol and code of the others.
        """
        self._subject = subject
        attempts = {t.key: _attempt(history, t.key) for t in planned.trials}
        some = next((a for a in attempts.values() if a is not None), None)
        self._prints: dict[bytes, Fingerprints] = {}
        self._data: dict[tuple[bytes, int], str] = {}
        for trial in planned.trials:
            recipe = canonical(trial.recipe)
            self._data[recipe, trial.replicate] = trial.data
            opened = (found := attempts[trial.key] or some) and found.opened
            self._prints.setdefault(
                recipe,
                Fingerprints(
                    data=trial.data,
                    protocol=opened.protocol if opened else "",
                    code=opened.code if opened else "",
                    code_files=opened.code_files if opened else {},
                ),
            )
        if hasattr(subject, "data_of"):  # its presence says that replicates differ in their data
            self.data_of = self._data_of

    def __getattr__(self, name: str) -> Any:
        """Whatever else the subject offers."""
        return getattr(self._subject, name)

    def fingerprints(self, recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        """The recorded digests of a recipe or of the settings of a reference row."""
        known = self._prints.get(canonical(dict(recipe)))
        return known if known is not None else self._subject.fingerprints(recipe, protocol)

    def reference_fingerprints(self, settings: Mapping[str, Any], protocol: str) -> Fingerprints:
        """The recorded ones, of a reference row."""
        return self.fingerprints(settings, protocol)

    def earlier_fingerprints(self, recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        """The recorded ones, whichever version made them."""
        return self.fingerprints(recipe, protocol)

    def missing(self, recipe: Mapping[str, Any], protocol: str) -> tuple[str, ...]:
        """Nothing: no trial is run."""
        return ()

    def expected_cost(self, *_: Any) -> None:
        """Not asked: no trial is run."""

    def _data_of(self, recipe: Mapping[str, Any], replicate: int) -> str | None:
        return self._data.get((canonical(dict(recipe)), replicate))


def _attempt(history: History, key: str) -> Attempt | None:
    record = history.trials.get(key)
    return (record.complete or record.latest) if record is not None else None
