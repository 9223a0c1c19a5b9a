"""How a planned trial stands against the history: new, measure, reuse, stale or running."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from harness.code_files import changed, told
from harness.contract import Fingerprints
from harness.journal import Attempt, History, TrialHistory
from harness.plan import PlannedTrial, PlanState
from harness.records import Opened
from harness.trial import Trial
from harness.workspace import Workspace

Judged = tuple[Trial, PlanState, str]
"""The trial that counts, its state, and the reason."""


@dataclass
class Recorded:
    """Judges planned trials against one history.

    Attributes:
        measures: whether the subject can measure a kept student again.
        measure_at: cycles that must have been measured; empty for the end alone.
    """

    history: History
    workspace: Workspace
    measures: bool = False
    measure_at: tuple[int, ...] = ()
    _by_content: dict[str, list[Attempt]] | None = field(default=None, repr=False)
    _changes: dict[tuple[str, str], str] = field(default_factory=dict)

    def judge(self, trial: Trial, prints: Fingerprints) -> PlannedTrial:
        """The trial with its state and the reason for it.

        Where the same recipe and replicate were recorded with other data, the trial of the result
        is that recorded trial, so that accepting it finds its result under its own key; once it is
        superseded, the next plan holds the trial with the data of today. The fingerprints say the
        data of today in either case.
        """
        if prints.data != trial.data:  # which differs between the replicates of an arm
            prints = prints.model_copy(update={"data": trial.data})
        counting, state, why = self._judged(trial, prints)
        return PlannedTrial(trial=counting, state=state, why=why, fingerprints=prints)

    def _judged(self, trial: Trial, prints: Fingerprints) -> Judged:
        known = self.history.trials.get(trial.key)
        complete = known.complete_under(prints.protocol) if known else None
        if known is not None and complete is not None:
            return trial, *self._complete(trial, known, complete, prints)
        if known is not None and known.state == "running" and self._claimed(trial.key):
            return trial, "running", "another driver runs it"
        other = self._other_data(trial)
        if other is not None:
            return other, "stale", f"data changed since it was recorded as {other.key}"
        return trial, "new", _last_end(known)

    def _complete(
        self, trial: Trial, known: TrialHistory, complete: Attempt, prints: Fingerprints
    ) -> tuple[PlanState, str]:
        assert complete.closed is not None
        if complete.opened.code != prints.code:
            return "stale", self._changed(complete.opened, prints)
        if complete.closed.state == "diverged":
            return "reuse", "diverged"
        last = complete.closed.step
        steps = {m.step for m in known.measured(prints.protocol)}
        lacking = [s for s in self.measure_at if s not in steps and s <= last]
        if steps and not lacking:
            return "reuse", ""
        if any(step < last for step in lacking):  # only the student of the last cycle is kept
            return "new", f"not measured at cycle {', '.join(str(s) for s in lacking)}"
        if self.measures and trial.kind != "reference" and self._student_kept(complete):
            return "measure", "protocol not yet run"
        return "new", "protocol not yet run, student not kept"

    def _changed(self, opened: Opened, prints: Fingerprints) -> str:
        """What changed between two code digests; worked out once for all trials that ran them."""
        both = (opened.code, prints.code)
        if both not in self._changes:
            names = changed(opened.code_files, prints.code_files)
            self._changes[both] = told(names) or "code changed"
        return self._changes[both]

    def _student_kept(self, attempt: Attempt) -> bool:
        assert attempt.closed is not None
        folder = self.workspace.trial(attempt.opened.key) / "attempts" / attempt.folder_name
        return any(
            (folder / artifact.path).exists()
            for artifact in attempt.closed.artifacts
            if artifact.kind == "student"
        )

    def _claimed(self, key: str) -> bool:
        from harness.running import claims  # brings filelock and asyncio; most plans need neither

        return claims.is_claimed(claims.trial_lock(self.workspace, key))

    def _other_data(self, trial: Trial) -> Trial | None:
        """A complete trial of the same recipe and replicate on other data, the latest of them."""
        if self._by_content is None:
            self._by_content = {}
            for known in self.history.trials.values():
                if (attempt := known.complete) is not None:
                    content = _content(attempt.opened.trial)
                    self._by_content.setdefault(content, []).append(attempt)
        if not self._by_content:
            return None
        found = [
            attempt
            for attempt in self._by_content.get(_content(trial), [])
            if attempt.opened.trial.data != trial.data
        ]
        if not found:
            return None
        latest = max(found, key=lambda attempt: attempt.opened.at).opened.trial
        return latest.model_copy(update={"arm": trial.arm, "levels": trial.levels})


def orphans(history: History, study: str, planned: set[str]) -> list[str]:
    """Keys this study once planned and recorded attempts of, but plans no longer."""
    once = {trial.key for record in history.planned.get(study, []) for trial in record.trials}
    return sorted(key for key in once - planned if key in history.trials)


def _last_end(known: TrialHistory | None) -> str:
    latest = known.latest if known else None
    if known is None or latest is None:
        return ""
    if latest.opened.attempt <= known.superseded_to:
        return "superseded"
    if latest.closed is None:
        return "interrupted"
    reason = f": {latest.closed.reason}" if latest.closed.reason else ""
    return f"{latest.closed.state} before{reason}"


def _content(trial: Trial) -> str:
    """What the key hashes but the data, as text; 1.0 and 1 are the same number, as in the key."""
    parts = [_plain(trial.recipe), trial.replicate, trial.kind, trial.rerun]
    return json.dumps(parts, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
