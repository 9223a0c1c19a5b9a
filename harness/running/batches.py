"""Looks between replicates: a driver's batches of trials, each given out when a look asks for it.

A look is taken when nothing of its replicates is left to run, recorded before anything else starts,
and never taken again: after any interruption the next run goes on behind the last one recorded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from harness.journal.history import History
from harness.journal.records import Look, LookOutcome
from harness.journal.states import OVER
from harness.journal.writer import Journal
from harness.planning.plan import Adaptive, Plan, PlannedTrial
from harness.running.display import Display
from harness.running.plan_record import record_plan
from harness.study.opened_study import OpenedStudy

WANTED = ("new", "measure", "running")


class AllAtOnce:
    """All that is missing at once: the study has a fixed number of replicates."""

    unfinished = False
    """Whether there is something to do though no trial is missing."""
    more: Callable[[], list[PlannedTrial]] | None = None
    """What comes next, once all that was given out has ended."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.warnings: list[str] = []

    def show(self, display: Display) -> None:
        """There are no looks to tell of."""

    def batch(self, trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
        """All of them."""
        return list(trials)


def batches_of(opened: OpenedStudy, plan: Plan, journal: Journal) -> AllAtOnce | UntilDecided:
    """How a recorded plan is worked through."""
    if plan.adaptive is None:
        return AllAtOnce(plan)
    return UntilDecided(opened, plan, journal)


class UntilDecided(AllAtOnce):
    """Gives out what runs before the next look, and takes it."""

    def __init__(self, opened: OpenedStudy, plan: Plan, journal: Journal) -> None:
        """Take a plan that is recorded, with its levels frozen."""
        super().__init__(plan)
        self.unfinished = not self.adaptive.over
        self.more = self.next
        self._opened = opened
        self._journal = journal
        self._display: Display | None = None
        self._given: set[str] = set()

    def show(self, display: Display) -> None:
        """Tell looks there from now on."""
        self._display = display
        display.looked(self.adaptive, 0, "")

    @property
    def adaptive(self) -> Adaptive:
        """The looks so far."""
        assert self.plan.adaptive is not None
        return self.plan.adaptive

    def batch(self, trials: Sequence[PlannedTrial]) -> list[PlannedTrial]:
        """Of trials to run, those that are wanted before the next look and were not given out."""
        due, over = self.adaptive.due, self.adaptive.over
        due_trials = [
            t
            for t in trials
            if t.state in WANTED
            and t.trial.key not in self._given
            and (
                t.trial.kind == "reference"
                or over
                or (t.trial.kind == "trial" and t.trial.replicate < due)
            )
        ]
        self._given |= {t.trial.key for t in due_trials}
        return due_trials

    def next(self) -> list[PlannedTrial]:
        """Take the looks that are due and give out what they ask for; empty at the end."""
        while not self.warnings:
            if self.adaptive.over:
                return self.batch(self.plan.trials)
            if not self._take():
                break
            if trials := self.batch(self.plan.trials):
                return trials
        return []

    def _take(self) -> bool:
        from harness.analysis.answered_study import AnsweredStudy
        from harness.analysis.looks import needed

        n, before = self.adaptive.due, self.adaptive.ended()
        answered = AnsweredStudy.of(self._opened, self.plan)
        if why := _too_few(self.plan, answered.history, n):
            self.warnings.append(why)
            return False
        contrasts = [c for c in self.plan.contrasts if not c.amended]
        outcomes = answered.look(n)
        open_ = [c for c, outcome in outcomes.items() if outcome.state == "open"]
        last = self.adaptive.at_most
        going = [a.name for a in self.plan.arms if self.adaptive.replicates_of(a.name) == last]
        arms_needed = needed({c.id: c.arms() for c in contrasts}, open_, going)
        over = not open_ or n >= last
        look = Look(
            # Not before the last look, though a clock was set back.
            at=max(time.time(), *(k.at for k in self.adaptive.looks), 0.0),
            replicates=n,
            outcomes={
                c: o for c, o in outcomes.items() if c not in before or _newly(o, before[c][1])
            },
            dropped=[] if over else [arm for arm in going if arm not in arms_needed],
            over=over,
        )
        self._record(look)
        return True

    def _record(self, look: Look) -> None:
        """The look, and the plan without what it ended."""
        adaptive = self.adaptive.model_copy(update={"looks": [*self.adaptive.looks, look]})
        planned_keys = {t.key for t in adaptive.planned([t.trial for t in self.plan.trials])}
        trials = [t for t in self.plan.trials if t.trial.key in planned_keys]
        ended = [t for t in self.plan.trials if t.trial.key not in planned_keys]
        self.plan = self.plan.model_copy(update={"adaptive": adaptive, "trials": trials})
        record_plan(self._opened, self.plan, self._journal, again=True)
        if self._display is not None:
            fewer = sum(t.state in WANTED for t in ended)
            self._display.looked(adaptive, fewer, look_words(look, adaptive))


def _newly(outcome: LookOutcome, before: str) -> bool:
    """Whether a contrast that was given up is decided after all, now that others have left."""
    return outcome.state == "decided" and before in ("futile", "prompt-bound")


def _too_few(plan: Plan, history: History, replicates: int) -> str:
    """Why a look would rest on too little: most of a replicate's trials came to no result."""
    for replicate in range(replicates):
        due = [
            t.trial
            for t in plan.trials
            if t.trial.kind == "trial" and t.trial.replicate == replicate
        ]
        states = [record.state if (record := history.trials.get(t.key)) else "pending" for t in due]
        without = sum(state not in OVER for state in states)
        if 2 * without > len(states):
            return (
                f"the look after {replicates} replicates was not taken: {without} of "
                f"{len(states)} trials of replicate {replicate} came to no result. Mend what "
                "stopped them, then run the same command again."
            )
    return ""


def look_words(look: Look, adaptive: Adaptive) -> str:
    """A look as one line: what it decided, what is open, who goes on no further."""
    groups: dict[str, list[str]] = {}
    for contrast, outcome in look.outcomes.items():
        groups.setdefault(outcome.told, []).append(contrast)
    parts = [f"{', '.join(ids)} {how}" for how, ids in groups.items() if how != "open"]
    if still := groups.get("open"):
        parts.append(f"{'undecided' if look.over else 'open'}: {', '.join(still)}")
    if look.dropped:
        parts.append(f"not planned further: {', '.join(look.dropped)}")
    if look.over:
        parts.append("decided" if not still else "no replicate is left")
    text = "; ".join(parts) or "nothing new"
    return f"look    after {look.replicates} of at most {adaptive.at_most} replicates: {text}"
