"""The confound guard: what else than the declared factors differs between compared trials."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from harness.analysis.observed import contributing
from harness.contract import Fingerprints
from harness.journal.code import changed, differing, names_in_words
from harness.journal.history import Attempt, History
from harness.journal.states import OVER
from harness.journal.trial import is_of_schema_1
from harness.planning.plan import INCOMPARABLE, Plan

MOST = 5
"""Files named, and definitions of each."""


@dataclass(frozen=True)
class _Trial:
    key: str
    attempts: tuple[Attempt, ...]

    @property
    def data(self) -> str:
        return self.attempts[0].opened.trial.data

    def codes(self) -> tuple[str, ...]:
        return tuple(a.opened.code for a in self.attempts)

    def files(self) -> dict[str, frozenset[str]]:
        """Source file to its digests over the attempts that made the result."""
        digests_of: dict[str, set[str]] = {}
        for attempt in self.attempts:
            for name, digest in attempt.opened.code_files.items():
                digests_of.setdefault(name, set()).add(digest)
        return {name: frozenset(digests) for name, digests in digests_of.items()}

    def listed(self) -> bool:
        """Whether the files of every attempt are known."""
        return all(a.opened.code_files for a in self.attempts)

    def devices(self) -> tuple[str, ...]:
        return tuple(sorted({a.opened.device for a in self.attempts if a.opened.device}))


def _gather(history: History, keys: Iterable[str], protocol: str) -> list[_Trial]:
    trials = []
    for key in keys:
        record = history.trials.get(key)
        attempts = contributing(record, protocol) if record else []
        if attempts:
            trials.append(_Trial(key, tuple(attempts)))
    return trials


def confounds(history: History, keys: Iterable[str], protocol: str) -> list[str]:
    """One sentence per thing that differs: code (naming files), device model, package versions."""
    trials = _gather(history, keys, protocol)
    sentences = []
    codes = Counter(t.codes() for t in trials)
    different = list({t.codes(): t for t in trials}.values())
    files = differing(t.files() for t in different)
    if files or (len(codes) > 1 and not all(t.listed() for t in different)):
        where = f" ({names_in_words(files, MOST)})" if files else ""
        sentences.append(f"code differs between trials{where}: {_counts(codes)}")
    devices = Counter(t.devices() for t in trials)
    if len(devices) > 1:
        sentences.append(f"device models differ between trials: {_counts(devices)}")
    versions = _versions(a for t in trials for a in t.attempts)
    if versions:
        sentences.append(f"environments differ between trials: {'; '.join(versions)}")
    return sentences


def beside(plan: Plan, history: History, trials: Iterable[str]) -> list[str]:
    """What else differs between the trials of one contrast: data, and the cycle measured last.

    Args:
        plan: the plan, for the data that the files stand for now.
        history: where the trials are recorded.
        trials: keys of the compared trials.
    """
    protocol = plan.fingerprints.protocol
    today = _today(plan)
    digests: dict[str, Counter[str]] = {}
    old: Counter[bool] = Counter()
    steps: Counter[int] = Counter()
    for trial in _gather(history, trials, protocol):
        now = today[trial.key].data
        digests.setdefault(now, Counter())[trial.data] += 1
        old[trial.data != now] += 1
        record = history.trials[trial.key]
        # One that diverged has no part in the comparison, wherever it was measured last.
        measured = record.measured(protocol) if record.state == "done" else []
        steps.update([measured[-1].step] if measured else [])
    sentences = _of_earlier_versions(plan, trials)
    # data may differ by arm and replicate, as files say: what is one now must have been one then
    if any(len(then) > 1 for then in digests.values()) or len(old) > 1:
        listed = sum(digests.values(), Counter[str]())
        sentences.append(
            f"data differs between trials: {_counts(Counter({(d,): n for d, n in listed.items()}))}"
        )
    if len(steps) > 1:
        counted = ", ".join(f"{step} ({count} trials)" for step, count in sorted(steps.items()))
        sentences.append(f"measured at different cycles: {counted}")
    return sentences


def _of_earlier_versions(plan: Plan, trials: Iterable[str]) -> list[str]:
    """Their code digests were made another way: the plan's word stands in for comparing them."""
    compared = set(trials)
    old = [t for t in plan.trials if t.trial.key in compared and is_of_schema_1(t.trial.key)]
    blind = sum(t.incomparable for t in old)
    changed = [t for t in old if t.state == "stale"]
    sentences = []
    if blind:
        sentences.append(
            f"code not comparable: {blind} of {len(compared)} results are {INCOMPARABLE}"
        )
    if changed and len(changed) < len(compared):
        why = "; ".join(sorted({t.why for t in changed}))
        sentences.append(f"code differs between trials: {len(changed)} of {len(compared)} ({why})")
    return sentences


def _today(plan: Plan) -> dict[str, Fingerprints]:
    """Key -> what the files stand for now: data per arm and replicate, code per arm."""
    return {t.trial.key: t.fingerprints or plan.fingerprints for t in plan.trials}


def _counts(counter: Counter[tuple[str, ...]]) -> str:
    parts = []
    for names, count in sorted(counter.items()):
        # Digests are cut, names of devices are not.
        label = " + ".join(n[:8] if len(n) >= 32 else n for n in names) or "not recorded"
        parts.append(f"{label} ({count} trial{'s' if count > 1 else ''})")
    return ", ".join(parts)


def _versions(attempts: Iterable[Attempt], most: int = 6) -> list[str]:
    environments = [a.opened.environment for a in attempts if a.opened.environment]
    names = sorted({name for environment in environments for name in environment})
    differing_names = []
    for name in names:
        versions = sorted({environment.get(name, "absent") for environment in environments})
        if len(versions) > 1:
            differing_names.append(f"{name} {' / '.join(versions)}")
    return differing_names[:most] + (
        [f"and {len(differing_names) - most} more"] if len(differing_names) > most else []
    )


def changes_since(plan: Plan, history: History) -> list[str]:
    """Warnings about results that today's files would not make, or that were measured otherwise."""
    today = _today(plan)
    now = plan.fingerprints
    trials = _gather(history, today, now.protocol)
    warnings = []
    alike = {t.trial.key: t.code for t in plan.trials if t.state in ("reuse", "measure")}
    old = [
        t
        for t in trials
        if any(code not in (today[t.key].code, alike.get(t.key)) for code in t.codes())
    ]
    if old:
        pairs = {
            (a.opened.code, today[t.key].code): (a.opened.code_files, today[t.key].code_files)
            for t in old
            for a in t.attempts
            if a.opened.code_files and not is_of_schema_1(t.key)  # these list by another method
        }
        names = sorted({name for then, now in pairs.values() for name in changed(then, now)})
        keys = {t.key for t in old if is_of_schema_1(t.key)}
        why = {t.why for t in plan.trials if t.trial.key in keys and t.state == "stale"}
        listed = "; ".join([*([names_in_words(names, MOST)] if names else []), *sorted(why)])
        where = f" ({listed})" if listed else ""
        warnings.append(
            f"{len(old)} of {len(trials)} results were made by other code than the files now{where}"
        )
    counted = {t.trial.key for t in plan.trials if t.trial.kind == "trial"}
    other = [t for t in trials if t.key in counted and t.data != today[t.key].data]
    if other:
        warnings.append(
            f"{len(other)} of {len(trials)} results were trained on other data than the files now"
        )
    otherwise = [
        t for t in trials if not history.trials[t.key].measured(now.protocol) and _is_done(t)
    ]
    if otherwise:
        warnings.append(
            f"{len(otherwise)} trained trials are not measured under this protocol "
            f"({plan.protocol}, {now.protocol[:12]}) and stay out of every table: `run` "
            "measures their kept students"
        )
    return warnings


def known_before(plan: Plan, history: History) -> list[str]:
    """Planned contrasts whose trials had results before the study was first run.

    Studies share trials by key: one that is renamed, or repeats another's arms, declares with the
    numbers at hand. That is no fault, but planned is then not the same as declared beforehand.
    """
    if plan.frozen_at is None:
        return []
    before: dict[str, set[int]] = {}
    for planned in plan.trials:
        trial, record = planned.trial, history.trials.get(planned.trial.key)
        closed = [a.closed for a in record.ordered if a.closed] if record else []
        # Told, and planned all the same: sharing trials is honest work, too, and only a reader who
        # knows the authors can tell it from trying until something comes out.
        ends = [c.at for c in closed if c.state in OVER]
        if trial.kind == "trial" and min(ends, default=math.inf) < plan.frozen_at:
            before.setdefault(trial.arm, set()).add(trial.replicate)
    warnings = []
    for contrast in plan.contrasts:
        sides = [before.get(arm, set()) for arm in contrast.arms()]
        count = len(set.intersection(*sides)) if sides else 0
        if count and not contrast.amended:
            warnings.append(
                f"contrast {contrast.id} was declared when {count} of {plan.replicates} of its "
                "replicates had results: they are shared with a study that ran before this one"
            )
    return warnings


def _is_done(trial: _Trial) -> bool:
    closed = trial.attempts[0].closed
    return closed is not None and closed.state == "done"
