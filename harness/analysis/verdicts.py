"""The declared contrasts, judged: the family's step-down, notes, and one sentence each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis import guard, sentences
from harness.analysis.estimated_contrasts import EstimatedContrast, first_of
from harness.analysis.explore import Explored, about, method_of, spread_of
from harness.analysis.inference import Estimated, OverPrompts
from harness.analysis.looks import members
from harness.analysis.model import Narrow, Part, Verdict
from harness.analysis.observed import Observed
from harness.analysis.sizes import gap_of, sizes_of
from harness.analysis.step_down import Decided, step_down
from harness.journal.history import History
from harness.journal.states import ENDED, ENDED_WITHOUT
from harness.planning.detectable import fitted_note
from harness.planning.plan import Plan
from harness.study.planned_contrast import PlannedContrast

MOST_MISSING = 6
"""Arms without all their replicates that a note names before the rest is only counted."""


def judged(
    estimates: Sequence[EstimatedContrast],
    explored: Explored,
    plan: Plan,
    history: History,
    observed: Observed,
) -> list[Verdict]:
    """Verdicts: on planned contrasts by the step-down, on exploratory ones with the others.

    The family is that of the first run: a contrast that was taken out since still counts.
    """
    planned = [given for given in estimates if not given.amended]
    family = max(plan.frozen_contrasts or 0, len(planned))
    wide = iter(step_down(members(plan, planned), plan.alpha, family))
    narrow = iter(step_down(members(plan, planned, narrow=True), plan.alpha, family))
    loose = iter(explored.declared)
    verdicts = []
    for given in estimates:
        if given.amended:
            adjusted, rate = next(loose)
            pair = Decided(given.wide.at(rate), 1), Decided(given.narrow.at(rate), 1)
            verdicts.append(
                _Telling(plan, history, observed, given, *pair, rate, adjusted).verdict()
            )
        else:
            pair = next(wide), next(narrow)
            rate = _level(plan, given, plan.alpha / pair[0].left)
            verdicts.append(_Telling(plan, history, observed, given, *pair, rate, None).verdict())
    return verdicts


def _level(plan: Plan, given: EstimatedContrast, share: float) -> float:
    """Error rate of a planned interval: its share of alpha, or what its look may spend."""
    adaptive = plan.adaptive
    if adaptive is None or adaptive.spending is None or given.amended:
        return share
    return adaptive.spending.level(given.replicates, share)


OTHER_NUMBERS = "its numbers are others than the look after {} saw"
"""How the note begins that a look decided by other numbers; a bundle's verifier reads it."""


class _Telling:
    """One verdict from an estimated contrast that its family decided."""

    def __init__(
        self,
        plan: Plan,
        history: History,
        observed: Observed,
        given: EstimatedContrast,
        wide: Decided,
        narrow: Decided,
        rate: float,
        adjusted: float | None,
    ) -> None:
        self._plan, self._history, self._observed = plan, history, observed
        self._given, self._wide, self._narrow = given, wide, narrow
        self._rate, self._adjusted = rate, adjusted

    def verdict(self) -> Verdict:
        """The verdict with its sentence and notes."""
        given, reading = self._given, self._wide.reading
        contrast, found = given.contrast, self._found(self._wide)
        seeds = found.seeds if found else None
        prompts = found.prompts if found else self._prompts_of_best()
        p = given.wide.p
        verdict, reason = reading.verdict, self._reason()
        arms = contrast.arms()
        sentence: dict[str, Any] = {
            "kind": contrast.kind,
            "a": given.a,
            "b": given.b,
            "metric": contrast.metric,
            "unit": given.spec.unit,
            "difference": found.difference if found else None,
            "n": seeds.n if seeds else self._n_of_best(),
            "n_planned": given.replicates,
            "margin": contrast.margin,
            "about": about(self._any_found()),
            "scope": self._plan.scope,
            "best": reading.members,
            "step": reading.step,
            "levels": len(contrast.parts),
            "reaches": _reaches(contrast),
        }
        expected = sentences.expectation(
            contrast.expect, verdict, found.difference if found else None
        )
        p_adjusted, adjustment = self._p_adjusted(p, self._wide.left)
        words = sentences.sentence(
            verdict,
            **sentence,
            lo=reading.lo,
            hi=reading.hi,
            level=self._level_told(self._rate),
            n_prompts=prompts.n if prompts else 0,
            p_adjusted=p_adjusted,
            adjustment=adjustment,
            as_expected=expected,
            reason=reason,
        )
        return Verdict(
            id=given.id,
            claim=contrast.claim,
            kind=contrast.kind,
            metric=contrast.metric,
            about=sentence["about"],
            planned=not given.amended,
            n=sentence["n"],
            n_planned=given.replicates,
            n_prompts=prompts.n if prompts else 0,
            difference=sentence["difference"],
            lo=reading.lo,
            hi=reading.hi,
            level=self._level_told(self._rate),
            left=self._wide.left,
            p=p,
            p_adjusted=p_adjusted,
            margin=contrast.margin,
            method=self._method(),
            spread=spread_of(found),
            narrow=self._narrower(sentence) if prompts and not self._alone() else None,
            verdict=verdict,
            expectation=expected,
            words=words,
            notes=self._notes(reason, arms),
            per_replicate=dict(seeds.per_replicate) if seeds else {},
            a=given.a,
            b=given.b,
            worst_case=verdict if reading.vetoed else None,
            best=list(reading.members),
            step=reading.step,
            sizes=self._sizes(),
            parts=list(given.parts),
            keys=self._observed.keys(arms),
            amended=given.amended,
            aliases=contrast.aliases,
        )

    def _level_told(self, rate: float) -> float:
        """Of the interval told at an error rate; that of a collapse is made of one-sided bounds."""
        earlier = len(self._given.by_step)
        return 1 - min(1.0, 2 * rate / earlier if earlier else rate)

    def _found(self, decided: Decided) -> Estimated | None:
        """The estimate that the verdict's figures are of."""
        step = decided.reading.step
        return self._given.found if step is None else self._given.by_step.get(step)

    def _sizes(self) -> dict[str, float]:
        contrast = self._given.contrast
        rows = self._observed.of(contrast.metric, contrast.arms())
        values = {arm: first_of(row, self._given.replicates) for arm, row in rows.items()}
        found = self._given.found
        measured = self._observed.values.get(contrast.metric, {})
        gap = gap_of(self._plan, contrast.arms(), measured)
        return sizes_of(contrast.kind, found, values, contrast.cells(), self._given.spec, gap)

    def _any_found(self) -> Estimated | None:
        """An estimate that says what the claim is about."""
        several = [*self._given.by_step.values(), *self._pairs_of_best()]
        return self._given.found or next(iter(several), None)

    def _alone(self) -> bool:
        """Whether the claim is about these checkpoints: there is none narrower."""
        return about(self._any_found()) == "checkpoints"

    def _pairs_of_best(self) -> list[Estimated]:
        return list(self._given.by_pair.values())

    def _n_of_best(self) -> int:
        return min((found.seeds.n for found in self._pairs_of_best()), default=0)

    def _prompts_of_best(self) -> OverPrompts | None:
        spreads = [found.prompts for found in self._pairs_of_best() if found.prompts]
        return spreads[0] if spreads and len(spreads) == len(self._pairs_of_best()) else None

    def _p_adjusted(self, p: float | None, left: int) -> tuple[float | None, str]:
        if self._given.amended:
            return self._adjusted, "after Benjamini-Hochberg, exploratory"
        adjustments = [f"as one of {left}"] if left > 1 else []
        adaptive = self._plan.adaptive
        if adaptive is not None and adaptive.spending is not None and adaptive.looks:
            adjustments.append("corrected for looking")
            p = None if p is None else adaptive.spending.alpha_of(self._given.replicates, p)
        return None if p is None else min(1.0, left * p), ", ".join(adjustments)

    def _narrower(self, sentence: Mapping[str, Any]) -> Narrow:
        """The claim on exactly these prompts."""
        reading, left = self._narrow.reading, self._narrow.left
        p = self._given.narrow.p
        adjusted, adjustment = self._p_adjusted(p, left)
        if self._given.amended:  # adjusted with the others is the wide p alone
            adjusted = p
            adjustment = "not adjusted"
        own = _level(self._plan, self._given, self._plan.alpha / left)
        rate = self._rate if self._given.amended else own
        found = self._found(self._narrow)
        difference = found.difference if found else None
        narrow_sentence = {**sentence, "difference": difference, "best": reading.members}
        narrow_sentence["step"] = reading.step
        words = sentences.sentence(
            reading.verdict,
            **narrow_sentence,
            lo=reading.lo,
            hi=reading.hi,
            level=self._level_told(rate),
            n_prompts=0,
            p_adjusted=adjusted,
            adjustment=adjustment,
            as_expected="",
        )
        return Narrow(
            lo=reading.lo,
            hi=reading.hi,
            level=self._level_told(rate),
            p=p,
            p_adjusted=adjusted,
            verdict=reading.verdict,
            words=words,
        )

    def _reason(self) -> str:
        """Why nothing was decided, where the figures do not say it."""
        given, reading = self._given, self._wide.reading
        if reading.verdict != "undecided":
            return ""
        if not given.contrast.arms():
            return "no cell of the design holds both sides"
        if reading.vetoed:
            divergences = ", ".join(f"{arm} {len(r)} times" for arm, r in given.diverged.items())
            return f"it would be {reading.vetoed}, but the winner diverged: {divergences}"
        found = self._found(self._wide) or next(iter(given.by_step.values()), None)
        return "" if found is None or found.judged else found.why

    def _method(self) -> str:
        given, found = self._given, self._found(self._wide)
        if found is None:
            some = self._pairs_of_best()
            each = len(given.contrast.parts) - 1
            return f"one-sided, {each} to a level; {method_of(some[0])}" if some else "none"
        return method_of(found)

    def _moved(self) -> list[str]:
        """That its numbers are others than those that its last look saw.

        A trial that failed is run again by the next run, and its value counts from then on.
        """
        adaptive, given = self._plan.adaptive, self._given
        last = adaptive.last_said(given.id) if adaptive is not None and not given.amended else None
        found = self._found(self._wide)
        if last is None or last[1].is_of(given.wide.p, found.difference if found else None):
            return []
        n, outcome = last
        return [
            f"{OTHER_NUMBERS.format(n)} ({_p_and_difference(outcome.p, outcome.difference)}; "
            f"{outcome.told}): with the trials that ended or were measured since it is "
            f"{self._wide.reading.verdict}"
        ]

    def _parts_told(self) -> list[str]:
        """The further estimates of its kind, and the shape of a trend."""
        given, alpha = self._given, self._plan.alpha
        parts = given.parts
        each = f"each at {sentences.percent(1 - alpha)}, not adjusted"
        if sides := [part for part in parts if part.name in ("first", "second")]:
            named = zip((given.a, given.b), sides, strict=False)
            told = [f"{name} {_part_words(part)}" for name, part in named]
            return [f"by themselves, {each}: {'; '.join(told)}"]
        shape = sentences.shape(given.found.difference if given.found else None, parts)
        notes = [shape] if shape else []
        for name, label in (("quadratic", "bend"), ("neighbour", "steps")):
            words = [f"{p.level} {_part_words(p)}".strip() for p in parts if p.name == name]
            notes += [f"{label}, {each}: {'; '.join(words)}"] if words else []
        return notes

    def _notes(self, reason: str, arms: Sequence[str]) -> list[str]:
        given, contrast, plan = self._given, self._given.contrast, self._plan
        found = self._found(self._wide)
        notes = [f"exploratory: {given.amended}"] if given.amended else []
        if contrast.metric not in self._observed.values:
            notes.append(f"{contrast.metric} was never measured")
        if found and found.seeds.n and not found.judged and found.why != reason:
            notes.append(found.why)
        if found and found.seeds.unseen:
            notes.append(
                f"{found.seeds.unseen} of {len(contrast.cells())} cells have no pair and are no "
                "part of the difference"
            )
        if found and found.seeds.once:
            notes.append(
                f"{found.seeds.once} cells have a pair in one replicate only, no part of the "
                "difference: nothing says how much they vary"
            )
        if found and found.judged and found.prompts is None:
            notes.append(f"on exactly these prompts: {found.why_not_prompts}")
        if found and found.prompts and found.prompts.dropped:
            notes.append(f"{found.prompts.dropped} prompts that some trial lacks are left out")
        notes += self._parts_told()
        notes += missing_note(self._observed, arms, given.replicates)
        notes += _look_note(plan, given)
        notes += self._moved()
        interim = _not_begun(given.replicates, self._observed, arms)
        if interim and (found is None or found.seeds.n):
            notes.append(f"interim: {interim} of {given.replicates} replicates have not run")
        better = given.spec.higher_is_better
        if better is None and self._wide.reading.leaves:
            notes.append(f"{contrast.metric} has no better direction, so nothing improves or harms")
        if contrast.fitted:
            notes.append(fitted_note(contrast))
        keys = self._observed.keys(arms)
        notes += [
            *contrast.confounded,
            *guard.confounds(self._history, keys, plan.fingerprints.protocol),
        ]
        compared = [t.key for arm in arms for t in self._observed.trials.get(arm, {}).values()]
        notes += guard.beside(plan, self._history, compared)
        if alone := plan.unpartnered(contrast):
            notes.append(f"arms without a partner, left out: {', '.join(alone)}")
        return notes


def _look_note(plan: Plan, given: EstimatedContrast) -> list[str]:
    """What the looks of a study that runs until decided made of a planned contrast."""
    adaptive = plan.adaptive
    if adaptive is None or given.amended:
        return []
    most = f"at most {adaptive.at_most} replicates"
    if not adaptive.looks:
        return [f"interim: the first look is after {adaptive.first} of {most}"]
    ended = adaptive.ended().get(given.id)
    if ended is None and adaptive.over:
        return [f"no look decided it, the last one after {adaptive.looked} of {most}"]
    if ended is None:
        return [f"interim: open after {adaptive.looked} of {most}"]
    n, state = ended
    how = {
        "decided": "decided",
        "futile": "given up, a difference being out of sight (futile),",
        "prompt-bound": "given up, because no number of replicates decides it on these prompts,",
    }[str(state)]
    return [f"{how} after {n} of {most}; not planned further"]


def _p_and_difference(p: float | None, difference: float | None) -> str:
    words = [sentences.p_value(p)]
    if difference is not None:
        places = sentences.decimals(None, difference)
        words.insert(0, f"difference {sentences.number(difference, places, signed=True)}")
    return ", ".join(words)


def _reaches(contrast: PlannedContrast) -> str:
    if contrast.threshold is None:
        return ""
    return f"{'loses' if contrast.falls else 'reaches'} {contrast.threshold:g}"


def _part_words(part: Part) -> str:
    width = (part.hi - part.lo) / 2 if part.lo is not None and part.hi is not None else None
    places = sentences.decimals(width, part.difference or 0.0)
    middle = sentences.number(part.difference, places, signed=True)
    if part.lo is None:
        return f"{middle}, no interval"
    lo, hi = (sentences.number(v, places, signed=True) for v in (part.lo, part.hi))
    return f"{middle} ({lo} to {hi})"


def missing_note(observed: Observed, arms: Sequence[str], replicates: int) -> list[str]:
    """Who is missing, by arm, with the reasons; crashes and divergences apart."""
    notes = []
    for state in ENDED_WITHOUT:
        listed, total = [], 0
        for arm in arms:
            states = observed.states.get(arm, {})
            ended = [r for r in range(replicates) if states.get(r) == state]
            if ended:
                total += len(ended)
                listed.append(f"{arm} ({', '.join(f'r{r}' for r in ended)})")
        if not listed:
            continue
        why = Counter(
            observed.reasons.get(arm, {}).get(r, "")
            for arm in arms
            for r in range(replicates)
            if observed.states.get(arm, {}).get(r) == state
        ).most_common(1)[0][0]
        more = f" and {len(listed) - MOST_MISSING} more arms" if len(listed) > MOST_MISSING else ""
        reason = f": {sentences.shortened(why)}" if why else ""
        notes.append(
            f"{total} trial{'s' if total > 1 else ''} {state}, without a part in this: "
            f"{', '.join(listed[:MOST_MISSING])}{more}{reason}"
        )
    return notes


def _not_begun(replicates: int, observed: Observed, arms: Sequence[str]) -> int:
    """Replicates of which no arm has ended; none where there is no arm to wait for."""
    return sum(
        all(observed.states.get(arm, {}).get(r, "pending") not in ENDED for arm in arms)
        for r in range(replicates if arms else 0)
    )
