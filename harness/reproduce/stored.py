"""The depth `tables`: recorded numbers and verdicts worked out again from what is stored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.analysis.model import Answer, Verdict
from harness.contract import Subject
from harness.errors import NotJudgedError
from harness.journal.history import History
from harness.journal.records import Planned
from harness.journal.workspace import RESULTS, Workspace
from harness.reproduce.judging import Compared, Decision
from harness.reproduce.recorded import Recorded
from harness.reproduce.reproduction import Reproduction
from harness.reproduce.restudy import restudy
from harness.reproduce.surroundings import exception_text
from harness.subjects.settings import name_of

ANSWER = "answer.json"
DIGITS = 9
"""Numbers that agree to so many digits are the same up to the order in which they were summed."""
NUMBERS = ("difference", "lo", "hi", "level", "p", "p_adjusted", "n", "n_prompts")
OTHER_RULES = "verdicts were made by earlier rules: numbers of arms are compared, verdicts are not"


def reproduce_tables(
    recorded: Recorded,
    subject: Subject | None,
    workspace: Workspace,
    fields: dict[str, Any],
    contrast: str = "",
) -> Reproduction:
    """Work out the trial's numbers from its stored items, and verdicts from recorded numbers.

    Args:
        recorded: the trial.
        subject: for `recompute`; None where it cannot be imported.
        workspace: its studies' results are looked at, too.
        fields: what the result says of itself.
        contrast: compare this verdict alone.
    """
    values, unread = _from_items(recorded, subject, workspace)
    words = [f"{len(values)} numbers of the trial from its stored items"] if values else []
    own = f"; not the trial's own: {'; '.join(unread)}" if unread else ""
    notes = []
    changed: list[str] = []
    try:
        folder, answer, planned, history = recorded_answer(recorded, workspace)
        protocol = recorded.measured_by.opened.protocol
        again = restudy(
            planned, history, recorded.project, recorded.places, workspace, protocol
        ).answer
        compared, changed = _beside(answer, again, contrast)
        if answer.rules != again.rules:
            notes.append(OTHER_RULES)
            what = "the table of arms"
        else:
            what = "verdicts and tables"
        values += compared
        others = "" if words else "the study's "
        if compared or changed:
            words.append(f"{others}{len(compared)} numbers of {what} in {folder / ANSWER}")
    except NotJudgedError as error:
        notes.append(str(error))
    if not values and not changed:
        reason = f"nothing to work out: {'; '.join([*unread, *notes])}"
        return Reproduction(**fields, decision="not judged", reason=reason)
    decision = _decision(values, changed)
    off = [v.metric for v in values if not v.equal]
    counted = " and ".join(words)
    reasons = {
        "bit-equal": f"{counted} come out bit-equal",
        "same digits": f"{counted} come out alike to {DIGITS} digits, {len(off)} not to the last",
        "not reproduced": f"of {counted}, {len(off)} come out otherwise: "
        + ", ".join([*changed, *off][:5]),
    }[decision]
    beside = f" (not worked out: {'; '.join(notes)})" if notes else ""
    return Reproduction(
        **fields,
        decision=decision,
        reason=reasons + own + beside,
        values=[v for v in values if not v.equal],
        verdict_changed=bool(changed),
    )


def _decision(values: list[Compared], changed: list[str]) -> Decision:
    if changed or any(not _alike(v.recorded, v.now) for v in values):
        return "not reproduced"
    return "bit-equal" if all(v.equal for v in values) else "same digits"


def _alike(then: float | None, now: float | None) -> bool:
    if then is None or now is None:
        return then == now
    return math.isclose(then, now, rel_tol=10.0**-DIGITS, abs_tol=1e-15)


def recorded_answer(
    recorded: Recorded, workspace: Workspace
) -> tuple[Path, Answer, Planned, History]:
    """A recorded answer that the trial is part of, with the plan and the journal it rests on.

    The study that ran the trial comes first, then others that share it. An answer without its
    journal, as a study may ship, is passed over: nothing there says what it was worked out from.

    Returns:
        the folder, the answer, how its study was planned, and the history in that folder.

    Raises:
        NotJudgedError: if there is none, naming where it was looked for and what was there.
    """
    plans = recorded.history.planned.items()
    sharing = [name for name, p in plans if any(t.key == recorded.key for t in p[-1].trials)]
    looked: dict[Path, str] = {}
    for study in dict.fromkeys([recorded.study, *sorted(sharing)]):
        for folder in dict.fromkeys([*recorded.places.journals, workspace.study(study) / RESULTS]):
            answer = _answer_in(folder)
            if answer is None or answer.study != study:
                looked.setdefault(
                    folder, f"no {ANSWER}" if answer is None else f"of {answer.study}"
                )
                continue
            history = History.read([folder])
            planned = history.latest_plan(study)
            if planned is None:
                looked[folder] = f"an {ANSWER} without the journal it rests on"
            elif not _is_of(answer, planned):
                looked[folder] = (
                    f"an {ANSWER} of a study file that was edited since the last run: `run` "
                    "records it"
                )
            else:
                return folder, answer, planned, history
    places = "; ".join(f"{folder} ({what})" for folder, what in looked.items())
    raise NotJudgedError(
        f"no recorded answer of study {recorded.study!r} to compare with. Looked in {places}"
    )


def _is_of(answer: Answer, planned: Planned) -> bool:
    """Whether an answer is about the trials of a plan, under the names that they have there."""
    keys = {(r.arm, n): key for r in answer.arms if r.kind == "arm" for n, key in r.keys.items()}
    trials = [t for t in planned.trials if t.kind == "trial"]
    return keys == {(t.arm, t.replicate): t.key for t in trials}


def _answer_in(folder: Path) -> Answer | None:
    file = folder / ANSWER
    if not file.is_file():
        return None
    try:
        return Answer.model_validate_json(file.read_bytes())
    except ValidationError as error:
        raise NotJudgedError(f"{file} cannot be read: {error.errors()[0]['msg']}") from error


def _beside(then: Answer, now: Answer, contrast: str) -> tuple[list[Compared], list[str]]:
    """Numbers of declared verdicts and of the arms' table; verdicts that are another now.

    Where the answer was made by other rules than today's, only the means of the arms' table.
    """
    if then.rules != now.rules:
        return list(_cells(then, now, ("mean",))), []
    before = {v.id: v for v in then.verdicts if contrast == v.id or (v.planned and not contrast)}
    after = {v.id: v for v in now.verdicts}
    changed = [
        f"{name}: {v.verdict} recorded, {after[name].verdict if name in after else 'gone'} now"
        for name, v in before.items()
        if name not in after or after[name].verdict != v.verdict
    ]
    values = [
        value for name, v in before.items() if name in after for value in _verdict(v, after[name])
    ]
    if not contrast:
        values += _cells(then, now, ("mean", "lo", "hi"))
    return values, changed


def _verdict(then: Verdict, now: Verdict) -> Iterator[Compared]:
    for name in NUMBERS if then.n or now.n else ():
        yield from _known(f"{then.id} {name}", getattr(then, name), getattr(now, name))
    for part in ("spread", "narrow"):
        before, after = getattr(then, part), getattr(now, part)
        for name, value in (before or after).model_dump().items() if before or after else ():
            other = getattr(after, name, None)
            if not isinstance(value, str):
                yield from _known(f"{then.id} {part} {name}", getattr(before, name, None), other)
    for replicate, value in then.per_replicate.items():
        yield from _known(f"{then.id} r{replicate}", value, now.per_replicate.get(replicate))


def _cells(then: Answer, now: Answer, names: Sequence[str]) -> Iterator[Compared]:
    rows = {(row.kind, row.arm): row for row in now.arms}
    for row in then.arms:
        again = rows.get((row.kind, row.arm))
        for metric, cell in row.cells.items():
            other = again.cells.get(metric) if again is not None else None
            for name in names:
                now_value = getattr(other, name) if other is not None else None
                yield from _known(f"{row.arm} {metric} {name}", getattr(cell, name), now_value)


def _known(name: str, then: float | None, now: float | None) -> Iterator[Compared]:
    """The comparison; nothing where there is no number on either side to be equal."""
    if then is not None or now is not None:
        yield _compared(name, then, now)


def _compared(name: str, then: float | None, now: float | None, step: int = 0) -> Compared:
    return Compared(
        step=step, metric=name, recorded=then, now=now, equal=then == now, measured=now is not None
    )


def _from_items(
    recorded: Recorded, subject: Subject | None, workspace: Workspace
) -> tuple[list[Compared], list[str]]:
    """The trial's numbers from its stored items and features, if the subject knows how."""
    again = getattr(subject, "recompute", None)
    measured = recorded.values()
    if again is None:
        return [], [f"subject {name_of(recorded.subject)} recomputes no numbers from items"]
    if recorded.folder is None or not measured:
        return [], ["the trial's stored items are not here"]
    last = measured[-1]
    try:
        numbers: Mapping[str, float] = again(
            recorded.folder,
            last.step,
            recorded.trial.recipe,
            recorded.measurement.protocol,
            workspace.cache,
        )
    except (OSError, ValueError) as error:
        return [], [f"the trial's stored items are not here: {error}"]
    except Exception as error:  # a subject may raise anything
        name = name_of(recorded.subject)
        return [], [
            f"subject {name} does not read the trial's stored items: {exception_text(error)}"
        ]
    return [
        _compared(name, last.metrics[name], value, last.step)
        for name, value in sorted(numbers.items())
        if name in last.metrics
    ], []
