"""How a planned trial stands against the history: new, measure, reuse, stale or running.

A result answers a trial if key, protocol and code are its own, whoever made it. One that this study
made, or read, of the same recipe with other code, data or program is stale: the study has to say
what becomes of it. What other studies made of other code is nothing to this one.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.contract import Fingerprints
from harness.journal.attempts import folder_of
from harness.journal.code import changed, names_in_words
from harness.journal.history import Attempt, History, TrialHistory
from harness.journal.records import Planned
from harness.journal.states import PlanState
from harness.journal.trial import Trial, canonical, is_of_schema_1, key_of
from harness.journal.workspace import Workspace
from harness.planning.plan import INCOMPARABLE, Plan, PlannedTrial
from harness.subjects.identity import changed_words, identity_of, invocation_of, maker_of_references
from harness.subjects.settings import CommandSettings, SubjectSpec, parsed


class Judged(NamedTuple):
    """The trial that counts, its state, the reason, and the code that made its result."""

    trial: Trial
    state: PlanState
    why: str = ""
    code: str = ""


@dataclass
class ReuseCheck:
    """Judges planned trials against one history.

    Attributes:
        study: name of the study that plans.
        measures: whether the subject can measure a kept student again.
        measure_at: cycles that must have been measured; empty for the end alone.
        earlier: digests of a trial as the previous version made them, None where nothing says.
            Without it records of earlier versions are not looked at.
    """

    history: History
    workspace: Workspace
    study: str
    measures: bool = False
    measure_at: tuple[int, ...] = ()
    earlier: Callable[[Trial], Fingerprints | None] | None = None
    _own: dict[str, list[Trial]] | None = field(default=None, repr=False)
    _old_keys: bool | None = field(default=None, repr=False)
    _read: dict[str, str] | None = field(default=None, repr=False)
    _reads_all: set[str] = field(default_factory=set, repr=False)
    _subjects: dict[str, SubjectSpec | None] = field(default_factory=dict, repr=False)
    _changes: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)

    def judge(self, trial: Trial, prints: Fingerprints) -> PlannedTrial:
        """The trial with its state and the reason for it.

        Where the study's result of the same recipe and replicate has another key (other data, an
        earlier version), the trial of the result is that recorded trial, so that accepting it finds
        its result; once it is superseded, the next plan holds the trial of today. The fingerprints
        say the data of today in either case.
        """
        if prints.data != trial.data:  # which differs between the replicates of an arm
            prints = prints.model_copy(update={"data": trial.data})
        if self._never_ran(trial):  # tens of thousands, when a large study is first planned
            return PlannedTrial(trial=trial, state="new", fingerprints=prints)
        made = self._judged(trial, prints)
        if made.state in ("reuse", "measure"):  # an earlier version may have digested it otherwise
            prints = prints.model_copy(update={"data": made.trial.data})
        return PlannedTrial(
            trial=made.trial, state=made.state, why=made.why, code=made.code, fingerprints=prints
        )

    def _never_ran(self, trial: Trial) -> bool:
        """Whether nothing is recorded that this trial could be, or could have been."""
        if trial.key in self.history.trials:
            return False
        return not self._has_old_keys() and not self._planned_before()

    def _has_old_keys(self) -> bool:
        if self._old_keys is None:
            self._old_keys = any(is_of_schema_1(key) for key in self.history.trials)
        return self._old_keys

    def _judged(self, trial: Trial, prints: Fingerprints) -> Judged:
        known = self.history.trials.get(trial.key)
        seen = known.read_by(self.study, prints.code) if known else None
        complete = seen.complete_under(prints.protocol) if seen else None
        if seen is not None and complete is not None:
            return self._complete(trial, seen, complete, prints)
        if seen is not None and seen.state == "running" and self._claimed(trial.key):
            return Judged(trial, "running", "another driver runs it")
        return (
            self._recorded_earlier(trial, prints)
            or self._stale(trial, prints)
            or Judged(trial, "new", _last_end(seen))
        )

    def _recorded_earlier(self, trial: Trial, prints: Fingerprints) -> Judged | None:
        """The result that an earlier version recorded under its own key, if it is this trial's."""
        if not self._has_old_keys() or self.earlier is None:
            return None
        then = self.earlier(trial)
        data = then.data if then is not None else trial.data
        key = key_of(trial.recipe, trial.replicate, data, trial.kind, trial.rerun, subject="")
        known = self.history.trials.get(key)
        found = known.complete_under(prints.protocol) if known is not None else None
        if known is None or found is None or self._maker(found) != trial.subject:
            return None
        old = trial.model_copy(update={"key": key, "data": data, "subject": ""})
        if then is not None and then.code != found.opened.code:
            return None  # stale, if it is this study's own
        judged = self._complete(old, known, found, prints)
        if then is None and judged.state == "reuse":
            judged = judged._replace(why=INCOMPARABLE)
        return judged if judged.state in ("reuse", "measure") else None

    def _complete(
        self, trial: Trial, seen: TrialHistory, complete: Attempt, prints: Fingerprints
    ) -> Judged:
        assert complete.closed is not None
        code = complete.opened.code
        if complete.closed.state == "diverged":
            return Judged(trial, "reuse", "diverged", code)
        last = complete.closed.step
        steps = {m.step for m in seen.measured(prints.protocol)}
        lacking = [s for s in self.measure_at if s not in steps and s <= last]
        if steps and not lacking:
            return Judged(trial, "reuse", "", code)
        if any(step < last for step in lacking):  # only the student of the last cycle is kept
            why = f"not measured at cycle {', '.join(str(s) for s in lacking)}"
            return Judged(trial, "new", why)
        if self.measures and trial.kind != "reference" and self._student_kept(complete):
            return Judged(trial, "measure", "protocol not yet run", code)
        return Judged(trial, "new", "protocol not yet run, student not kept")

    def _stale(self, trial: Trial, prints: Fingerprints) -> Judged | None:
        """The study's own result of the same recipe and replicate, made by something else."""
        found = list(self._own_results(trial))
        if not found:
            return None
        old, attempt = max(
            found,
            key=lambda pair: (
                self._is_read(pair[0].key, pair[1].opened.code),  # not what an edit since replaced
                pair[0].key == trial.key,
                pair[1].opened.at,
            ),
        )
        counting = old.model_copy(update={"arm": trial.arm, "levels": trial.levels})
        why = self._change(old, attempt, trial, prints)
        return Judged(counting, "stale", why, attempt.opened.code)

    def _own_results(self, trial: Trial) -> Iterator[tuple[Trial, Attempt]]:
        before = self._planned_before()
        for old in before.get(_content(trial), ()) if before else ():
            known = self.history.trials[old.key]
            gone = known.superseded.get(self.study, {})
            for attempt in known.results():
                code = attempt.opened.code
                if code in gone and not self._is_read(old.key, code, since=gone[code]):
                    continue
                if attempt.opened.study == self.study or self._is_read(old.key, code):
                    yield old, attempt

    def _is_read(self, key: str, code: str, since: float = float("-inf")) -> bool:
        """Whether the study read a result when it was last planned, after `since`.

        One that was superseded is read again where an edit was taken back.
        """
        latest = self.history.latest_plan(self.study)
        if latest is None or latest.at < since:
            return False
        if self._read is None:
            self._read = latest.reads()
            # plans of earlier versions read whatever result their trials had
            self._reads_all = set() if self._read else {t.key for t in latest.trials}
        return self._read.get(key) == code or key in self._reads_all

    def _planned_before(self) -> dict[str, list[Trial]]:
        """Content -> trials that this study once planned or ran, and that have attempts."""
        if self._own is None:
            once = {t.key: t for p in self.history.planned.get(self.study, []) for t in p.trials}
            for known in self.history.trials.values():
                for attempt in known.attempts.values():
                    if attempt.opened.study == self.study:
                        once.setdefault(known.key, attempt.opened.trial)
            self._own = {}
            for trial in once.values():
                if trial.key in self.history.trials:
                    self._own.setdefault(_content(trial), []).append(trial)
        return self._own

    def _change(self, old: Trial, attempt: Attempt, trial: Trial, prints: Fingerprints) -> str:
        """What is another now, in words."""
        then = attempt.opened
        maker = self._maker(attempt)
        if maker != trial.subject:
            return f"subject was {maker or 'not recorded'}"
        spec = None if old.subject else self._recorded_subject(then.study)
        said = invocation_of(spec) if isinstance(spec, CommandSettings) else then.invocation
        if said and (words := changed_words(said, prints.invocation)):
            return f"command: {words}"
        earlier = self.earlier(trial) if self.earlier is not None and not old.subject else None
        now = earlier or prints
        if old.data != now.data:
            files = names_in_words(changed(then.data_files, now.data_files))
            named = f" ({files})" if files and then.data_files else ""
            return f"data changed{named}"
        pair = then.code, now.code
        if pair not in self._changes:  # listings are long, and the same for thousands of trials
            names = changed(then.code_files, now.code_files) if then.code_files else []
            self._changes[pair] = names_in_words(names) or "code changed"
        return self._changes[pair]

    def _maker(self, attempt: Attempt) -> str:
        """Identity of what made a result: earlier versions left it to the study's plan."""
        opened = attempt.opened
        if opened.trial.subject:
            return opened.trial.subject
        spec = self._recorded_subject(opened.study)
        if spec is None:  # made by a study whose plan is not here: this one shared it
            spec = self._recorded_subject(self.study)
        of = maker_of_references if opened.trial.kind == "reference" else identity_of
        return of(spec) if spec is not None else ""

    def _recorded_subject(self, study: str) -> SubjectSpec | None:
        """The subject that a study's latest plan names, if it is one that this version knows."""
        if study not in self._subjects:
            latest = self.history.latest_plan(study)
            self._subjects[study] = None
            if latest is not None:
                with contextlib.suppress(ValueError):
                    self._subjects[study] = parsed(latest.study_json.get("subject"))
        return self._subjects[study]

    def _student_kept(self, attempt: Attempt) -> bool:
        assert attempt.closed is not None
        folder = folder_of(self.workspace, attempt)
        return any(
            (folder / artifact.path).exists()
            for artifact in attempt.closed.artifacts
            if artifact.kind == "student"
        )

    def _claimed(self, key: str) -> bool:
        from harness.journal import claims  # brings filelock and asyncio; most plans need neither

        return claims.is_claimed(claims.trial_lock(self.workspace, key))


def codes_of(trials: Iterable[PlannedTrial], prints: Fingerprints) -> dict[str, str]:
    """Key -> digest of the code whose result a plan found, or will run; `prints` are the plan's."""
    return {t.trial.key: t.code or (t.fingerprints or prints).code for t in trials}


def read_by_plan(
    study: str, prints: Fingerprints, trials: Iterable[PlannedTrial], history: History
) -> History:
    """The history as a study reads it: results of the code that it planned with last.

    Of a trial that no record of the study planned, of the code that this plan found or will run.
    """
    if not history.trials:
        return history
    latest = history.latest_plan(study)
    own = codes_of(trials, prints)
    last = latest.reads() if latest is not None else {}
    return history.read_by(study, own | {key: last[key] for key in own.keys() & last.keys()})


def as_read_by(plan: Plan, history: History) -> History:
    """The history as the study of a plan reads it: every answer is made from it."""
    return read_by_plan(plan.study, plan.fingerprints, plan.trials, history)


def under_their_keys(plan: Plan, planned: Planned) -> Plan:
    """The plan with the keys that an earlier version gave its trials, also those without result."""
    old = {(t.kind, t.arm, t.replicate, t.rerun): t for t in planned.trials if not t.subject}
    if not old:
        return plan
    trials = []
    for made in plan.trials:
        trial = made.trial
        then = old.get((trial.kind, trial.arm, trial.replicate, trial.rerun))
        same = then is not None and canonical(then.recipe) == canonical(trial.recipe)
        trials.append(made.model_copy(update={"trial": then}) if same else made)
    return plan.model_copy(update={"trials": trials})


def orphans(history: History, study: str, planned: set[str]) -> list[str]:
    """Keys this study once planned and recorded attempts of, but plans no longer."""
    once = {t.key: t for record in history.planned.get(study, []) for t in record.trials}
    gone = [t for key, t in once.items() if key not in planned and key in history.trials]
    if any(not t.subject for t in gone):  # an earlier version's key of a trial is no other trial
        now = {_content(t) for key, t in once.items() if key in planned}
        gone = [t for t in gone if t.subject or _content(t) not in now]
    return sorted(t.key for t in gone)


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
