"""A recorded study answered again: as recorded, or with new numbers in the place of old ones."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from harness.analysis.answered_study import AnsweredStudy
from harness.analysis.model import Verdict
from harness.contract import Fingerprints, Subject
from harness.errors import HarnessError, NotJudgedError
from harness.journal.history import Attempt, History, TrialHistory
from harness.journal.prompt_values import PromptTables, PromptValues
from harness.journal.records import Closed, MeasuredAt, Opened, Planned
from harness.journal.trial import Trial, canonical
from harness.journal.workspace import STUDY_FILE, Workspace
from harness.planning.make import make_plan
from harness.planning.reuse import under_their_keys
from harness.reproduce.places import Places, why_not_trusted
from harness.study.model import Study
from harness.study.opened_study import OpenedStudy
from harness.subjects.load import load_subject
from harness.text.spelling import last_words

Numbers = Mapping[str, Mapping[str, float | None]]
"""Trial key -> metric -> number of the last step; None where it was not finite."""


class Restudied(AnsweredStudy):
    """A study as its record says it: its subject gives the digests of the record."""

    def verdicts(self) -> dict[str, Verdict]:
        """Contrast id -> verdict on the declared contrasts, those declared late included."""
        declared = {contrast.id for contrast in self.plan.contrasts}
        return {v.id: v for v in self.answer.verdicts if v.id in declared}

    def with_numbers(self, numbers: Numbers) -> Restudied:
        """The study with these numbers in the place of the recorded ones."""
        return replace(
            self,
            history=_replaced(self.history, numbers, self.protocol),
            by_prompt=_Moved(PromptTables(self.history), numbers),
        )

    def first(self, replicates: int) -> Restudied:
        """The smaller study of the first replicates alone."""
        trials = [
            t for t in self.plan.trials if t.trial.kind != "trial" or t.trial.replicate < replicates
        ]
        smaller = replace(self, plan=self.plan.model_copy(update={"trials": trials}))
        return smaller.judged_on(replicates)

    def judged_on(self, replicates: int) -> Restudied:
        """Planned so from the start: no replicate is missing, and none was added later."""
        update = {"replicates": replicates, "frozen_replicates": replicates}
        return replace(self, plan=self.plan.model_copy(update=update))

    @property
    def protocol(self) -> str:
        """Fingerprint of the protocol whose numbers count."""
        return self.plan.fingerprints.protocol


@dataclass(frozen=True)
class _Moved:
    """Recorded values by prompt, moved as far as their mean: what a new number alone tells."""

    recorded: PromptTables
    numbers: Numbers

    def of(
        self, key: str, code: str | None, protocol: str, metric: str, step: int | None = None
    ) -> PromptValues | None:
        """Those of a trial's metric; None where there are none."""
        recorded_values = self.recorded.of(key, code, protocol, metric, step)
        numbers = self.numbers.get(key, {})
        if recorded_values is None or metric not in numbers:
            return recorded_values
        last = self.recorded.history.trials[key].measured(protocol)[-1]
        if step not in (None, last.step):
            return recorded_values
        new, old = numbers[metric], last.metrics[metric]
        if new is None or old is None:
            return None
        values = {
            stratum: {prompt: value + (new - old) for prompt, value in row.items()}
            for stratum, row in recorded_values.values.items()
        }
        return replace(recorded_values, values=values)


def restudy(
    planned: Planned,
    history: History,
    project: Path,
    places: Places,
    workspace: Workspace,
    protocol: str,
) -> Restudied:
    """The study of a planning record, planned again as it was and answered under its protocol.

    Args:
        planned: the record.
        history: what is recorded.
        project: where the study's subject is imported from. Its digests are those of the record,
            so neither the data nor the protocol need be here.
        places: where the record comes from: that decides what may be imported for it.
        workspace: where students may be kept; nothing is written.
        protocol: fingerprint whose numbers count, whatever stands here today.

    Raises:
        NotJudgedError: if the subject is missing, or resolves the study to other trials now.
    """
    file = project / (planned.study_file or STUDY_FILE)
    history = history.read_by(planned.study)
    try:
        study = Study.model_validate({**planned.study_json, "file": file})
        if refused := why_not_trusted(study.subject, places):
            raise NotJudgedError(refused)
        today = load_subject(study.subject, project=project)
        # With the digests of the record recorded numbers can be checked where data and protocol are
        # not here any more. The price: that data changed is seen by the other depths only, and a
        # recipe's default that changed is refused below.
        subject = cast(Subject, AsRecorded(today, planned, history))
        opened = OpenedStudy(study, workspace, subject=subject, history=history)
        plan = make_plan(opened, check_devices=False)
    except (HarnessError, ValueError) as error:
        raise NotJudgedError(
            f"study {planned.study!r} cannot be answered again: {last_words(str(error), 300)}"
        ) from error
    plan = under_their_keys(plan, planned)
    there = {t.trial.key for t in plan.trials if t.trial.kind == "trial"}
    if there != {t.key for t in planned.trials if t.kind == "trial"}:
        raise NotJudgedError(
            f"study {planned.study!r} cannot be answered again: its subject resolves it to other "
            "trials now (a recipe's default changed)"
        )
    prints = plan.fingerprints.model_copy(update={"protocol": protocol})
    return Restudied(opened, plan.model_copy(update={"fingerprints": prints}), history)


def with_replicates(
    restudied: Restudied, new: Sequence[tuple[Trial, Mapping[str, float | None]]]
) -> Restudied:
    """The study with further replicates, whose trials were run outside of it.

    Replicates between its own and these, which other studies may have run, stay out.
    """
    top = max(trial.replicate for trial, _ in new)
    study = restudied.study.model_copy(update={"replicates": top + 1})
    history = copy.copy(restudied.history)
    history.trials = dict(restudied.history.trials)
    for trial, numbers in new:
        history.trials[trial.key] = _made_up(trial, numbers, restudied)
    opened = OpenedStudy(study, restudied.workspace, subject=restudied.subject, history=history)
    plan = make_plan(opened, check_devices=False)
    prints = plan.fingerprints.model_copy(update={"protocol": restudied.protocol})
    keys = {trial.key for trial, _ in new}
    own = restudied.study.replicates
    trials = [
        t
        for t in plan.trials
        if t.trial.kind != "trial" or t.trial.replicate < own or t.trial.key in keys
    ]
    larger = replace(
        restudied,
        opened=opened,
        plan=plan.model_copy(update={"fingerprints": prints, "trials": trials}),
        history=history,
    )
    return larger.judged_on(top + 1)


def _made_up(
    trial: Trial, numbers: Mapping[str, float | None], restudied: Restudied
) -> TrialHistory:
    """A trial's history as the journal would hold it."""
    history = TrialHistory(trial.key)
    prints = restudied.plan.fingerprints
    opened = Opened(
        at=0.0,
        key=trial.key,
        attempt=1,
        nonce="reproduction",
        study=restudied.study.name,
        trial=trial,
        protocol=restudied.protocol,
        code=prints.code,
    )
    closed = Closed(
        at=0.0,
        key=trial.key,
        attempt=1,
        nonce="reproduction",
        state="done",
        measurements=[MeasuredAt(step=0, metrics=dict(numbers))],
    )
    history.attempts[1, "reproduction"] = Attempt(opened=opened, closed=closed)
    return history


def _replaced(history: History, numbers: Numbers, protocol: str) -> History:
    """A copy in which the last measurement of some trials says other numbers."""
    replaced = copy.copy(history)
    replaced.trials = dict(history.trials)
    for key, new in numbers.items():
        trial = copy.copy(history.trials[key])
        last = max((m.step for m in trial.measured(protocol)), default=0)
        trial.attempts = {}
        for place, attempt in history.trials[key].attempts.items():
            closed = attempt.closed
            if closed is not None and attempt.opened.protocol == protocol:
                measurements = [_told(m, new) if m.step == last else m for m in closed.measurements]
                attempt = attempt.model_copy(
                    update={"closed": closed.model_copy(update={"measurements": measurements})}
                )
            trial.attempts[place] = attempt
        replaced.trials[key] = trial
    return replaced


def _told(measured: MeasuredAt, new: Mapping[str, float | None]) -> MeasuredAt:
    return measured.model_copy(update={"metrics": {**measured.metrics, **new}})


def verdict_key(verdict: Verdict) -> tuple[str, ...]:
    """What a verdict says: its name, and of the best of several levels which they are."""
    return (verdict.verdict, *verdict.best)


def changes(before: Mapping[str, Verdict], after: Mapping[str, Verdict]) -> list[str]:
    """One line a verdict that is another now: `H1: improves -> undecided`."""
    return [
        f"{name}: {_told_as(verdict)} -> {_told_as(after[name]) if name in after else 'gone'}"
        for name, verdict in before.items()
        if name not in after or verdict_key(after[name]) != verdict_key(verdict)
    ]


def _told_as(verdict: Verdict) -> str:
    levels = ", ".join(verdict.best)
    return f"{verdict.verdict} ({levels})" if levels else verdict.verdict


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
        return getattr(self._subject, name)

    def fingerprints(self, recipe: Mapping[str, Any], protocol: str) -> Fingerprints:
        """The recorded digests of a recipe or of the settings of a reference row."""
        recorded = self._prints.get(canonical(dict(recipe)))
        return recorded if recorded is not None else self._subject.fingerprints(recipe, protocol)

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
