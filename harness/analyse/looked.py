"""Planned contrasts as looks read them: each on the replicates of its own last look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.analyse.cases import Case, cases_of
from harness.analyse.looks import AtLook, Looked, outcomes
from harness.analyse.observed import observe, order_metrics
from harness.analyse.step_down import Reading
from harness.contract import MetricSpec
from harness.journal import History
from harness.plan import Plan
from harness.prompt_values import PromptTables
from harness.records import Outcome

if TYPE_CHECKING:
    from harness.study import Study


@dataclass(frozen=True)
class BeforeLooks:
    """A member that no look has read yet: it decides nothing."""

    member: AtLook

    def at(self, alpha: float) -> Reading:
        """Its interval at the level of the first look."""
        found = self.member.at(alpha)
        return Reading("undecided", found.lo, found.hi)

    @property
    def p(self) -> float | None:
        """Corrected for looking, as at the first look."""
        return self.member.p


def members(plan: Plan, cases: Sequence[Case], *, narrow: bool = False) -> list[Looked]:
    """The members of planned cases for the step-down: at the levels of their looks, if any.

    Args:
        plan: says whether the study runs until decided, and the looks there were.
        cases: planned ones.
        narrow: those of the claim on exactly these prompts.
    """
    sides = [case.narrow if narrow else case.wide for case in cases]
    adaptive = plan.adaptive
    if adaptive is None or adaptive.spending is None:
        return list(sides)
    read = [
        AtLook(side, case.replicates, adaptive.spending)
        for side, case in zip(sides, cases, strict=True)
    ]
    return list(read) if adaptive.looks else [BeforeLooks(member) for member in read]


def look_at(
    plan: Plan,
    study: Study,
    history: History,
    metrics: Mapping[str, MetricSpec],
    replicates: int,
) -> dict[str, Outcome]:
    """What a look after so many replicates says of every planned contrast.

    Args:
        plan: of a study that runs until decided, its levels frozen.
        study: the study.
        history: as the study reads it.
        metrics: the subject's.
        replicates: of the look; contrasts that ended before are read on those of their own.
    """
    adaptive = plan.adaptive
    assert adaptive is not None
    assert adaptive.spending is not None
    observed = observe(plan, history, PromptTables(history))
    cases = cases_of(plan, study, observed, order_metrics(metrics, observed), replicates)
    planned = [case for case in cases if not case.amended]
    read = {c.id: AtLook(c.wide, c.replicates, adaptive.spending) for c in planned}
    family = max(plan.frozen_contrasts or 0, len(planned))
    stopped = {contrast: state for contrast, (_, state) in adaptive.ended().items()}
    return outcomes(read, plan.alpha, family, stopped)
