"""A study opened for a command, with its plan and what its records answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

from harness.planning.reuse import as_read_by

if TYPE_CHECKING:
    from harness.analysis.model import Answer
    from harness.analysis.observed import PromptReader
    from harness.contract import Subject
    from harness.journal.history import History
    from harness.journal.records import LookOutcome
    from harness.journal.workspace import Workspace
    from harness.planning.plan import Plan
    from harness.study.model import Study
    from harness.study.opened_study import OpenedStudy


@dataclass(frozen=True, eq=False)
class AnsweredStudy:
    """What commands that read answers hand down instead of its parts."""

    opened: OpenedStudy
    plan: Plan
    history: History
    """As the plan reads it: of each trial the results of one code, see `as_read_by`."""
    by_prompt: PromptReader | None = None
    """Where values by prompt are read; None: those that the history's records name."""

    @classmethod
    def of(cls, opened: OpenedStudy, plan: Plan | None = None) -> Self:
        """Of an opened study: planned now, or as it was planned, with the history last read."""
        from harness.planning.make import make_plan

        plan = plan or make_plan(opened)
        return cls(opened, plan, as_read_by(plan, opened.history))

    @property
    def study(self) -> Study:
        """The study as its file says it."""
        return self.opened.study

    @property
    def subject(self) -> Subject:
        """What the study is about."""
        return self.opened.subject

    @property
    def workspace(self) -> Workspace:
        """Where it is recorded."""
        return self.opened.workspace

    @cached_property
    def answer(self) -> Answer:
        """The study's answer by this history, worked out once."""
        from harness.analysis.answer import answer

        metrics = self.subject.metrics
        return answer(self.plan, self.study, self.history, metrics, by_prompt=self.by_prompt)

    def look(self, replicates: int) -> dict[str, LookOutcome]:
        """What a look after so many replicates says of every planned contrast.

        The study runs until decided, its levels frozen. Contrasts that ended before are read on the
        replicates of their own last look.
        """
        from harness.analysis.estimated_contrasts import estimated_contrasts
        from harness.analysis.looks import AtLook, outcomes
        from harness.analysis.observed import observe, order_metrics
        from harness.journal.prompt_values import PromptTables

        plan, adaptive = self.plan, self.plan.adaptive
        assert adaptive is not None
        assert adaptive.spending is not None
        observed = observe(plan, self.history, self.by_prompt or PromptTables(self.history))
        specs = order_metrics(self.subject.metrics, observed)
        estimates = estimated_contrasts(plan, self.study, observed, specs, replicates)
        planned = [one for one in estimates if not one.amended]
        at_look = {c.id: AtLook(c.wide, c.replicates, adaptive.spending) for c in planned}
        family = max(plan.frozen_contrasts or 0, len(planned))
        stopped = {contrast: state for contrast, (_, state) in adaptive.ended().items()}
        return outcomes(at_look, plan.alpha, family, stopped)

    def answered_by(self, answer: Answer) -> Self:
        """The same with an answer that is there already."""
        copy = replace(self)
        copy.__dict__["answer"] = answer
        return copy
